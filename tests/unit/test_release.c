/* Constants that nobody uses any more give their pages back; the others keep every byte. */
#include <string.h>

#include "ktest.h"
#include "release.h"

#define N (1 << 20) /* elements: 4 MiB */

static const char text[] =
    "graph \"g\" { input %x: float32[1048576] %y: none[*] = Relu(%x) output %y }";

typedef struct fixture {
    kaena_arena arena;
    kgr_graph *g;
    float *data;
} fixture;

static void set_up(fixture *f)
{
    kaena_err err;
    kaena_arena_init(&f->arena, 0);
    KTEST_OK(err, kgr_parse(&f->arena, text, strlen(text), &f->g, &err));
    f->data = KAENA_NEW_N(&f->arena, float, N);
    for (size_t i = 0; i < N; i++)
        f->data[i] = 1;
}

static kgr_value *constant(fixture *f, const char *name, int64_t n, const float *data)
{
    return kgr_const_add(f->g, name, KAENA_F32, &(kaena_shape){1, {n}}, data);
}

/* Makes |v| an operand of a node. */
static void use(fixture *f, kgr_value *v)
{
    (void)kgr_node_add(f->g, NULL, KOP_Relu, NULL, NULL, &v, 1, (const char *const[]){NULL}, 1);
}

static size_t zeros(const float *data, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += data[i] == 0;
    return count;
}

static void release(fixture *f)
{
    kaena_err err;
    KTEST_OK(err, kcc_release_constants(&f->g, 1, &err));
}

KTEST(release, what_nobody_uses_goes)
{
    fixture f;
    set_up(&f);
    kgr_value *dead = constant(&f, "dead", N, f.data);
    release(&f);
    cr_assert(dead->t.data == NULL);
    cr_assert(zeros(f.data, N) >= N - 2 * 1024, "%zu of %d are gone", zeros(f.data, N), N);
    kaena_arena_fini(&f.arena);
}

KTEST(release, what_is_used_stays)
{
    fixture f;
    set_up(&f);
    kgr_value *live = constant(&f, "live", N, f.data);
    use(&f, live);
    release(&f);
    cr_assert(live->t.data == f.data && zeros(f.data, N) == 0);
    kaena_arena_fini(&f.arena);
}

/* One value of a constant's data is dead, another lives: of all of it, or of a part. */
KTEST(release, shared_data_stays)
{
    static const struct {
        size_t first;
        int64_t n;
    } lives[] = {{0, N}, {0, 1}, {N / 2, 100}, {N - 1, 1}};
    for (size_t i = 0; i < sizeof lives / sizeof *lives; i++) {
        fixture f;
        set_up(&f);
        kgr_value *dead = constant(&f, "dead", N, f.data);
        use(&f, constant(&f, "live", lives[i].n, f.data + lives[i].first));
        use(&f, constant(&f, "other", 3, (const float[]){1, 2, 3}));
        release(&f);
        cr_assert(dead->t.data == NULL && zeros(f.data, N) == 0, "%zu: %zu are gone", i,
                  zeros(f.data, N));
        kaena_arena_fini(&f.arena);
    }
}

/* Neighbours in memory share pages with what goes. */
KTEST(release, neighbours_keep_their_bytes)
{
    fixture f;
    set_up(&f);
    use(&f, constant(&f, "before", 1000, f.data));
    (void)constant(&f, "dead", N - 2000, f.data + 1000);
    use(&f, constant(&f, "after", 1000, f.data + N - 1000));
    release(&f);
    cr_assert(zeros(f.data, 1000) == 0 && zeros(f.data + N - 1000, 1000) == 0);
    cr_assert(zeros(f.data, N) > N / 2);
    kaena_arena_fini(&f.arena);
}

KTEST(release, small_ones_are_left_alone)
{
    fixture f;
    set_up(&f);
    kgr_value *dead = constant(&f, "dead", 1000, f.data);
    release(&f);
    cr_assert(dead->t.data == f.data && zeros(f.data, N) == 0);
    kaena_arena_fini(&f.arena);
}
