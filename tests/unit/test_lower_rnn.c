/* Recurrent layers on the TPB: against the reference evaluation, and bits that depend on nothing.
 */
#include "lower_graph.h"

static const graph_case cases[] = {
    {"lstm",
     "graph \"g\" { input %x: float32[5,3,7] const %w: float32[1,80,7] = random 1 const %r: "
     "float32[1,80,20] = random 2 const %b: float32[1,160] = random 3 "
     "%y: none[*], %h: none[*], %c: none[*] = LSTM(%x, %w, %r, %b) {hidden_size=20} output %y "
     "output %h output %c }",
     1e-5},
    {"lstm, both directions, states, peepholes",
     "graph \"g\" { input %x: float32[6,2,9] input %h0: float32[2,2,17] input %c0: "
     "float32[2,2,17] const %w: float32[2,68,9] = random 1 const %r: float32[2,68,17] = random 2 "
     "const %b: float32[2,136] = random 3 const %p: float32[2,51] = random 4 "
     "%y: none[*], %h: none[*], %c: none[*] = LSTM(%x, %w, %r, %b, _, %h0, %c0, %p) "
     "{hidden_size=17, direction=\"bidirectional\"} output %y output %h output %c }",
     1e-5},
    {"lstm, reverse, clipped, other functions, batch first",
     "graph \"g\" { input %x: float32[3,4,6] input %h0: float32[3,1,16] const %w: "
     "float32[1,64,6] = random 1 const %r: float32[1,64,16] = random 2 const %p: float32[1,48] = "
     "random 4 %y: none[*], %h: none[*], %c: none[*] = LSTM(%x, %w, %r, _, _, %h0, _, %p) "
     "{hidden_size=16, direction=\"reverse\", layout=1, clip=0.75, "
     "activations=[\"HardSigmoid\", \"Relu\", \"Softsign\"]} output %y output %h output %c }",
     1e-5},
    {"lstm with input_forget, its last state alone",
     "graph \"g\" { input %x: float32[4,2,5] const %w: float32[1,28,5] = random 1 const %r: "
     "float32[1,28,7] = random 2 %y: none[*], %h: none[*] = LSTM(%x, %w, %r) {hidden_size=7, "
     "input_forget=1} output %h }",
     1e-5},
    {"lstm, constant lengths, both directions",
     "graph \"g\" { input %x: float32[5,3,4] const %w: float32[2,40,4] = random 1 const %r: "
     "float32[2,40,10] = random 2 const %n: int32[3] = {2, 5, 0} "
     "%y: none[*], %h: none[*], %c: none[*] = LSTM(%x, %w, %r, _, %n) {hidden_size=10, "
     "direction=\"bidirectional\"} output %y output %h output %c }",
     1e-5},
    {"gru, lengths of run time",
     "graph \"g\" { input %x: float32[5,6,4] input %n: int32[6] const %w: float32[2,30,4] = "
     "random 1 const %r: float32[2,30,10] = random 2 const %b: float32[2,60] = random 3 "
     "%y: none[*], %h: none[*] = GRU(%x, %w, %r, %b, %n) {hidden_size=10, "
     "direction=\"bidirectional\"} output %y output %h }",
     1e-5},
    {"rnn, lengths of run time, reverse",
     "graph \"g\" { input %x: float32[5,6,4] input %n: int32[6] const %w: float32[1,10,4] = "
     "random 1 const %r: float32[1,10,10] = random 2 "
     "%y: none[*], %h: none[*] = RNN(%x, %w, %r, _, %n) {hidden_size=10, direction=\"reverse\"} "
     "output %y output %h }",
     1e-5},
    {"gru, reset before the product",
     "graph \"g\" { input %x: float32[7,2,11] input %h0: float32[1,2,19] const %w: "
     "float32[1,57,11] = random 1 const %r: float32[1,57,19] = random 2 const %b: float32[1,114] = "
     "random 3 %y: none[*], %h: none[*] = GRU(%x, %w, %r, %b, _, %h0) {hidden_size=19} output %y "
     "output %h }",
     1e-5},
    {"gru, product before reset, clipped",
     "graph \"g\" { input %x: float32[7,2,11] const %w: float32[1,57,11] = random 1 const %r: "
     "float32[1,57,19] = random 2 const %b: float32[1,114] = random 3 %y: none[*], %h: none[*] = "
     "GRU(%x, %w, %r, %b) {hidden_size=19, linear_before_reset=1, clip=0.5} output %y output %h }",
     1e-5},
    {"rnn of two layers with a dense one behind",
     "graph \"g\" { input %x: float32[4,1,8] const %w: float32[1,33,8] = random 1 const %r: "
     "float32[1,33,33] = random 2 const %v: float32[1,5,33] = random 3 const %s: float32[1,5,5] = "
     "random 4 const %a: int64[1] = {1} "
     "%y: none[*] = RNN(%x, %w, %r) {hidden_size=33, activations=[\"Relu\"]} "
     "%q: none[*] = Squeeze(%y, %a) %z: none[*] = RNN(%q, %v, %s) {hidden_size=5} "
     "const %m: float32[5,6] = random 5 %t: none[*] = Squeeze(%z, %a) %d: none[*] = MatMul(%t, "
     "%m) output %d }",
     1e-5},
    {"wide state, more rows than a tile",
     "graph \"g\" { input %x: float32[2,515,3] const %w: float32[1,420,3] = random 1 const %r: "
     "float32[1,420,140] = random 2 %y: none[*], %h: none[*] = GRU(%x, %w, %r) {hidden_size=140} "
     "output %h }",
     1e-4},
};
#define N_CASES (sizeof cases / sizeof *cases)

KTEST(lower_rnn, computes_what_the_graph_says)
{
    for (size_t i = 0; i < N_CASES; i++)
        check_against_reference(&cases[i]);
}

KTEST(lower_rnn, bits_do_not_depend_on_the_schedule)
{
    static const uint32_t counts[] = {1, 2, 4};
    for (size_t i = 0; i + 1 < N_CASES; i++)
        check_bits(&cases[i], counts, sizeof counts / sizeof *counts);
}

/* What the engines lack goes to the host, and the report says why. */
KTEST(lower_rnn, refuses_what_the_engines_lack)
{
    static const char *const texts[] = {
        "graph \"g\" { input %x: float32[2,1,3] const %w: float32[1,4,3] = random 1 const %r: "
        "float32[1,4,4] = random 2 %y: none[*] = RNN(%x, %w, %r) {hidden_size=4, "
        "activations=[\"ScaledTanh\"]} output %y }",
        "graph \"g\" { input %x: float32[2,1,3] input %w: float32[1,4,3] const %r: "
        "float32[1,4,4] = random 2 %y: none[*] = RNN(%x, %w, %r) {hidden_size=4} output %y }",
    };
    static const char *const reasons[] = {"Affine, ScaledTanh", "computed at run time"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        kaena_arena arena;
        kaena_err err;
        kgr_graph *g;
        const char *reason = NULL;
        kaena_arena_init(&arena, 0);
        KTEST_OK(err, kgr_parse(&arena, texts[i], strlen(texts[i]), &g, &err));
        KTEST_OK(err, kgr_infer(g, true, &err));
        cr_assert(!kcc_lowerable(g->first, &reason) && strstr(reason, reasons[i]));
        kaena_arena_fini(&arena);
    }
}
