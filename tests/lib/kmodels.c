#include "kmodels.h"

#define F32(at) at ":f32[1,1,1,64]<0,0,0,4>"

static const int64_t dims[2] = {1, KM_WIDTH}, one[1] = {1};

void km_moody(kneff *k)
{
    static const char *const text[] = {
        "TT op=ADD a=" F32("SB+0") " b=" F32("IO0+0") " dst=" F32(
            "SB+0") "\n"
                    "COPY src=" F32("SB+0") " dst=" F32(
                        "IO1+0") "\n"
                                 "HALT\n"
                                 "LOOP count=1000000\n"
                                 "LOOP count=1000000\n"
                                 "TT op=ADD a=" F32("SB+0") " b=" F32("IO0+0") " dst=" F32(
                                     "SB+0") "\n"
                                             "END\n"
                                             "END\n"
                                             "SIGNAL mask=0x2 sem=0 amount=1\n"
                                             "COPY src=" F32("SB+0") " dst=" F32("IO1+0") "\n"
                                                                                          "HALT\n",
        "COPY src=" F32("IO0+0") " dst=" F32("SB+0") "\n"
                                                     "COPY src=" F32("IO0+0") " dst=" F32(
                                                         "SB+256") "\n"
                                                                   "HALT\n"
                                                                   "WAIT sem=0 value=1\n"
                                                                   "HALT\n"};
    kneff_init(k, 2, text);
    uint32_t x = kneff_value(k, "x", KAENA_F32, 2, dims),
             forever = kneff_value(k, "forever", KAENA_BOOL, 1, one),
             a = kneff_value(k, "a", KAENA_F32, 2, dims),
             b = kneff_value(k, "b", KAENA_F32, 2, dims),
             y = kneff_value(k, "y", KAENA_F32, 2, dims);
    kneff_input(k, x);
    kneff_input(k, forever);
    kneff_output(k, y);
    uint32_t then = kneff_body(k);
    kneff_device(k, 3, 2, (uint32_t[]){x, a}, 2);
    kneff_close(k);
    uint32_t otherwise = kneff_body(k);
    kneff_device(k, 0, 2, (uint32_t[]){x, b}, 2);
    kneff_close(k);
    (void)kneff_if(k, forever, then, otherwise, 1, &a, &b, &y);
    k->meta.sb_bytes = 4096;
    k->meta.contexts = 2;
}

void km_turns(kneff *k)
{
    static const char *const text[] = {"HALT\n"};
    kneff_init(k, 1, text);
    uint32_t n = kneff_value(k, "n", KAENA_I64, 1, one),
             x = kneff_value(k, "x", KAENA_F32, 2, dims),
             in = kneff_value(k, "in", KAENA_F32, 2, dims),
             next = kneff_value(k, "next", KAENA_F32, 2, dims),
             y = kneff_value(k, "y", KAENA_F32, 2, dims);
    kneff_input(k, n);
    kneff_input(k, x);
    kneff_output(k, y);
    uint32_t body = kneff_body(k);
    kneff_host(k, "graph \"h\" { input %a: float32[1,64] %b: float32[1,64] = Neg(%a) output %b }",
               1, &in, 1, &next);
    kneff_close(k);
    Kaena__V1__NeffLoopStep *s = kneff_loop(k, body);
    s->trip_count = n + 1;
    kneff_carry(k, s, x, in, next, y);
}
