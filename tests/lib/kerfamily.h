/* What the tests of the vector kernels' families share: random operands, and the loop over cases.
 */
#ifndef KERFAMILY_H
#define KERFAMILY_H

#include "keract.h"
#include "kerops.h"

static const kaena_dtype floats[] = {KAENA_F32, KAENA_BF16, KAENA_F16};

static inline kaena_dtype any_float(kerops_rng *r)
{
    return floats[kerops_below(r, 3)];
}

/* Rows stay few; columns reach over several vectors, now and then over several blocks. */
static inline void any_count(kerops_rng *r, uint32_t count[4])
{
    for (int d = 0; d < 3; d++)
        count[d] = 1 + kerops_below(r, 4);
    const uint32_t most[] = {20, 70, 150, 1100};
    count[3] = 1 + kerops_below(r, most[kerops_below(r, 20) ? kerops_below(r, 3) : 3]);
}

static inline void any_values(kerops_rng *r, const ker_ap *ap, bool special)
{
    if (special)
        kerops_fill_special(r, ap);
    else
        kerops_fill(r, ap, ap->dtype == KAENA_I32 ? -100 : -4, ap->dtype == KAENA_I32 ? 100 : 4);
}

static inline double element(const ker_ap *ap, const uint32_t i[4])
{
    return kerops_get(ap, i[0], i[1], i[2], i[3]);
}

#define ASSERT_NEAR(ap, i, want, scale, relative, what)                                            \
    cr_assert(kerops_near((ap)->dtype, element((ap), (i)), (want), (scale), (relative)),           \
              "%s: %.9g, not %.9g at [%u][%u][%u][%u] of %s", (what), element((ap), (i)), (want),  \
              (i)[0], (i)[1], (i)[2], (i)[3], kaena_dtype_name((ap)->dtype))

/* |n| random cases, every other one with special values. */
#define FAMILY_TEST(suite, family, n)                                                              \
    KTEST(suite, family)                                                                           \
    {                                                                                              \
        kerops_rng rng = {20260101};                                                               \
        kerops_mode();                                                                             \
        for (int i = 0; i < (n); i++)                                                              \
            check_##family(&rng, i % 2);                                                           \
    }

#endif
