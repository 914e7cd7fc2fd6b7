/* Control flow of TensorFlow's graphs, of both generations: branches, loops. Models are SavedModels
 * written as text. */
#include "tf_fixture.h"

/* --- Control flow v2 ---
 */

/* then(a) = a + a, else(a) = -a */
#define BRANCHES                                                                                   \
    "function{signature{name:'then' " ARG("a", "DT_FLOAT")                                         \
        RESULT("r") "}"                                                                            \
                    "node_def{name:'s' op:'AddV2' input:'a' input:'a' " FLOAT                      \
                    "} ret{key:'r' value:'s:z:0'}}"                                                \
                    "function{signature{name:'else' " ARG("a", "DT_FLOAT")                         \
                        RESULT("r") "}"                                                            \
                                    "node_def{name:'n' op:'Neg' input:'a' " FLOAT                  \
                                    "} ret{key:'r' value:'n:y:0'}}"
#define AXES                                                                                       \
    "node{name:'axes' op:'Const' attr{key:'dtype' value{type:DT_INT32}} "                          \
    "attr{key:'value' value{tensor{dtype:DT_INT32 tensor_shape{dim{size:1}} int_val:0}}}}"

KTEST(tf_control, if_of_functions_chooses_at_run_time)
{
    fixture f = begin();
    must_import(&f,
                PLACEHOLDER("x", D(2))
                    AXES CONST("node", "zero",
                               "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                                    "node{name:'c' op:'Greater' input:'sum' input:'zero' " FLOAT "}"
                                    "node{name:'y' op:'StatelessIf' input:'c' input:'x' " FUNC(
                                        "then_branch", "then")
                                        FUNC("else_branch", "else") "} library{" BRANCHES "}",
                XY);
    cr_assert(count_nodes(f.g, KOP_If) == 1);
    eval(&f, (float *[]){(float[]){3, -1}});
    expect(&f, 0, 2, (float[]){6, -2});
    eval(&f, (float *[]){(float[]){-3, 1}});
    expect(&f, 0, 2, (float[]){3, -1});
    end(&f);
}

KTEST(tf_control, if_of_a_constant_is_the_branch_it_takes)
{
    fixture f = begin();
    /* The other branch has an operator that nobody has. */
    must_import(
        &f,
        PLACEHOLDER(
            "x", D(2)) "node{name:'no' op:'Const' attr{key:'value' value{tensor{"
                       "dtype:DT_BOOL tensor_shape{} bool_val:false}}}}"
                       "node{name:'y' op:'If' input:'no' input:'x' " FUNC("then_branch", "odd")
                           FUNC("else_branch",
                                "else") "} library{" BRANCHES
                                        "function{signature{name:'odd' " ARG("a", "DT_FLOAT")
                                            RESULT("r") "}"
                                                        "node_def{name:'q' op:'NobodysOperator' "
                                                        "input:'a'} ret{key:'r' value:'q:r:0'}}}",
        XY);
    cr_assert(count_nodes(f.g, KOP_If) == 0);
    eval(&f, (float *[]){(float[]){3, -1}});
    expect(&f, 0, 2, (float[]){-3, 1});
    end(&f);
}

KTEST(tf_control, case_takes_the_last_branch_for_an_index_outside)
{
    fixture f = begin();
    must_import(&f,
                PLACEHOLDER("x", D(2)) AXES
                "node{name:'sum' op:'Max' input:'x' input:'axes' " FLOAT "}"
                "node{name:'i' op:'Cast' input:'sum' attr{key:'SrcT' value{type:DT_FLOAT}} "
                "attr{key:'DstT' value{type:DT_INT32}}}"
                "node{name:'y' op:'Case' input:'i' input:'x' attr{key:'branches' value{list{"
                "func{name:'then'} func{name:'else'} func{name:'same'}}}}} library{" BRANCHES
                "function{signature{name:'same' " ARG("a", "DT_FLOAT")
                    RESULT("r") "} ret{key:'r' value:'a'}}}",
                XY);
    eval(&f, (float *[]){(float[]){0, -4}});
    expect(&f, 0, 2, (float[]){0, -8});
    eval(&f, (float *[]){(float[]){1, -4}});
    expect(&f, 0, 2, (float[]){-1, 4});
    eval(&f, (float *[]){(float[]){2, -4}});
    expect(&f, 0, 2, (float[]){2, -4});
    eval(&f, (float *[]){(float[]){7, -4}});
    expect(&f, 0, 2, (float[]){7, -4});
    eval(&f, (float *[]){(float[]){-7, -4}});
    expect(&f, 0, 2, (float[]){-7, -4});
    end(&f);
}

/* while (i < 5) { v = v + x * w; i = i + 1 }: a counter, a state, something only read, a variable.
 */
KTEST(tf_control, while_of_functions_is_a_loop_that_counts)
{
    fixture f = begin();
    bb_header(&f.b, 1, false, 0);
    bb_add(&f.b, "w", T_FLOAT, 1, (int64_t[]){2}, (float[]){3, 4}, 8);
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) VARIABLE("w", D(2)) INT("node", "zero", "0") CONST(
            "node", "start",
            "1") "node{name:'v0' op:'Mul' input:'x' input:'start' " FLOAT "}"
                 "node{name:'loop' op:'While' input:'zero' input:'v0' input:'x' input:'w' " FUNC(
                     "cond", "c")
                     FUNC("body",
                          "b") "} node{name:'y' op:'Identity' input:'loop:1' " FLOAT "}"
                               "library{function{signature{name:'c' " ARG("i", "DT_INT32") ARG(
                                   "v", "DT_FLOAT") ARG("x", "DT_FLOAT")
                                   ARG("w", "DT_RESOURCE") "output_arg{name:'r' type:DT_BOOL}}" INT(
                                       "node_def", "five",
                                       "5") "node_def{name:'less' op:'Less' input:'i' "
                                            "input:'five:output:0' attr{key:'T' "
                                            "value{type:DT_INT32}}} ret{key:'r' value:'less:z:0'}}"
                                            "function{signature{name:'b' " ARG("i", "DT_INT32")
                                                ARG("v", "DT_FLOAT") ARG("x", "DT_FLOAT") ARG(
                                                    "w",
                                                    "DT_RESOURCE") "output_arg{name:'j' "
                                                                   "type:DT_INT32}" RESULT("u")
                                                                       RESULT(
                                                                           "x2") "output_arg{"
                                                                                 "name:'w2' "
                                                                                 "type:DT_"
                                                                                 "RESOURCE}}" INT(
                                                                                     "node_def",
                                                                                     "one",
                                                                                     "1") "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "add' "
                                                                                          "op:'"
                                                                                          "AddV2'"
                                                                                          " input"
                                                                                          ":'i' "
                                                                                          "input:"
                                                                                          "'one:"
                                                                                          "output"
                                                                                          ":0' "
                                                                                          "attr{"
                                                                                          "key:'"
                                                                                          "T' "
                                                                                          "value{"
                                                                                          "type:"
                                                                                          "DT_"
                                                                                          "INT32}"
                                                                                          "}}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "read' "
                                                                                          "op:'"
                                                                                          "ReadVa"
                                                                                          "riable"
                                                                                          "Op' "
                                                                                          "input:"
                                                                                          "'w'}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "m' "
                                                                                          "op:'"
                                                                                          "Mul' "
                                                                                          "input:"
                                                                                          "'x' "
                                                                                          "input:"
                                                                                          "'read:"
                                                                                          "value:"
                                                                                          "0'"
                                                                                          " " FLOAT
                                                                                          "}"
                                                                                          "node_"
                                                                                          "def{"
                                                                                          "name:'"
                                                                                          "n' "
                                                                                          "op:'"
                                                                                          "AddV2'"
                                                                                          " input"
                                                                                          ":'v' "
                                                                                          "input:"
                                                                                          "'m:z:"
                                                                                          "0'"
                                                                                          " " FLOAT
                                                                                          "}"
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "j' "
                                                                                          "value:"
                                                                                          "'add:"
                                                                                          "z:0'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "u' "
                                                                                          "value:"
                                                                                          "'n:z:"
                                                                                          "0'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "x2' "
                                                                                          "value:"
                                                                                          "'x'} "
                                                                                          "ret{"
                                                                                          "key:'"
                                                                                          "w2' "
                                                                                          "value:"
                                                                                          "'w'}}"
                                                                                          "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_Loop) == 1);
    for (const kgr_node *n = f.g->first; n; n = n->next)
        if (n->op == KOP_Loop)
            cr_assert(kgr_is_const(n->in[0]) && kop_get_int(&n->in[0]->t, 0) == 5,
                      "the number of turns is known");
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){1 + 15, 2 + 40});
    end(&f);
}

/* A list that grows in a loop whose number of turns the input decides: squares of 0, 1, ... below
 * max(x).
 */
/* clang-format off */
static const char squares[] =
    "node{name:'x' op:'Placeholder' attr{key:'dtype' value{type:DT_FLOAT}} attr{key:'shape' "
    "value{shape{dim{size:2}}}}}"
    "node{name:'axes' op:'Const' attr{key:'dtype' value{type:DT_INT32}} attr{key:'value' "
    "value{tensor{dtype:DT_INT32 tensor_shape{dim{size:1}} int_val:0}}}}"
    "node{name:'zero' op:'Const' attr{key:'dtype' value{type:DT_FLOAT}} attr{key:'value' "
    "value{tensor{dtype:DT_FLOAT tensor_shape{} float_val:0}}}}"
    "node{name:'shape' op:'Const' attr{key:'dtype' value{type:DT_INT32}} attr{key:'value' "
    "value{tensor{dtype:DT_INT32 tensor_shape{} int_val:-1}}}}"
    "node{name:'max' op:'Const' attr{key:'dtype' value{type:DT_INT32}} attr{key:'value' "
    "value{tensor{dtype:DT_INT32 tensor_shape{} int_val:-1}}}}"
    "node{name:'list' op:'EmptyTensorList' input:'shape' input:'max' attr{key:'element_dtype' "
    "value{type:DT_FLOAT}}}"
    "node{name:'last' op:'Max' input:'x' input:'axes' " FLOAT "}"
    "node{name:'loop' op:'StatelessWhile' input:'zero' input:'list' input:'last' attr{key:'cond' "
    "value{func{name:'c'}}}attr{key:'body' value{func{name:'b'}}}}"
    "node{name:'y' op:'TensorListStack' input:'loop:1' input:'shape' attr{key:'element_dtype' "
    "value{type:DT_FLOAT}}}"
    "library{"
    "function{signature{name:'c' input_arg{name:'i' type:DT_FLOAT}input_arg{name:'l' "
    "type:DT_VARIANT}input_arg{name:'n' type:DT_FLOAT}output_arg{name:'r' type:DT_BOOL}}"
    "node_def{name:'less' op:'Less' input:'i' input:'n' " FLOAT "} ret{key:'r' value:'less:z:0'}}"
    "function{signature{name:'b' input_arg{name:'i' type:DT_FLOAT}input_arg{name:'l' "
    "type:DT_VARIANT}input_arg{name:'n' type:DT_FLOAT}"
    "output_arg{name:'j' type:DT_FLOAT}output_arg{name:'m' type:DT_VARIANT}output_arg{name:'n2' "
    "type:DT_FLOAT}}"
    "node_def{name:'one' op:'Const' attr{key:'dtype' value{type:DT_FLOAT}} attr{key:'value' "
    "value{tensor{dtype:DT_FLOAT tensor_shape{} float_val:1}}}}"
    "node_def{name:'add' op:'AddV2' input:'i' input:'one:output:0' " FLOAT "}"
    "node_def{name:'sq' op:'Mul' input:'i' input:'i' " FLOAT "}"
    "node_def{name:'push' op:'TensorListPushBack' input:'l' input:'sq:z:0' "
    "attr{key:'element_dtype' value{type:DT_FLOAT}}}"
    "ret{key:'j' value:'add:z:0'} ret{key:'m' value:'push:output_handle:0'} ret{key:'n2' "
    "value:'n'}}}";
/* clang-format on */

KTEST(tf_control, lists_grow_in_loops_of_unknown_length)
{
    fixture f = begin();
    must_import(&f, squares, XY);
    eval(&f, (float *[]){(float[]){4, 1}});
    expect(&f, 0, 4, (float[]){0, 1, 4, 9});
    eval(&f, (float *[]){(float[]){-1, 2}});
    expect(&f, 0, 2, (float[]){0, 1});
    end(&f);
}

/* --- Control flow v1 -----------------------------------------------------------------------------
 */

/* Two Merges of one predicate, one inside the other's branch as well, a constant for a branch. */
KTEST(tf_control, switches_and_merges_are_branches)
{
    fixture f = begin();
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) AXES CONST("node", "zero", "0") CONST(
            "node", "ten",
            "10") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                  "node{name:'p' op:'Greater' input:'sum' input:'zero' " FLOAT "}"
                  "node{name:'q' op:'Greater' input:'sum' input:'ten' " FLOAT "}"
                  "node{name:'pid' op:'Identity' input:'p'}"
                  "node{name:'sx' op:'Switch' input:'x' input:'pid' " FLOAT "}"
                  "node{name:'sq' op:'Switch' input:'q' input:'pid' attr{key:'T' "
                  "value{type:DT_BOOL}}}"
                  "node{name:'ssx' op:'Switch' input:'sx:1' input:'sq:1' " FLOAT "}"
                  "node{name:'big' op:'Neg' input:'ssx:1' " FLOAT "}"
                  "node{name:'small' op:'AddV2' input:'ssx' input:'ssx' " FLOAT "}"
                  "node{name:'inner' op:'Merge' input:'small' input:'big' attr{key:'N' "
                  "value{i:2}} " FLOAT "}"
                  "node{name:'c' op:'Const' input:'^sw' attr{key:'dtype' value{type:DT_FLOAT}} "
                  "attr{key:'value' value{tensor{dtype:DT_FLOAT tensor_shape{dim{size:2}} "
                  "float_val:7}}}}"
                  "node{name:'sw' op:'Identity' input:'sx' " FLOAT "}"
                  "node{name:'outer' op:'Merge' input:'c' input:'inner' attr{key:'N' "
                  "value{i:2}} " FLOAT "}"
                  "node{name:'index' op:'Cast' input:'outer:1' attr{key:'SrcT' "
                  "value{type:DT_INT32}} "
                  "attr{key:'DstT' value{type:DT_FLOAT}}}"
                  "node{name:'y' op:'AddV2' input:'outer' input:'index' " FLOAT "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_If) == 1);
    eval(&f, (float *[]){(float[]){-1, -1}});
    expect(&f, 0, 2, (float[]){7, 7});
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){3, 5});
    eval(&f, (float *[]){(float[]){10, 20}});
    expect(&f, 0, 2, (float[]){-9, -19});
    end(&f);
}

KTEST(tf_control, branches_that_do_not_meet_are_refused)
{
    fixture f = begin();
#define SWITCHED                                                                                   \
    PLACEHOLDER("x", D(2))                                                                         \
    AXES CONST("node", "zero", "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"   \
                                    "node{name:'p' op:'Greater' input:'sum' input:'zero' " FLOAT   \
                                    "}"                                                            \
                                    "node{name:'s' op:'Switch' input:'x' input:'p' " FLOAT "}"
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "not the two branches of one predicate",
                import(&f, SWITCHED "node{name:'y' op:'Merge' input:'s:1' input:'s:1' " FLOAT "}",
                       XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "is there only if 'p' is true",
                import(&f,
                       SWITCHED "node{name:'y' op:'Identity' input:'s:1' " FLOAT "}"
                                "node{name:'m' op:'Merge' input:'s' input:'s:1' " FLOAT "}",
                       XY, NULL, NULL));
    end(&f);
}

/* for (i = 0; i < 3; i++) for (j = 0; j < 2; j++) v = v + x: frames in frames. */
#define FRAME(name, value, frame)                                                                  \
    "node{name:'" name "' op:'Enter' input:'" value "' attr{key:'frame_name' value{s:'" frame "'}" \
    "}}"
#define TURN(name, merge, cond, next)                                                              \
    "node{name:'" name "/m' op:'Merge' input:'" merge "' input:'" next "'}"                        \
    "node{name:'" name "/s' op:'Switch' input:'" name "/m' input:'" cond "'}"                      \
    "node{name:'" name "/exit' op:'Exit' input:'" name "/s'}"
KTEST(tf_control, frames_are_loops_inside_of_loops_too)
{
    fixture f = begin();
    must_import(
        &f,
        PLACEHOLDER("x", D(2)) INT("node", "zero", "0") FRAME("i0", "zero", "a")
            FRAME("v0", "x", "a") FRAME("x1", "x", "a") TURN("i", "i0", "ca", "in")
                TURN("v", "v0", "ca",
                     "vn") "node{name:'la' op:'Less' input:'i/m' input:'three' attr{key:'T' "
                           "value{type:DT_INT32}}}" INT("node", "three_", "3")
                               FRAME("three", "three_", "a") INT("node", "one_", "1")
                                   FRAME("one", "one_",
                                         "a") "node{name:'ca' op:'LoopCond' input:'la'}"
                                              "node{name:'ia' op:'AddV2' input:'i/s:1' input:'one' "
                                              "attr{key:'T' value{type:DT_INT32}}}"
                                              "node{name:'in' op:'NextIteration' input:'ia'}"
        /* inner */
        FRAME("zero2", "zero1", "b") INT("node", "zero1", "0") FRAME("w0", "v/s:1", "b")
            FRAME("x2", "x1", "b") FRAME("one2", "one", "b") INT("node", "two_", "2")
                FRAME("two2", "two_", "b") TURN("j", "zero2", "cb", "jn")
                    TURN("w", "w0", "cb",
                         "wn") "node{name:'lb' op:'Less' input:'j/m' input:'two2' attr{key:'T' "
                               "value{type:DT_INT32}}}"
                               "node{name:'cb' op:'LoopCond' input:'lb'}"
                               "node{name:'jb' op:'AddV2' input:'j/s:1' input:'one2' attr{key:'T' "
                               "value{type:DT_INT32}}}"
                               "node{name:'jn' op:'NextIteration' input:'jb'}"
                               "node{name:'wb' op:'AddV2' input:'w/s:1' input:'x2' " FLOAT "}"
                               "node{name:'wn' op:'NextIteration' input:'wb'}"
                               "node{name:'vn' op:'NextIteration' input:'w/exit'}"
                               "node{name:'y' op:'Identity' input:'v/exit' " FLOAT "}",
        XY);
    cr_assert(count_nodes(f.g, KOP_Loop) == 1);
    eval(&f, (float *[]){(float[]){1, 2}});
    expect(&f, 0, 2, (float[]){7, 14});
    end(&f);
}

KTEST(tf_control, broken_loops_are_refused)
{
    fixture f = begin();
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "Enter, NextIteration and Switch",
                import(&f,
                       PLACEHOLDER("x", D(2)) "node{name:'m' op:'Merge' input:'x' input:'n'}"
                                              "node{name:'c' op:'LoopCond' input:'m'}"
                                              "node{name:'n' op:'NextIteration' input:'m'}"
                                              "node{name:'y' op:'Identity' input:'m' " FLOAT "}",
                       XY, NULL, NULL));
    KTEST_FAILS(f.err, INVALID_ARGUMENT, "does not leave a loop",
                import(&f,
                       PLACEHOLDER("x", D(2)) "node{name:'c' op:'LoopCond' input:'x'}"
                                              "node{name:'y' op:'Exit' input:'x'}",
                       XY, NULL, NULL));
    end(&f);
}

/* Nothing that follows Identity nodes may follow them for ever, or again and again. */
KTEST(tf_control, cycles_and_long_chains_of_identities_end)
{
    fixture f = begin();
    KTEST_FAILS(
        f.err, INVALID_ARGUMENT, "needs its own result",
        import(&f,
               PLACEHOLDER("x", D(2)) "node{name:'a' op:'Identity' input:'b'}"
                                      "node{name:'b' op:'Identity' input:'a'}"
                                      "node{name:'s' op:'Switch' input:'x' input:'a' " FLOAT "}"
                                      "node{name:'m' op:'Merge' input:'s' input:'s:1' " FLOAT "}"
                                      "node{name:'v' op:'VarHandleOp'}"
                                      "node{name:'r' op:'RestoreV2' input:'x' input:'a' input:'a'}"
                                      "node{name:'i' op:'AssignVariableOp' input:'a' input:'r'}"
                                      "node{name:'j' op:'AssignVariableOp' input:'v' input:'r'}"
                                      "node{name:'y' op:'AddV2' input:'m' input:'a' " FLOAT "}",
               XY, NULL, NULL));
    kaena_strbuf b = {0};
    enum { N = 3000 };
    kaena_strbuf_printf(
        &b, "%s",
        PLACEHOLDER("x", D(2)) AXES CONST(
            "node", "zero", "0") "node{name:'sum' op:'Sum' input:'x' input:'axes' " FLOAT "}"
                                 "node{name:'i0' op:'Greater' input:'sum' input:'zero' " FLOAT "}");
    for (int i = 1; i <= N; i++)
        kaena_strbuf_printf(&b, "node{name:'i%d' op:'Identity' input:'i%d'}", i, i - 1);
    for (int i = 0; i < N; i++)
        kaena_strbuf_printf(&b,
                            "node{name:'s%d' op:'Switch' input:'%s%d' input:'i%d' " FLOAT "}"
                            "node{name:'m%d' op:'Merge' input:'s%d' input:'s%d:1' " FLOAT "}",
                            i, i ? "m" : "x", i - 1, N, i, i, i);
    kaena_strbuf_printf(&b, "node{name:'y' op:'Identity' input:'m%d' " FLOAT "}", N - 1);
    char *first = strstr(b.data, "'x-1'");
    memcpy(first, "'x:0'", 5);
    /* Too many branches one after another is no error: it ends, this way or that. */
    (void)import(&f, b.data, XY, NULL, NULL);
    kaena_strbuf_fini(&b);
    end(&f);
}
