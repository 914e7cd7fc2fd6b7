/* Discrete Fourier transforms of any length, in double precision. */
#include "fft.h"

#include <math.h>

#include "ops_impl.h"

#define PI 3.14159265358979323846

static bool is_power_of_two(size_t n)
{
    return (n & (n - 1)) == 0;
}

static kop_complex multiply(kop_complex a, kop_complex b)
{
    return (kop_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

kaena_status kop_fft_plan(kop_call *call, size_t n, kop_fft *out)
{
    kop_fft f = {.n = n, .size = n};
    if (!is_power_of_two(n)) {
        /* Bluestein: a convolution with a chirp, whose length may be a power of two. */
        f.size = 1;
        while (f.size < 2 * n - 1)
            f.size *= 2;
    }
    f.root = kop_alloc(call, f.size, sizeof *f.root);
    if (!f.root)
        return KAENA_RESOURCE_EXHAUSTED;
    for (size_t i = 0; i < f.size; i++) {
        double angle = -2 * PI * (double)i / (double)f.size;
        f.root[i] = (kop_complex){cos(angle), sin(angle)};
    }
    if (f.size != n) {
        f.chirp = kop_alloc(call, n, sizeof *f.chirp);
        f.chirp_image = kop_alloc(call, f.size, sizeof *f.chirp_image);
        f.work = kop_alloc(call, f.size, sizeof *f.work);
        if (!f.chirp || !f.chirp_image || !f.work)
            return KAENA_RESOURCE_EXHAUSTED;
    }
    *out = f;
    if (!f.chirp)
        return KAENA_OK;
    for (size_t i = 0; i < n; i++) {
        /* i * i modulo 2 n, so that the angle stays exact. */
        double angle = -PI * (double)((uint64_t)i * i % (2 * (uint64_t)n)) / (double)n;
        f.chirp[i] = (kop_complex){cos(angle), sin(angle)};
        kop_complex conjugate = {f.chirp[i].re, -f.chirp[i].im};
        f.chirp_image[i] = conjugate;
        if (i > 0)
            f.chirp_image[f.size - i] = conjugate;
    }
    kop_fft power = {.n = f.size, .size = f.size, .root = f.root};
    kop_fft_run(&power, f.chirp_image);
    return KAENA_OK;
}

/* In place, decimation in time. */
static void transform(const kop_fft *f, kop_complex *v)
{
    size_t n = f->size;
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n >> 1;
        for (; j & bit; bit >>= 1)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            kop_complex t = v[i];
            v[i] = v[j];
            v[j] = t;
        }
    }
    for (size_t half = 1; half < n; half *= 2) {
        for (size_t at = 0; at < n; at += 2 * half) {
            for (size_t k = 0; k < half; k++) {
                kop_complex a = v[at + k];
                kop_complex b = multiply(v[at + half + k], f->root[k * (n / (2 * half))]);
                v[at + k] = (kop_complex){a.re + b.re, a.im + b.im};
                v[at + half + k] = (kop_complex){a.re - b.re, a.im - b.im};
            }
        }
    }
}

void kop_fft_run(const kop_fft *f, kop_complex *v)
{
    if (f->size == f->n) {
        transform(f, v);
        return;
    }
    kop_complex *w = f->work;
    for (size_t i = 0; i < f->size; i++)
        w[i] = i < f->n ? multiply(v[i], f->chirp[i]) : (kop_complex){0, 0};
    transform(f, w);
    for (size_t i = 0; i < f->size; i++) {
        w[i] = multiply(w[i], f->chirp_image[i]);
        w[i].im = -w[i].im; /* the inverse transform is the conjugate of that of the conjugate */
    }
    transform(f, w);
    for (size_t i = 0; i < f->n; i++) {
        kop_complex x = {w[i].re / (double)f->size, -w[i].im / (double)f->size};
        v[i] = multiply(x, f->chirp[i]);
    }
}
