/* Operators that add up: products, windows, normalisation, reductions, resize. */
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

KTEST(ops_window, geometry)
{
    static const struct {
        kop_op op;
        const char *attrs, *in;
        int64_t begin, end, out;
    } cases[] = {
        {KOP_MaxPool, "kernel_shape=[3] strides=[2]", "f32[1,1,7]", 0, 0, 3},
        {KOP_MaxPool, "kernel_shape=[3] strides=[2] pads=[1,2]", "f32[1,1,7]", 1, 2, 4},
        {KOP_MaxPool, "kernel_shape=[2] strides=[2] ceil_mode=1", "f32[1,1,7]", 0, 0, 4},
        /* The last window would lie in the end padding alone. */
        {KOP_MaxPool, "kernel_shape=[1] strides=[2] pads=[0,1] ceil_mode=1", "f32[1,1,3]", 0, 1, 2},
        {KOP_MaxPool, "kernel_shape=[3] strides=[2] auto_pad='SAME_UPPER'", "f32[1,1,6]", 0, 1, 3},
        {KOP_MaxPool, "kernel_shape=[3] strides=[2] auto_pad='SAME_LOWER'", "f32[1,1,6]", 1, 0, 3},
        {KOP_MaxPool, "kernel_shape=[3] pads=[1,1] auto_pad='VALID'", "f32[1,1,6]", 0, 0, 4},
        {KOP_MaxPool, "kernel_shape=[2] dilations=[3]", "f32[1,1,6]", 0, 0, 3},
        {KOP_Conv, "", "f32[1,1,6] ; f32[1,1,4]", 0, 0, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ops_call *c = malloc(sizeof *c);
        ops_prepare(c, cases[i].op, cases[i].attrs, cases[i].in);
        kop_window w;
        KTEST_OK(c->err, kop_window_of(&c->call, &w));
        cr_assert_eq(w.spatial, 1);
        cr_assert(w.pad_begin[0] == cases[i].begin && w.pad_end[0] == cases[i].end &&
                      w.out[0] == cases[i].out,
                  "case %zu: %lld %lld %lld", i, (long long)w.pad_begin[0], (long long)w.pad_end[0],
                  (long long)w.out[0]);
        kaena_arena_fini(&c->arena);
        free(c);
    }
}

KTEST(ops_window, refusals)
{
    ops_refuse(KOP_MaxPool, "", "f32[1,1,5]", 1, BAD, "kernel_shape is required");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2,2]", "f32[1,1,5]", 1, BAD, "kernel_shape has 2");
    ops_refuse(KOP_MaxPool, "kernel_shape=[0]", "f32[1,1,5]", 1, BAD, "out of range");
    ops_refuse(KOP_MaxPool, "kernel_shape=[6]", "f32[1,1,5]", 1, BAD, "larger than");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2] strides=[0]", "f32[1,1,5]", 1, BAD, "strides");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2] pads=[-1,0]", "f32[1,1,5]", 1, BAD, "pads");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2] auto_pad='X'", "f32[1,1,5]", 1, BAD, "auto_pad");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2]", "f32[1,5]", 1, BAD, "rank 2");
    ops_refuse(KOP_MaxPool, "kernel_shape=[2]", "int32[1,1,5]", 1, KAENA_UNIMPLEMENTED, "int32");
}

KTEST(ops_conv, conv)
{
    /* 3 x 3 ones over 1..9, padded: sums of neighbourhoods. */
    ops_check(KOP_Conv, "pads=[1,1,1,1]",
              "f32[1,1,3,3] 1 2 3 4 5 6 7 8 9 ; f32[1,1,3,3] 1 1 1 1 1 1 1 1 1 ; f32[1] 0.5",
              "f32[1,1,3,3] 12.5 21.5 16.5 27.5 45.5 33.5 24.5 39.5 28.5");
    ops_check(KOP_Conv, "strides=[2]", "f32[1,2,4] 1 2 3 4 5 6 7 8 ; f32[1,2,2] 1 10 100 1000",
              "f32[1,1,2] 6521 8743");
    ops_check(KOP_Conv, "dilations=[2]", "f32[1,1,4] 1 2 3 4 ; f32[1,1,2] 1 10",
              "f32[1,1,2] 31 42");
    ops_check(KOP_Conv, "group=2", "f32[1,2,2] 1 2 3 4 ; f32[2,1,1] 10 100",
              "f32[1,2,2] 10 20 300 400");
    ops_check(KOP_Conv, "", "f32[2,1,1,1,2] 1 2 3 4 ; f32[1,1,1,1,2] 1 1", "f32[2,1,1,1,1] 3 7");
    ops_check(KOP_Conv, "auto_pad='SAME_LOWER'", "float16[1,1,3] 1 2 3 ; float16[1,1,2] 1 10",
              "float16[1,1,3] 10 21 32");
    ops_check(KOP_Conv, "", "f32[?,3,8,8] ; f32[4,3,3,3]", "f32[?,4,?,?]");
    ops_check(KOP_Conv, "", "f32[0,1,2] ; f32[1,1,1] 1", "f32[0,1,2]");
}

KTEST(ops_conv, conv_refusals)
{
    ops_refuse(KOP_Conv, "", "f32[1,3,8,8] ; f32[4,2,3,3]", 1, BAD, "3 channels");
    ops_refuse(KOP_Conv, "group=3", "f32[1,3,8,8] ; f32[4,1,3,3]", 1, BAD, "group 3");
    ops_refuse(KOP_Conv, "", "f32[1,3,8] ; f32[4,3,3,3]", 1, BAD, "rank 3");
    ops_refuse(KOP_Conv, "kernel_shape=[5,5]", "f32[1,3,8,8] ; f32[4,3,3,3]", 1, BAD, "says 5");
    ops_refuse(KOP_Conv, "", "f32[1,3,8,8] ; f32[4,3,3,3] ; f32[3]", 1, BAD, "4 elements");
    ops_refuse(KOP_Conv, "", "int32[1,3,8,8] ; int32[4,3,3,3]", 1, KAENA_UNIMPLEMENTED, "int32");
    ops_refuse(KOP_Conv, "", "f32[1,0,8,8] ; f32[4,0,3,3]", 1, BAD, "no input channels");
}

KTEST(ops_conv, large_products_match_plain_loops)
{
    /* More rows, columns and depth than one register tile and one packed block. */
    enum { M = 19, K = 300, N = 1100 };
    ops_call *c = malloc(sizeof *c);
    ops_prepare(c, KOP_MatMul, "", "f32[1,1] ; f32[1,1]");
    float *a = kaena_arena_array(&c->arena, M * K, sizeof *a);
    float *b = kaena_arena_array(&c->arena, K * N, sizeof *b);
    for (int i = 0; i < M * K; i++)
        a[i] = (float)((i * 7) % 13) - 6;
    for (int i = 0; i < K * N; i++)
        b[i] = (float)((i * 5) % 11) - 5;
    c->in[0] = (kop_tensor){.dtype = KAENA_F32, .shape = {2, {M, K}}, .data = a};
    c->in[1] = (kop_tensor){.dtype = KAENA_F32, .shape = {2, {K, N}}, .data = b};
    c->call.n_out = 1;
    c->call.env = &c->env;
    KTEST_OK(c->err, kop_eval(&c->call));
    const float *y = c->out[0].data;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float sum = 0; /* small integers: exact */
            for (int p = 0; p < K; p++)
                sum += a[i * K + p] * b[p * N + j];
            cr_assert_eq(y[i * N + j], sum, "[%d][%d]", i, j);
        }
    kaena_arena_fini(&c->arena);
    free(c);
}

KTEST(ops_conv, transpose)
{
    ops_check(KOP_ConvTranspose, "strides=[2]", "f32[1,1,2] 1 2 ; f32[1,1,3] 1 10 100 ; f32[1] 0.5",
              "f32[1,1,5] 1.5 10.5 102.5 20.5 200.5");
    ops_check(KOP_ConvTranspose, "strides=[2] pads=[1,1] output_padding=[1]",
              "f32[1,1,2] 1 2 ; f32[1,1,3] 1 10 100", "f32[1,1,4] 10 102 20 200");
    ops_check(KOP_ConvTranspose, "group=2", "f32[1,2,1] 1 2 ; f32[2,1,2] 1 2 3 4",
              "f32[1,2,2] 1 2 6 8");
    ops_check(KOP_ConvTranspose, "strides=[2,2] output_shape=[4,4]", "f32[1,1,2,2] ; f32[1,3,3,3]",
              "f32[1,3,4,4]");
    ops_check(KOP_ConvTranspose, "strides=[3] auto_pad='SAME_UPPER'", "f32[1,1,3] ; f32[1,1,3]",
              "f32[1,1,9]");
    ops_refuse(KOP_ConvTranspose, "", "f32[1,2,3] ; f32[3,1,2]", 1, BAD, "2 channels");
    ops_refuse(KOP_ConvTranspose, "output_shape=[-1]", "f32[1,1,3] ; f32[1,1,2]", 1, BAD, "-1");
    ops_refuse(KOP_ConvTranspose, "pads=[9,9]", "f32[1,1,3] ; f32[1,1,2]", 1, BAD, "output");
}

KTEST(ops_conv, quantised)
{
    ops_check(KOP_ConvInteger, "pads=[1,1]", "uint8[1,1,3] 3 4 5 ; uint8[1,1,2] 1 2 ; uint8[] 1",
              "int32[1,1,4] 4 8 11 4");
    ops_check(KOP_MatMulInteger, "",
              "uint8[2,2] 1 2 3 4 ; int8[2,1] -1 1 ; uint8[2] 1 2 ; int8[] 1", "int32[2,1] 0 -2");
    ops_check(KOP_QLinearMatMul, "",
              "uint8[1,2] 10 20 ; f32[] 0.5 ; uint8[] 0 ; uint8[2,1] 2 4 ; f32[] 0.5 ; uint8[] 0 ; "
              "f32[] 2 ; uint8[] 3",
              "uint8[1,1] 15");
    ops_check(KOP_QLinearConv, "",
              "uint8[1,1,2] 10 20 ; f32[] 0.5 ; uint8[] 0 ; uint8[2,1,1] 2 4 ; f32[2] 0.5 1 ; "
              "uint8[2] 0 0 ; f32[] 5 ; uint8[] 1 ; int32[2] 0 20",
              "uint8[1,2,2] 2 3 7 11");
    ops_refuse(KOP_QLinearConv, "",
               "uint8[1,1,2] 10 20 ; f32[] 0.5 ; uint8[] 0 ; uint8[2,1,1] 2 4 ; f32[3] 1 1 1 ; "
               "uint8[] 0 ; f32[] 5 ; uint8[] 1",
               1, BAD, "input 4");
}

KTEST(ops_matmul, matmul)
{
    ops_check(KOP_MatMul, "", "f32[2,2] 1 2 3 4 ; f32[2,2] 5 6 7 8", "f32[2,2] 19 22 43 50");
    ops_check(KOP_MatMul, "", "f32[2] 1 2 ; f32[2] 3 4", "f32[] 11");
    ops_check(KOP_MatMul, "", "f32[2] 1 2 ; f32[2,2,1] 1 2 3 4", "f32[2,1] 5 11");
    ops_check(KOP_MatMul, "", "f32[2,1,1] 2 3 ; f32[1,2] 5 7", "f32[2,1,2] 10 14 15 21");
    ops_check(KOP_MatMul, "", "float64[1,1] 3 ; float64[1,1] 4", "float64[1,1] 12");
    ops_check(KOP_MatMul, "", "int64[1,2] 4611686018427387904 1 ; int64[2,1] 1 5",
              "int64[1,1] 4611686018427387909");
    ops_check(KOP_MatMul, "", "f32[2,0] ; f32[0,3]", "f32[2,3] 0 0 0 0 0 0");
    ops_check(KOP_MatMul, "", "f32[?,4,3] ; f32[2,3,?]", "f32[2,4,?]");
    ops_refuse(KOP_MatMul, "", "f32[2,3] ; f32[2,3]", 1, BAD, "[2,3] and [2,3]");
    ops_refuse(KOP_MatMul, "", "f32[] ; f32[2]", 1, BAD, "scalar");
    ops_refuse(KOP_MatMul, "", "f32[2,1,1] ; f32[3,1,1]", 1, BAD, "broadcast");
    ops_refuse(KOP_MatMul, "", "bool[1,1] ; bool[1,1]", 1, KAENA_UNIMPLEMENTED, "bool");
}

KTEST(ops_matmul, gemm)
{
    ops_check(KOP_Gemm, "alpha=2.0 beta=0.5", "f32[1,2] 1 2 ; f32[2,2] 1 2 3 4 ; f32[2] 2 4",
              "f32[1,2] 15 22");
    ops_check(KOP_Gemm, "transA=1 transB=1", "f32[2,1] 1 2 ; f32[2,2] 1 2 3 4 ; f32[1,1] 1",
              "f32[1,2] 6 12");
    ops_check(KOP_Gemm, "", "int32[1,1] 3 ; int32[1,1] 4 ; int32[] 5", "int32[1,1] 17");
    ops_check(KOP_Gemm, "transB=1", "f32[?,4] ; f32[3,4] ; f32[3]", "f32[?,3]");
    ops_refuse(KOP_Gemm, "", "f32[1,2] ; f32[3,1]", 1, BAD, "2 columns");
    ops_refuse(KOP_Gemm, "", "f32[1,2] ; f32[2,1] ; f32[2]", 1, BAD, "C of shape [2]");
    ops_refuse(KOP_Gemm, "", "f32[2] ; f32[2,1]", 1, BAD, "rank 1");
    ops_refuse(KOP_Gemm, "alpha=2.0", "int32[1,1] 3 ; int32[1,1] 4", 1, KAENA_UNIMPLEMENTED,
               "alpha");
}

KTEST(ops_pool, max)
{
    ops_check(KOP_MaxPool, "kernel_shape=[2,2] strides=[2,2]", "f32[1,1,2,4] 1 5 2 0 3 4 8 7",
              "f32[1,1,1,2] 5 8 ; int64[1,1,1,2] 1 6");
    ops_check(KOP_MaxPool, "kernel_shape=[2] pads=[1,1]", "f32[1,2,2] -1 -2 -3 -4",
              "f32[1,2,3] -1 -1 -2 -3 -3 -4 ; int64[1,2,3] 0 0 1 2 2 3");
    ops_check(KOP_MaxPool, "kernel_shape=[2,2] storage_order=1", "f32[1,1,2,2] 1 2 3 0",
              "f32[1,1,1,1] 3 ; int64[1,1,1,1] 1");
    ops_check(KOP_MaxPool, "kernel_shape=[2] strides=[2] ceil_mode=1", "int8[1,1,3] -1 -2 -3",
              "int8[1,1,2] -1 -3");
    ops_check(KOP_MaxPool, "kernel_shape=[2]", "f32[1,1,3] 1 nan 2", "f32[1,1,2] nan nan");
    ops_check(KOP_MaxPool, "kernel_shape=[2,2]", "f32[1,?,8,8]", "f32[1,?,?,?]");
}

KTEST(ops_pool, average_and_norms)
{
    ops_check(KOP_AveragePool, "kernel_shape=[2] pads=[1,1]", "f32[1,1,2] 2 4", "f32[1,1,3] 2 3 4");
    ops_check(KOP_AveragePool, "kernel_shape=[2] pads=[1,1] count_include_pad=1", "f32[1,1,2] 2 4",
              "f32[1,1,3] 1 3 2");
    /* Places past the padding, which only the rounding up reaches, do not count. */
    ops_check(KOP_AveragePool, "kernel_shape=[2] strides=[2] ceil_mode=1 count_include_pad=1",
              "f32[1,1,3] 2 4 6", "f32[1,1,2] 3 6");
    ops_check(KOP_LpPool, "kernel_shape=[2]", "f32[1,1,2] 3 -4", "f32[1,1,1] 5");
    ops_check(KOP_GlobalAveragePool, "", "f32[1,2,2] 1 3 5 7", "f32[1,2,1] 2 6");
    ops_check(KOP_GlobalMaxPool, "", "f32[1,1,2,2] 1 3 -5 2", "f32[1,1,1,1] 3");
    ops_check(KOP_GlobalLpPool, "p=1", "f32[1,1,2] 1 -3", "f32[1,1,1] 4");
    ops_refuse(KOP_GlobalAveragePool, "", "f32[1,1,0]", 1, BAD, "empty");
}

KTEST(ops_norm, channels)
{
    ops_check(KOP_BatchNormalization, "epsilon=0.0",
              "f32[1,2,2] 1 2 3 4 ; f32[2] 2 1 ; f32[2] 0 10 ; f32[2] 1 3 ; f32[2] 4 1",
              "f32[1,2,2] 0 1 10 11");
    ops_check(KOP_InstanceNormalization, "epsilon=0.0", "f32[1,1,2] 1 3 ; f32[1] 2 ; f32[1] 5",
              "f32[1,1,2] 3 7");
    ops_refuse(KOP_BatchNormalization, "", "f32[1,2,2] ; f32[3] ; f32[2] ; f32[2] ; f32[2]", 1, BAD,
               "input 1 has 3");
    ops_check(KOP_BatchNormalization, "training_mode=1 momentum=0.5 epsilon=0.0",
              "f32[2,1,2] 1 3 5 7 ; f32[1] 1 ; f32[1] 0 ; f32[1] 0 ; f32[1] 1",
              "f32[2,1,2] -1.3416408 -0.4472136 0.4472136 1.3416408 ; f32[1] 2 ; f32[1] 3");
    ops_refuse(KOP_BatchNormalization, "", "f32[1,2,2] ; f32[2] ; f32[2] ; f32[2] ; f32[2]", 3, BAD,
               "without training_mode");
    ops_check(KOP_GroupNormalization, "num_groups=1 epsilon=0.0",
              "f32[1,2,2] 1 3 5 7 ; f32[2] 1 2 ; f32[2] 0 1",
              "f32[1,2,2] -1.3416408 -0.4472136 1.8944272 3.6832816");
    ops_refuse(KOP_GroupNormalization, "num_groups=2", "f32[1,3,2] ; f32[3] ; f32[3]", 1, BAD,
               "groups");
    ops_check(KOP_RMSNormalization, "epsilon=0.0", "f32[1,2] 1 7 ; f32[2] 1 2", "f32[1,2] 0.2 2.8");
}

KTEST(ops_norm, others)
{
    ops_check(KOP_LayerNormalization, "epsilon=0.0", "f32[2,2] 1 3 5 9 ; f32[2] 1 2 ; f32[2] 0 1",
              "f32[2,2] -1 3 -1 3 ; f32[2,1] 2 7 ; f32[2,1] 1 0.5");
    ops_refuse(KOP_LayerNormalization, "", "f32[2,2] ; f32[3]", 1, BAD, "input 1");
    /* Three channels of one element: 1 + (1 + 4) / 3 and so on. */
    ops_check(KOP_LRN, "size=3 alpha=1.0 beta=1.0", "f32[1,3,1] 1 2 3",
              "f32[1,3,1] 0.375 0.3529412 0.5625");
    ops_refuse(KOP_LRN, "", "f32[1,3,1]", 1, BAD, "size");
    ops_check(KOP_LpNormalization, "axis=0", "f32[2] 3 4", "f32[2] 0.6 0.8");
    ops_check(KOP_LpNormalization, "p=1", "f32[2] 0 0", "f32[2] 0 0");
    ops_check(KOP_MeanVarianceNormalization, "axes=[1]", "f32[2,2] 1 3 4 4", "f32[2,2] -1 1 0 0");
    ops_check(KOP_Softmax, "", "f32[2,2] 0 0 1000 0", "f32[2,2] 0.5 0.5 1 0");
    ops_check(KOP_Softmax, "axis=0", "f32[2,1] 0 0.6931472", "f32[2,1] 0.3333333 0.6666667");
    ops_check(KOP_LogSoftmax, "", "f32[2] 0 0", "f32[2] -0.6931472 -0.6931472");
    ops_check(KOP_Hardmax, "", "f32[3] 1 2 2", "f32[3] 0 1 0");
    ops_refuse(KOP_Softmax, "axis=2", "f32[2,2]", 1, BAD, "axis 2");
}

KTEST(ops_reduce, reduce)
{
    ops_check(KOP_ReduceSum, "", "f32[2,2] 1 2 3 4 ; int64[1] 0", "f32[1,2] 4 6");
    ops_check(KOP_ReduceSum, "keepdims=0", "f32[2,2] 1 2 3 4 ; int64[1] -1", "f32[2] 3 7");
    ops_check(KOP_ReduceSum, "keepdims=0", "f32[2,2] 1 2 3 4", "f32[] 10");
    ops_check(KOP_ReduceSum, "noop_with_empty_axes=1", "f32[2] 1 2", "f32[2] 1 2");
    ops_check(KOP_ReduceSum, "", "uint8[2] 200 100", "uint8[1] 44");
    ops_check(KOP_ReduceMean, "", "int32[2] -3 -4", "int32[1] -3");
    ops_check(KOP_ReduceMean, "", "f32[2] 1 2", "f32[1] 1.5");
    ops_check(KOP_ReduceMax, "", "int8[3] -5 -2 -9", "int8[1] -2");
    ops_check(KOP_ReduceMin, "", "f32[3] 2 nan 1", "f32[1] nan");
    ops_check(KOP_ReduceMax, "", "f32[0]", "f32[1] -inf");
    ops_check(KOP_ReduceProd, "", "int64[3] 2 3 4", "int64[1] 24");
    ops_check(KOP_ReduceL1, "", "f32[2] -3 4", "f32[1] 7");
    ops_check(KOP_ReduceL2, "", "f32[2] -3 4", "f32[1] 5");
    ops_check(KOP_ReduceSumSquare, "", "int32[2] -3 4", "int32[1] 25");
    ops_check(KOP_ReduceLogSum, "", "f32[2] 1 1.718281828", "f32[1] 1");
    ops_check(KOP_ReduceLogSumExp, "", "f32[2] 1000 1000", "f32[1] 1000.69315");
    ops_check(KOP_ReduceSum, "", "f32[2,?] ; int64[1]", "f32[?,?]");
    ops_check(KOP_ReduceSum, "keepdims=0", "f32[2,?] ; int64[1]", "f32*");
    ops_refuse(KOP_ReduceSum, "", "f32[2] ; int64[1] 1", 1, BAD, "axes: 1");
    ops_refuse(KOP_ReduceMean, "", "int32[0]", 1, BAD, "mean of no");
    ops_refuse(KOP_ReduceSum, "", "bool[2]", 1, KAENA_UNIMPLEMENTED, "bool");
}

KTEST(ops_reduce, cumsum)
{
    ops_check(KOP_CumSum, "", "f32[2,2] 1 2 3 4 ; int64[] 0", "f32[2,2] 1 2 4 6");
    ops_check(KOP_CumSum, "exclusive=1 reverse=1", "int32[3] 1 2 3 ; int64[] 0", "int32[3] 5 3 0");
    ops_refuse(KOP_CumSum, "", "f32[2] ; int64[] 1", 1, BAD, "axis");
}

KTEST(ops_resize, nearest)
{
    ops_check(KOP_Resize, "coordinate_transformation_mode='asymmetric' nearest_mode='floor'",
              "int8[2] 1 2 ; - ; f32[1] 2.0", "int8[4] 1 1 2 2");
    ops_check(KOP_Resize, "", "f32[1,4] 1 2 3 4 ; - ; - ; int64[2] 1 2", "f32[1,2] 1 3");
    ops_check(KOP_Resize, "axes=[1]", "f32[2,1] 1 2 ; - ; f32[1] 2.0", "f32[2,2] 1 1 2 2");
    ops_check(KOP_Resize, "keep_aspect_ratio_policy='not_larger'",
              "f32[2,4] ; - ; - ; int64[2] 7 8", "f32[4,8]");
    ops_check(KOP_Resize, "", "f32[2,?] ; - ; f32[2] 2 2", "f32[?,?]");
}

KTEST(ops_resize, interpolation)
{
    ops_check(KOP_Resize, "mode='linear'", "f32[2] 0 4 ; - ; f32[1] 2.0", "f32[4] 0 1 3 4");
    ops_check(KOP_Resize, "mode='linear' coordinate_transformation_mode='align_corners'",
              "f32[2] 0 4 ; - ; - ; int64[1] 5", "f32[5] 0 1 2 3 4");
    ops_check(KOP_Resize, "mode='linear' coordinate_transformation_mode='pytorch_half_pixel'",
              "f32[3] 5 6 7 ; - ; - ; int64[1] 1", "f32[1] 5");
    /* a = -0.75 at a distance of 1/4: weights of the outer neighbours repeat the edge. */
    ops_check(KOP_Resize, "mode='cubic'", "f32[1] 3 ; - ; f32[1] 2.0", "f32[2] 3 3");
    ops_check(KOP_Resize,
              "mode='linear' coordinate_transformation_mode='tf_crop_and_resize' "
              "extrapolation_value=9.0",
              "f32[3] 0 2 4 ; f32[2] 0.5 1.5 ; - ; int64[1] 3", "f32[3] 2 4 9");
    ops_check(KOP_Resize, "mode='linear' antialias=1", "f32[4] 0 0 8 8 ; - ; f32[1] 0.5",
              "f32[2] 1 7");
}

KTEST(ops_resize, refusals)
{
    ops_refuse(KOP_Resize, "", "f32[2]", 1, BAD, "exactly one");
    ops_refuse(KOP_Resize, "", "f32[2] ; - ; f32[1] 2 ; int64[1] 4", 1, BAD, "exactly one");
    ops_refuse(KOP_Resize, "", "f32[2] ; - ; f32[2] 2 2", 1, BAD, "scales has 2");
    ops_refuse(KOP_Resize, "", "f32[2] ; - ; f32[1] nan", 1, BAD, "scale");
    ops_refuse(KOP_Resize, "", "f32[2] ; - ; - ; int64[1] 0", 1, BAD, "cannot become 0");
    ops_refuse(KOP_Resize, "mode='x'", "f32[2] ; - ; f32[1] 2", 1, BAD, "mode 'x'");
    ops_refuse(KOP_Resize, "mode='linear'", "bool[2] ; - ; f32[1] 2", 1, KAENA_UNIMPLEMENTED,
               "bool");
}

KTEST(ops_rnn, one_unit_by_hand)
{
    /* h = relu(2 x + 3 h + 0.5): 2.5, then 4 + 7.5 + 0.5. */
    ops_check(KOP_RNN, "activations=('Relu')",
              "f32[2,1,1] 1 2 ; f32[1,1,1] 2 ; f32[1,1,1] 3 ; f32[1,2] 0.25 0.25",
              "f32[2,1,1,1] 2.5 12 ; f32[1,1,1] 12");
    ops_check(KOP_RNN, "activations=('Relu') direction='reverse' layout=1",
              "f32[1,2,1] 1 2 ; f32[1,1,1] 2 ; f32[1,1,1] 3", "f32[1,2,1,1] 14 4 ; f32[1,1,1] 14");
    ops_check(KOP_RNN, "activations=('Relu','Affine') direction='bidirectional'",
              "f32[2,1,1] 1 2 ; f32[2,1,1] 2 2 ; f32[2,1,1] 3 3 ; - ; int32[1] 1",
              "f32[2,2,1,1] 2 2 0 0 ; f32[2,1,1] 2 2");
    /* All gates at sigmoid(0) = 1/2: z h keeps half of the state, the candidate is tanh(0). */
    ops_check(KOP_GRU, "",
              "f32[1,1,1] 1 ; f32[1,3,1] 0 0 0 ; f32[1,3,1] 0 0 0 ; - ; - ; f32[1,1,1] 8",
              "f32[1,1,1,1] 4 ; f32[1,1,1] 4");
    /* c = 1/2 c, h = 1/2 tanh(c). */
    ops_check(KOP_LSTM, "",
              "f32[1,1,1] 1 ; f32[1,4,1] 0 0 0 0 ; f32[1,4,1] 0 0 0 0 ; - ; - ; - ; f32[1,1,1] 2",
              "f32[1,1,1,1] 0.3807971 ; f32[1,1,1] 0.3807971 ; f32[1,1,1] 1");
    /* A forget gate of 1 - input gate. */
    ops_check(KOP_LSTM, "input_forget=1 activations=('HardSigmoid','Affine','Affine')",
              "f32[1,1,1] 1 ; f32[1,4,1] 10 10 0 7 ; f32[1,4,1] 0 0 0 0 ; - ; - ; - ; f32[1,1,1] 2",
              "f32[1,1,1,1] 7 ; f32[1,1,1] 7 ; f32[1,1,1] 7");
}

KTEST(ops_rnn, refusals)
{
    ops_check(KOP_LSTM, "hidden_size=5", "f32[?,2,3] ; f32[1,20,3] ; f32[1,20,5]",
              "f32[?,1,2,5] ; f32[1,2,5]");
    ops_refuse(KOP_LSTM, "", "f32[1,1,1] ; f32[1,5,1] ; f32[1,4,1]", 1, BAD, "input 1");
    ops_refuse(KOP_GRU, "", "f32[1,1,2] ; f32[1,3,1] ; f32[1,3,1]", 1, BAD, "input 1");
    ops_refuse(KOP_RNN, "direction='up'", "f32[1,1,1] ; f32[1,1,1] ; f32[1,1,1]", 1, BAD, "'up'");
    ops_refuse(KOP_RNN, "activations=('Bogus')", "f32[1,1,1] ; f32[1,1,1] ; f32[1,1,1]", 1,
               KAENA_UNIMPLEMENTED, "Bogus");
    ops_refuse(KOP_RNN, "", "f32[1,1,1] 1 ; f32[1,1,1] 1 ; f32[1,1,1] 1 ; - ; int32[1] 2", 1,
               KAENA_OUT_OF_RANGE, "length of 2");
}

KTEST(ops_detect, non_max_suppression)
{
    const char *in = "f32[1,3,4] 0 0 2 2 0 0 2 2.2 5 5 6 6 ; f32[1,1,3] 0.5 0.9 0.7 ; int64[] 9 ; "
                     "f32[] 0.5 ; f32[] 0.1";
    ops_check(KOP_NonMaxSuppression, "", in, "int64[2,3] 0 0 1 0 0 2");
    ops_check(KOP_NonMaxSuppression, "center_point_box=1",
              "f32[1,2,4] 1 1 2 2 1 1.5 2 2 ; f32[1,1,2] 0.5 0.9 ; int64[] 9 ; f32[] 0.7",
              "int64[2,3] 0 0 1 0 0 0");
    ops_check(KOP_NonMaxSuppression, "", "f32[1,1,4] 0 0 1 1 ; f32[1,1,1] 1", "int64[0,3]");
    ops_refuse(KOP_NonMaxSuppression, "", "f32[1,2,4] ; f32[1,1,3]", 1, BAD, "differ");
}

KTEST(ops_detect, roi_align)
{
    const char *in = "f32[1,1,2,2] 1 2 3 4 ; f32[1,4] 0 0 2 2 ; int64[1] 0";
    ops_check(KOP_RoiAlign, "", in, "f32[1,1,1,1] 2.5");
    ops_check(KOP_RoiAlign, "output_height=2 output_width=2 sampling_ratio=1", in,
              "f32[1,1,2,2] 1 2 3 4");
    ops_refuse(KOP_RoiAlign, "sampling_ratio=5000", in, 1, BAD, "sampling_ratio");
    ops_refuse(KOP_RoiAlign, "", "f32[1,1,1,1] 1 ; f32[1,4] 0 0 1 1 ; int64[1] 1", 1,
               KAENA_OUT_OF_RANGE, "batch element 1");
    ops_refuse(KOP_RoiAlign, "", "f32[1,1,1,1] 1 ; f32[1,4] 0 0 1e9 1 ; int64[1] 0", 1, BAD,
               "region 0");
}
