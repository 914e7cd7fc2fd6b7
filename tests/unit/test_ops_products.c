/* Einsum, determinants, attention; losses and optimisers. */
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

KTEST(ops_products, einsum)
{
    const char *two = "f32[2,2] 1 2 3 4 ; f32[2,2] 5 6 7 8";
    ops_check(KOP_Einsum, "equation='ij,jk->ik'", two, "f32[2,2] 19 22 43 50");
    ops_check(KOP_Einsum, "equation='ij,jk'", two, "f32[2,2] 19 22 43 50");
    ops_check(KOP_Einsum, "equation=' ij , ij -> '", two, "f32[] 70");
    ops_check(KOP_Einsum, "equation='ij,kj->ki'", two, "f32[2,2] 17 39 23 53");
    ops_check(KOP_Einsum, "equation='ij->ji'", "int8[2,2] 1 2 3 4", "int8[2,2] 1 3 2 4");
    ops_check(KOP_Einsum, "equation='ii->i'", "f32[2,2] 1 2 3 4", "f32[2] 1 4");
    ops_check(KOP_Einsum, "equation='ii'", "f32[2,2] 1 2 3 4", "f32[] 5");
    ops_check(KOP_Einsum, "equation='ij->j'", "uint64[2,2] 1 2 3 9223372036854775808",
              "uint64[2] 4 9223372036854775810");
    ops_check(KOP_Einsum, "equation='i,j,k->kji'", "f32[2] 1 2 ; f32[1] 3 ; f32[2] 1 10",
              "f32[2,1,2] 3 6 30 60");
    ops_check(KOP_Einsum, "equation='bij,bjk->bik'", "int64[2,1,2] 1 2 3 4 ; int64[2,2,1] 1 1 2 2",
              "int64[2,1,1] 3 14");
    ops_check(KOP_Einsum, "equation='Ab,b->A'", "f32[2,2] 1 2 3 4 ; f32[2] 1 1", "f32[2] 3 7");
    ops_check(KOP_Einsum, "equation='ij,ij'", "f32[0,2] ; f32[0,2]", "f32[] 0");
    ops_check(KOP_Einsum, "equation='ab,ac,abd,acd->'",
              "f32[0,1099511627776] ; f32[0,1099511627776] ; f32[0,1099511627776,1] ; "
              "f32[0,1099511627776,1]",
              "f32[] 0");
}

KTEST(ops_products, einsum_ellipsis)
{
    ops_check(KOP_Einsum, "equation='...ij,...jk->...ik'",
              "f32[2,1,1,2] 1 2 3 4 ; f32[2,2,1] 1 1 10 10", "f32[2,2,1,1] 3 30 7 70");
    ops_check(KOP_Einsum, "equation='...ii->...i'", "f32[1,2,2] 1 2 3 4", "f32[1,2] 1 4");
    ops_check(KOP_Einsum, "equation='i...'", "f32[2,2] 1 2 3 4", "f32[2,2] 1 3 2 4");
    ops_check(KOP_Einsum, "equation='...->'", "f32[2,2] 1 2 3 4", "f32[] 10");
    ops_check(KOP_Einsum, "equation='a...,a->a...'", "f32[2,?,3] ; f32[2]", "f32[2,?,3]");
}

KTEST(ops_products, einsum_refusals)
{
    static const char *const wrong[] = {"ij",    "ij,jk,kl",   "ij,jk->iz",     "ij,jk->ii",
                                        "i1,jk", "ij,jk-ik",   "i..j,jk",       "ijk,jk->ik",
                                        "",      "ij,jk->i,k", "ij,jk->i...->", "i......j,jk"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char attr[64];
        (void)snprintf(attr, sizeof attr, "equation='%s'", wrong[i]);
        ops_refuse(KOP_Einsum, attr, "f32[2,2] 1 2 3 4 ; f32[2,2] 1 2 3 4", 1, BAD, wrong[i]);
    }
    ops_refuse(KOP_Einsum, "equation='ij,jk'", "f32[2,3] ; f32[2,2]", 1, BAD, "3 and 2");
}

KTEST(ops_products, det)
{
    ops_check(KOP_Det, "", "f32[2,2] 0 2 3 4", "f32[] -6");
    ops_check(KOP_Det, "", "float64[2,1,1] 5 -7", "float64[2] 5 -7");
    ops_check(KOP_Det, "", "f32[3,3] 2 0 1 1 3 2 1 1 4", "f32[] 18");
    ops_check(KOP_Det, "", "f32[2,2] 1 2 2 4", "f32[] 0");
    ops_check(KOP_Det, "", "f32[0,0]", "f32[] 1");
    ops_check(KOP_Det, "", "f32[?,3,3]", "f32[?]");
    ops_refuse(KOP_Det, "", "f32[2,3]", 1, BAD, "square");
}

KTEST(ops_products, attention)
{
    /* Equal scores: the mean of V. */
    ops_check(KOP_Attention, "", "f32[1,1,1,2] 0 0 ; f32[1,1,2,2] 1 2 3 4 ; f32[1,1,2,1] 2 6",
              "f32[1,1,1,1] 4");
    ops_check(KOP_Attention, "scale=1.0",
              "f32[1,1,1,1] 1 ; f32[1,1,2,1] 0 1.0986123 ; f32[1,1,2,1] 0 4", "f32[1,1,1,1] 3");
    ops_check(KOP_Attention, "is_causal=1",
              "f32[1,1,2,1] 0 0 ; f32[1,1,2,1] 0 0 ; f32[1,1,2,1] 2 6", "f32[1,1,2,1] 2 4");
    ops_check(KOP_Attention, "",
              "f32[1,1,1,1] 0 ; f32[1,1,2,1] 0 0 ; f32[1,1,2,1] 2 6 ; bool[1,2] 0 1",
              "f32[1,1,1,1] 6");
    /* A row that sees nothing. */
    ops_check(KOP_Attention, "",
              "f32[1,1,1,1] 0 ; f32[1,1,2,1] 0 0 ; f32[1,1,2,1] 2 6 ; bool[1,2] 0 0",
              "f32[1,1,1,1] 0");
    /* Two heads of Q share one of K and V; the past comes first. */
    ops_check(KOP_Attention, "q_num_heads=2 kv_num_heads=1",
              "f32[1,1,2] 0 0 ; f32[1,1,1] 5 ; f32[1,1,1] 2 ; - ; f32[1,1,1,1] 7 ; f32[1,1,1,1] 6",
              "f32[1,1,2] 4 4 ; f32[1,1,2,1] 7 5 ; f32[1,1,2,1] 6 2");
    ops_check(KOP_Attention, "qk_matmul_output_mode=2 softcap=2.0 scale=1.0",
              "f32[1,1,1,1] 2 ; f32[1,1,1,1] 3 ; f32[1,1,1,1] 1",
              "f32[1,1,1,1] 1 ; f32[1,1,1,1] 3 ; f32[1,1,1,1] 1 ; f32[1,1,1,1] 1.9901096");
    ops_check(KOP_Attention, "", "f32[?,4,8,16] ; f32[?,4,9,16] ; f32[?,4,9,5]", "f32[?,4,8,5]");
    ops_refuse(KOP_Attention, "",
               "f32[1,1,1099511627776,0] ; f32[1,1,1099511627776,0] ; f32[1,1,1099511627776,0]", 1,
               BAD, "scores");
    ops_refuse(KOP_Attention, "", "f32[1,3,2,4] ; f32[1,2,2,4] ; f32[1,2,2,4]", 1, BAD,
               "do not fit");
    ops_refuse(KOP_Attention, "q_num_heads=3 kv_num_heads=1",
               "f32[1,2,4] ; f32[1,2,4] ; f32[1,2,4]", 1, BAD, "q_num_heads");
    ops_refuse(KOP_Attention, "", "f32[1,1,2,4] ; f32[1,1,3,4] ; f32[1,1,3,4] ; f32[3,3]", 1, BAD,
               "mask");
}

KTEST(ops_products, rotary_embedding)
{
    ops_check(KOP_RotaryEmbedding, "",
              "f32[1,1,2,4] 1 2 3 4 1 2 3 4 ; f32[1,2,2] 1 1 0 0 ; f32[1,2,2] 0 0 1 1",
              "f32[1,1,2,4] 1 2 3 4 -3 -4 1 2");
    ops_check(KOP_RotaryEmbedding, "interleaved=1 num_heads=1",
              "f32[1,1,4] 1 2 3 4 ; f32[2,2] 1 1 0 0 ; f32[2,2] 0 0 1 1 ; int64[1,1] 1",
              "f32[1,1,4] -2 1 -4 3");
    ops_check(KOP_RotaryEmbedding, "rotary_embedding_dim=2",
              "f32[1,1,1,3] 1 2 3 ; f32[1,1,1] 0 ; f32[1,1,1] 1", "f32[1,1,1,3] -2 1 3");
    ops_refuse(KOP_RotaryEmbedding, "num_heads=1",
               "f32[1,1,2] 1 2 ; f32[2,1] 1 0 ; f32[2,1] 0 1 ; int64[1,1] 2", 1, KAENA_OUT_OF_RANGE,
               "position 2");
    ops_refuse(KOP_RotaryEmbedding, "", "f32[1,1,1,3] ; f32[1,1,1] ; f32[1,1,1]", 1, BAD,
               "cannot turn");
}

KTEST(ops_learning, losses)
{
    const char *plain = "f32[2,2] -1 -2 -3 -4 ; int64[2] 1 0";
    ops_check(KOP_NegativeLogLikelihoodLoss, "", plain, "f32[] 2.5");
    ops_check(KOP_NegativeLogLikelihoodLoss, "reduction='sum'", plain, "f32[] 5");
    ops_check(KOP_NegativeLogLikelihoodLoss, "reduction='none'", plain, "f32[2] 2 3");
    ops_check(KOP_NegativeLogLikelihoodLoss, "", "f32[2,2] -1 -2 -3 -4 ; int64[2] 1 0 ; f32[2] 3 1",
              "f32[] 2.75");
    ops_check(KOP_NegativeLogLikelihoodLoss, "ignore_index=-1",
              "f32[2,2] -1 -2 -3 -4 ; int32[2] 1 -1", "f32[] 2");
    ops_check(KOP_NegativeLogLikelihoodLoss, "reduction='none'",
              "f32[1,2,2] -1 -2 -3 -4 ; int64[1,2] 1 0", "f32[1,2] 3 2");
    ops_check(KOP_SoftmaxCrossEntropyLoss, "", "f32[1,2] 0 0 ; int64[1] 1",
              "f32[] 0.6931472 ; f32[1,2] -0.6931472 -0.6931472");
    ops_check(KOP_SoftmaxCrossEntropyLoss, "reduction='none'", "f32[2,3,?] ; int64[2,?]",
              "f32[2,?] ; f32[2,3,?]");
    ops_refuse(KOP_NegativeLogLikelihoodLoss, "", "f32[1,2] 0 0 ; int64[1] 2", 1,
               KAENA_OUT_OF_RANGE, "target 2");
    ops_refuse(KOP_NegativeLogLikelihoodLoss, "", "f32[2,2] ; int64[3]", 1, BAD, "targets");
    ops_refuse(KOP_NegativeLogLikelihoodLoss, "", "f32[2,2] ; int64[2] ; f32[3]", 1, BAD, "weight");
    ops_refuse(KOP_SoftmaxCrossEntropyLoss, "reduction='max'", "f32[2,2] ; int64[2]", 1, BAD,
               "'max'");
}

KTEST(ops_learning, optimisers)
{
    const char *one = "f32[] 0.5 ; int64[] 1 ; f32[1] 1 ; f32[1] 2 ; f32[1] 0";
    ops_check(KOP_Adagrad, "epsilon=0.0", one, "f32[1] 0.5 ; f32[1] 4");
    ops_check(KOP_Adagrad, "epsilon=0.0 decay_factor=1.0", one, "f32[1] 0.75 ; f32[1] 4");
    ops_check(KOP_Momentum, "mode='standard' alpha=0.5 beta=0.5",
              "f32[] 0.5 ; int64[] 1 ; f32[1] 1 ; f32[1] 2 ; f32[1] 4", "f32[1] -0.5 ; f32[1] 3");
    ops_check(KOP_Momentum, "mode='nesterov' alpha=0.5 beta=0.5",
              "f32[] 0.5 ; int64[] 0 ; f32[1] 1 ; f32[1] 2 ; f32[1] 4", "f32[1] -1 ; f32[1] 4");
    ops_check(KOP_Adam, "alpha=0.5 beta=0.75 epsilon=0.0 norm_coefficient_post=0.5",
              "f32[] 0.5 ; int64[] 1 ; f32[1] 1 ; f32[1] 2 ; f32[1] 0 ; f32[1] 0",
              "f32[1] 0.25 ; f32[1] 1 ; f32[1] 1");
    /* Two tensors: rates are shared. */
    ops_check(KOP_Adagrad, "epsilon=0.0",
              "f32[] 1 ; int64[] 0 ; f32[1] 1 ; f32[2] 1 2 ; f32[1] 2 ; f32[2] 3 4 ; f32[1] 0 ; "
              "f32[2] 0 0",
              "f32[1] 0 ; f32[2] 0 1 ; f32[1] 4 ; f32[2] 9 16");
    ops_refuse(KOP_Adagrad, "", "f32[] ; int64[] ; f32[1] ; f32[1] ; f32[1] ; f32[1]", 2, BAD,
               "tensors each");
    ops_refuse(KOP_Adagrad, "", "f32[] ; int64[] ; f32[1] ; f32[2] ; f32[1]", 2, BAD,
               "another shape");
    ops_refuse(KOP_Momentum, "", "f32[] ; int64[] ; f32[1] ; f32[1] ; f32[1]", 2, BAD, "mode");
}
