/* UTF-8: protobuf strings must be it, and other languages' parsers refuse a whole message that is
 * not. */
#ifndef RPC_UTF8_H
#define RPC_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed sequence at the start of [p, p + n), 1 to 4; 0 when there is none. */
static inline size_t krpc_utf8_step(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool surrogate = p[0] == 0xed && p[1] > 0x9f;
    bool past_end = p[0] == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || past_end ? 0 : len;
}

static inline bool krpc_utf8_valid(const uint8_t *p, size_t n)
{
    while (n) {
        size_t step = krpc_utf8_step(p, n);
        if (!step)
            return false;
        p += step;
        n -= step;
    }
    return true;
}

/* Makes a terminated string of ours fit to travel: what is not UTF-8 (a cut sequence, a client's
 * own bytes) becomes '?'. */
static inline void krpc_utf8_scrub(char *s)
{
    uint8_t *p = (uint8_t *)s;
    size_t n = 0;
    while (p[n])
        n++;
    while (n) {
        size_t step = krpc_utf8_step(p, n);
        if (!step) {
            *p = '?';
            step = 1;
        }
        p += step;
        n -= step;
    }
}

#endif
