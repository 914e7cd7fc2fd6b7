/* Operators that make, move, select and count elements. */
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

KTEST(ops_shape, shape_and_size)
{
    ops_check(KOP_Shape, "", "f32[2,0,3]", "int64[3] 2 0 3");
    ops_check(KOP_Shape, "start=1", "f32[1,2,1] 1 2", "int64[2] 2 1");
    ops_check(KOP_Shape, "start=-1 end=9", "f32[1,2,1] 1 2", "int64[1] 1");
    ops_check(KOP_Shape, "start=2 end=1", "f32[1,2,1] 1 2", "int64[0]");
    ops_check(KOP_Shape, "", "f32*", "int64[?]");
    ops_check(KOP_Size, "", "f32[2,2] 1 2 3 4", "int64[] 4");
}

KTEST(ops_shape, reshape)
{
    ops_check(KOP_Reshape, "", "f32[2,3] 1 2 3 4 5 6 ; int64[2] 3 -1", "f32[3,2] 1 2 3 4 5 6");
    ops_check(KOP_Reshape, "", "f32[2,3] 1 2 3 4 5 6 ; int64[3] 0 1 3", "f32[2,1,3] 1 2 3 4 5 6");
    ops_check(KOP_Reshape, "", "f32[1] 5 ; int64[0]", "f32[] 5");
    ops_check(KOP_Reshape, "allowzero=1", "f32[0,3] ; int64[2] 3 0", "f32[3,0]");
    ops_check(KOP_Reshape, "", "f32[?,3] ; int64[2] 0 3", "f32[?,3]");
    ops_check(KOP_Reshape, "", "f32[?,3] ; int64[2] -1 3", "f32[?,3]");
    ops_check(KOP_Reshape, "", "f32[4] ; int64[2]", "f32[?,?]");
    ops_check(KOP_Reshape, "", "f32[4] ; int64*", "f32*");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[2] -1 -1", 1, BAD, "more than one -1");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[1] 5", 1, BAD, "[4] cannot take the shape [5]");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[2] 3 -1", 1, BAD, "cannot take");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[2] 4 0", 1, BAD, "is to be copied");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[1] -2", 1, BAD, "-2");
    ops_refuse(KOP_Reshape, "", "f32[4] ; int64[9] 1 1 1 1 1 1 1 1 4", 1, BAD, "9");
    ops_refuse(KOP_Reshape, "", "f32[0,3] ; int64[2] 4611686018427387904 4611686018427387904", 1,
               BAD, "too many");
}

KTEST(ops_shape, flatten_squeeze_unsqueeze)
{
    ops_check(KOP_Flatten, "", "f32[2,1,2] 1 2 3 4", "f32[2,2] 1 2 3 4");
    ops_check(KOP_Flatten, "axis=0", "f32[2,2] 1 2 3 4", "f32[1,4] 1 2 3 4");
    ops_check(KOP_Flatten, "axis=-1", "f32[2,?,3]", "f32[?,3]");
    ops_refuse(KOP_Flatten, "axis=3", "f32[2,2]", 1, BAD, "axis 3");
    ops_check(KOP_Squeeze, "", "f32[1,2,1] 1 2", "f32[2] 1 2");
    ops_check(KOP_Squeeze, "", "f32[1,2,1] 1 2 ; int64[1] -1", "f32[1,2] 1 2");
    ops_check(KOP_Squeeze, "", "f32[1,?]", "f32*");
    ops_refuse(KOP_Squeeze, "", "f32[1,2] ; int64[1] 1", 1, BAD, "dimension 1 is 2");
    ops_refuse(KOP_Squeeze, "", "f32[1,2] ; int64[2] 0 -2", 1, BAD, "given twice");
    ops_check(KOP_Unsqueeze, "", "f32[2] 1 2 ; int64[2] 0 -1", "f32[1,2,1] 1 2");
    ops_check(KOP_Unsqueeze, "", "f32[2] ; int64[1]", "f32*");
    ops_refuse(KOP_Unsqueeze, "", "f32[2] ; int64[1] 2", 1, BAD, "out of range");
    ops_refuse(KOP_Unsqueeze, "", "f32[1,1,1,1,1,1,1,1] ; int64[1] 0", 1, BAD, "rank 9");
}

KTEST(ops_shape, expand_and_tile)
{
    ops_check(KOP_Expand, "", "f32[2,1] 1 2 ; int64[3] 2 1 3",
              "f32[2,2,3] 1 1 1 2 2 2 1 1 1 2 2 2");
    ops_check(KOP_Expand, "", "f32[3] 1 2 3 ; int64[1] 1", "f32[3] 1 2 3");
    ops_refuse(KOP_Expand, "", "f32[3] ; int64[1] 2", 1, BAD, "broadcast");
    ops_check(KOP_Tile, "", "int8[2,2] 1 2 3 4 ; int64[2] 2 2",
              "int8[4,4] 1 2 1 2 3 4 3 4 1 2 1 2 3 4 3 4");
    ops_check(KOP_Tile, "", "f32[2] 1 2 ; int64[1] 0", "f32[0]");
    ops_check(KOP_Tile, "", "f32[2,?] ; int64[2] 2 2", "f32[4,?]");
    ops_refuse(KOP_Tile, "", "f32[2] ; int64[2] 2 2", 1, BAD, "repeats");
    ops_refuse(KOP_Tile, "", "f32[2] ; int64[1] -1", 1, BAD, "-1");
    ops_refuse(KOP_Tile, "", "f32[2] ; int64[1] 9223372036854775807", 1, BAD, "too large");
}

KTEST(ops_layout, transpose)
{
    ops_check(KOP_Transpose, "", "f32[2,3] 1 2 3 4 5 6", "f32[3,2] 1 4 2 5 3 6");
    ops_check(KOP_Transpose, "perm=[1,0,2]", "uint8[2,2,2] 1 2 3 4 5 6 7 8",
              "uint8[2,2,2] 1 2 5 6 3 4 7 8");
    ops_check(KOP_Transpose, "perm=[1,0]", "f32[?,3]", "f32[3,?]");
    ops_refuse(KOP_Transpose, "perm=[0,0]", "f32[2,3]", 1, BAD, "permutation");
    ops_refuse(KOP_Transpose, "perm=[0]", "f32[2,3]", 1, BAD, "perm has 1");
}

KTEST(ops_layout, depth_and_space)
{
    ops_check(KOP_DepthToSpace, "blocksize=2", "f32[1,8,1,1] 0 1 2 3 4 5 6 7",
              "f32[1,2,2,2] 0 2 4 6 1 3 5 7");
    ops_check(KOP_DepthToSpace, "blocksize=2 mode='CRD'", "f32[1,8,1,1] 0 1 2 3 4 5 6 7",
              "f32[1,2,2,2] 0 1 2 3 4 5 6 7");
    ops_check(KOP_SpaceToDepth, "blocksize=2", "f32[1,2,2,2] 0 2 4 6 1 3 5 7",
              "f32[1,8,1,1] 0 1 2 3 4 5 6 7");
    ops_check(KOP_DepthToSpace, "blocksize=2", "f32[?,8,1,?]", "f32[?,2,2,?]");
    ops_refuse(KOP_DepthToSpace, "blocksize=3", "f32[1,8,1,1]", 1, BAD, "multiple of 9");
    ops_refuse(KOP_SpaceToDepth, "blocksize=0", "f32[1,8,1,1]", 1, BAD, "blocksize 0");
    ops_refuse(KOP_DepthToSpace, "blocksize=2 mode='X'", "f32[1,4,1,1]", 1, BAD, "mode");
}

KTEST(ops_layout, concat_and_split)
{
    ops_check(KOP_Concat, "axis=1", "f32[2,1] 1 2 ; f32[2,2] 3 4 5 6", "f32[2,3] 1 3 4 2 5 6");
    ops_check(KOP_Concat, "axis=-1", "f32[2,1] ; f32[?,2] ; f32[2,?]", "f32[2,?]");
    ops_refuse(KOP_Concat, "", "f32[1] ; f32[1]", 1, BAD, "axis is required");
    ops_refuse(KOP_Concat, "axis=0", "f32[1,2] ; f32[1,3]", 1, BAD, "dimension 1");
    ops_refuse(KOP_Concat, "axis=0", "f32[1,2] ; f32[2]", 1, BAD, "rank 1");
    ops_refuse(KOP_Concat, "axis=0", "f32[1] ; int32[1]", 1, BAD, "one type");
    ops_check(KOP_Split, "axis=1", "f32[2,3] 1 2 3 4 5 6 ; int64[2] 1 2",
              "f32[2,1] 1 4 ; f32[2,2] 2 3 5 6");
    ops_check(KOP_Split, "", "f32[5] 1 2 3 4 5", "f32[3] 1 2 3 ; f32[2] 4 5");
    ops_check(KOP_Split, "", "f32[?] ", "f32[?] ; f32[?]");
    ops_refuse(KOP_Split, "", "f32[3] ; int64[2] 1 1", 2, BAD, "adds up to 2");
    ops_refuse(KOP_Split, "", "f32[3] ; int64[2] 1 2", 3, BAD, "2 values for 3");
    ops_refuse(KOP_Split, "", "f32[3] ; int64[2] 4 -1", 2, BAD, "-1");
}

KTEST(ops_layout, slice)
{
    const char *x = "f32[2,3] 1 2 3 4 5 6 ; ";
    char in[200];
#define SLICE(rest) (snprintf(in, sizeof in, "%s%s", x, rest), in)
    ops_check(KOP_Slice, "", SLICE("int64[2] 0 1 ; int64[2] 2 3"), "f32[2,2] 2 3 5 6");
    ops_check(KOP_Slice, "", SLICE("int64[1] -2 ; int64[1] 1000 ; int64[1] 1"), "f32[2,2] 2 3 5 6");
    ops_check(KOP_Slice, "", SLICE("int64[1] -1 ; int64[1] -1000 ; int64[1] 1 ; int64[1] -2"),
              "f32[2,2] 3 1 6 4");
    ops_check(KOP_Slice, "", SLICE("int64[1] 2 ; int64[1] 1 ; int64[1] 1"), "f32[2,0]");
    ops_check(KOP_Slice, "",
              SLICE("int64[1] 0 ; int64[1] 9223372036854775807 ; int64[1] 0 ; "
                    "int64[1] 9223372036854775807"),
              "f32[1,3] 1 2 3");
    ops_check(KOP_Slice, "",
              SLICE("int64[1] 1 ; int64[1] -9223372036854775808 ; int64[1] 0 ; "
                    "int64[1] -9223372036854775808"),
              "f32[1,3] 4 5 6");
    ops_refuse(KOP_Slice, "", SLICE("int64[1] 0 ; int64[1] 1 ; int64[1] 0 ; int64[1] 0"), 1, BAD,
               "step is 0");
    ops_refuse(KOP_Slice, "", SLICE("int64[1] 0 ; int64[1] 1 ; int64[1] 5"), 1, BAD, "axes: 5");
    ops_refuse(KOP_Slice, "", SLICE("int64[1] 0 ; int64[2] 1 1"), 1, BAD, "starts has 1");
#undef SLICE
    ops_check(KOP_Slice, "", "f32[?,3] ; int64[1] 1 ; int64[1] 2 ; int64[1] 1", "f32[?,1]");
    ops_check(KOP_Slice, "", "f32[2,3] ; int64[1] ; int64[1] 2", "f32[?,?]");
}

KTEST(ops_layout, trilu)
{
    ops_check(KOP_Trilu, "", "f32[2,3] 1 2 3 4 5 6", "f32[2,3] 1 2 3 0 5 6");
    ops_check(KOP_Trilu, "upper=0", "f32[2,3] 1 2 3 4 5 6 ; int64[] 1", "f32[2,3] 1 2 0 4 5 6");
    ops_check(KOP_Trilu, "", "f32[2,2] 1 2 3 4 ; int64[] -9", "f32[2,2] 1 2 3 4");
    ops_check(KOP_Trilu, "upper=0", "f32[2,2] 1 2 3 4 ; int64[] 9223372036854775807",
              "f32[2,2] 1 2 3 4");
    ops_refuse(KOP_Trilu, "", "f32[2]", 1, BAD, "no matrix");
}

KTEST(ops_layout, pad)
{
    ops_check(KOP_Pad, "", "f32[1,2] 1 2 ; int64[4] 0 1 1 2 ; f32[] 9",
              "f32[2,5] 9 1 2 9 9 9 9 9 9 9");
    ops_check(KOP_Pad, "mode='reflect'", "f32[3] 1 2 3 ; int64[2] 2 3", "f32[8] 3 2 1 2 3 2 1 2");
    ops_check(KOP_Pad, "mode='edge'", "f32[2] 1 2 ; int64[2] 1 2", "f32[5] 1 1 2 2 2");
    ops_check(KOP_Pad, "mode='wrap'", "f32[3] 1 2 3 ; int64[2] 2 1", "f32[6] 2 3 1 2 3 1");
    ops_check(KOP_Pad, "", "f32[4] 1 2 3 4 ; int64[2] -1 -2", "f32[1] 2");
    ops_check(KOP_Pad, "", "f32[1,2] 1 2 ; int64[2] 1 0 ; - ; int64[1] -1", "f32[1,3] 0 1 2");
    ops_check(KOP_Pad, "", "f32[?,2] ; int64[4] 0 1 0 1", "f32[?,4]");
    ops_refuse(KOP_Pad, "", "f32[2] ; int64[3] 1 1 1", 1, BAD, "pads has 3");
    ops_refuse(KOP_Pad, "", "f32[2] ; int64[2] -3 0", 1, BAD, "cannot be padded");
    ops_refuse(KOP_Pad, "mode='edge'", "f32[0] ; int64[2] 1 0", 1, BAD, "empty");
    ops_refuse(KOP_Pad, "mode='x'", "f32[2] ; int64[2] 0 0", 1, BAD, "mode 'x'");
}

KTEST(ops_gather, gather)
{
    ops_check(KOP_Gather, "", "f32[2,2] 1 2 3 4 ; int64[2] 1 -2", "f32[2,2] 3 4 1 2");
    ops_check(KOP_Gather, "axis=1", "f32[2,2] 1 2 3 4 ; int32[] 1", "f32[2] 2 4");
    ops_check(KOP_Gather, "axis=1", "f32[?,4] ; int64[2,?]", "f32[?,2,?]");
    ops_refuse(KOP_Gather, "", "f32[2] 1 2 ; int64[1] 2", 1, KAENA_OUT_OF_RANGE, "index 2");
    ops_refuse(KOP_Gather, "", "f32[2] 1 2 ; int64[1] -3", 1, KAENA_OUT_OF_RANGE, "index -3");
    ops_refuse(KOP_Gather, "axis=1", "f32[2] ; int64[1]", 1, BAD, "axis 1");
    ops_refuse(KOP_Gather, "", "f32[2] ; f32[1]", 1, KAENA_UNIMPLEMENTED, "input 1");
    ops_check(KOP_GatherElements, "axis=1", "f32[2,2] 1 2 3 4 ; int64[2,2] 0 0 -1 0",
              "f32[2,2] 1 1 4 3");
    ops_refuse(KOP_GatherElements, "", "f32[2,1] ; int64[2,2]", 1, BAD, "dimension 1");
    ops_check(KOP_GatherND, "", "f32[2,2] 1 2 3 4 ; int64[2,2] 0 0 1 -1", "f32[2] 1 4");
    ops_check(KOP_GatherND, "batch_dims=1", "f32[2,2] 1 2 3 4 ; int64[2,1] 1 0", "f32[2] 2 3");
    ops_refuse(KOP_GatherND, "", "f32[2] ; int64[1,2] 0 0", 1, BAD, "tuples of 2");
    ops_refuse(KOP_GatherND, "", "f32[2] 1 2 ; int64[1,1] 5", 1, KAENA_OUT_OF_RANGE, "index 5");
}

KTEST(ops_gather, scatter)
{
    ops_check(KOP_ScatterElements, "axis=1", "f32[1,3] 1 2 3 ; int64[1,2] 1 -1 ; f32[1,2] 8 9",
              "f32[1,3] 1 8 9");
    ops_check(KOP_ScatterElements, "reduction='add'", "f32[2] 1 2 ; int64[2] 1 1 ; f32[2] 8 9",
              "f32[2] 1 19");
    ops_check(KOP_ScatterElements, "reduction='max'", "int8[2] 1 2 ; int64[2] 0 1 ; int8[2] -8 9",
              "int8[2] 1 9");
    ops_refuse(KOP_ScatterElements, "", "f32[2] 1 2 ; int64[1] 2 ; f32[1] 0", 1, KAENA_OUT_OF_RANGE,
               "index 2");
    ops_refuse(KOP_ScatterElements, "reduction='x'", "f32[2] ; int64[1] ; f32[1]", 1, BAD,
               "reduction 'x'");
    ops_check(KOP_ScatterND, "", "f32[2,2] 1 2 3 4 ; int64[1,1] 1 ; f32[1,2] 8 9",
              "f32[2,2] 1 2 8 9");
    ops_check(KOP_ScatterND, "reduction='mul'", "f32[2] 1 2 ; int64[2,1] 1 1 ; f32[2] 3 5",
              "f32[2] 1 30");
    ops_refuse(KOP_ScatterND, "", "f32[2,2] ; int64[1,1] ; f32[1,3]", 1, BAD, "do not fit");
}

KTEST(ops_fill, constants)
{
    ops_check(KOP_ConstantOfShape, "", "int64[2] 1 2", "f32[1,2] 0 0");
    ops_check(KOP_ConstantOfShape, "value={int8[1] 5}", "int64[1] 2", "int8[2] 5 5");
    ops_check(KOP_ConstantOfShape, "", "int64[0]", "f32[] 0");
    ops_check(KOP_ConstantOfShape, "", "int64[3]", "f32[?,?,?]");
    ops_refuse(KOP_ConstantOfShape, "", "int64[1] -1", 1, BAD, "-1");
    ops_refuse(KOP_ConstantOfShape, "value={int8[2] 5 5}", "int64[1] 2", 1, BAD, "one element");
    ops_check(KOP_Range, "", "f32[] 1 ; f32[] 5 ; f32[] 1.5", "f32[3] 1 2.5 4");
    ops_check(KOP_Range, "", "int32[] 10 ; int32[] 4 ; int32[] -3", "int32[2] 10 7");
    ops_check(KOP_Range, "", "int64[] 5 ; int64[] 5 ; int64[] 1", "int64[0]");
    ops_check(KOP_Range, "", "int64[] ; int64[] 5 ; int64[] 1", "int64[?]");
    ops_refuse(KOP_Range, "", "int64[] 1 ; int64[] 5 ; int64[] 0", 1, BAD, "step");
    ops_refuse(KOP_Range, "", "f32[] 1 ; f32[] inf ; f32[] 1", 1, BAD, "too many");
    ops_check(KOP_EyeLike, "k=1", "f32[2,3] 0 0 0 0 0 0", "f32[2,3] 0 1 0 0 0 1");
    ops_check(KOP_EyeLike, "dtype=7", "f32[1,1] 0", "int64[1,1] 1");
    ops_check(KOP_OneHot, "", "int64[2] 1 -1 ; int64[] 3 ; f32[2] 0 5", "f32[2,3] 0 5 0 0 0 5");
    ops_check(KOP_OneHot, "axis=0", "int64[2] 1 9 ; int64[] 3 ; f32[2] 0 5",
              "f32[3,2] 0 0 5 0 0 0");
    ops_refuse(KOP_OneHot, "", "int64[2] ; int64[] 0 ; f32[2]", 1, BAD, "depth 0");
}

KTEST(ops_select, data_dependent_sizes)
{
    ops_check(KOP_NonZero, "", "f32[2,2] 1 0 nan 3", "int64[2,3] 0 1 1 0 0 1");
    ops_check(KOP_NonZero, "", "f32[2,2]", "int64[2,?]");
    ops_check(KOP_Compress, "axis=1", "f32[2,3] 1 2 3 4 5 6 ; bool[2] 0 1", "f32[2,1] 2 5");
    ops_check(KOP_Compress, "", "f32[2,2] 1 2 3 4 ; bool[4] 1 0 0 1", "f32[2] 1 4");
    ops_check(KOP_Unique, "", "f32[5] 2 1 1 3 2",
              "f32[3] 1 2 3 ; int64[3] 1 0 3 ; int64[5] 1 0 0 2 1 ; int64[3] 2 2 1");
    ops_check(KOP_Unique, "sorted=0", "int8[4] 2 -1 -1 2",
              "int8[2] 2 -1 ; int64[2] 0 1 ; int64[4] 0 1 1 0 ; int64[2] 2 2");
    ops_check(KOP_Unique, "axis=0", "f32[3,2] 1 0 1 0 2 3", "f32[2,2] 1 0 2 3");
}

KTEST(ops_select, order)
{
    ops_check(KOP_TopK, "", "f32[4] 1 4 2 4 ; int64[1] 3", "f32[3] 4 4 2 ; int64[3] 1 3 2");
    ops_check(KOP_TopK, "largest=0 axis=0", "uint64[3] 18446744073709551615 5 6 ; int64[1] 2",
              "uint64[2] 5 6 ; int64[2] 1 2");
    ops_check(KOP_TopK, "", "f32[2,5] ; int64[1]", "f32[2,?] ; int64[2,?]");
    ops_refuse(KOP_TopK, "", "f32[2] ; int64[1] 3", 2, BAD, "K must be");
    ops_check(KOP_ArgMax, "axis=1", "f32[2,3] 1 3 3 5 4 0", "int64[2,1] 1 0");
    ops_check(KOP_ArgMax, "axis=1 keepdims=0 select_last_index=1", "f32[2,3] 1 3 3 5 4 0",
              "int64[2] 2 0");
    ops_check(KOP_ArgMin, "", "int8[3] 1 -1 0", "int64[1] 1");
    ops_refuse(KOP_ArgMin, "", "f32[0,2]", 1, BAD, "empty");
    ops_check(KOP_ReverseSequence, "batch_axis=0 time_axis=1",
              "f32[2,3] 1 2 3 4 5 6 ; int64[2] 2 3", "f32[2,3] 2 1 3 6 5 4");
    ops_refuse(KOP_ReverseSequence, "", "f32[2,1] 1 2 ; int64[1] 3", 1, KAENA_OUT_OF_RANGE,
               "length of 3");
}

/* Large enough that loops over tiles and their rests run, in every size of an element. */
KTEST(ops_layout, transposes_of_all_sizes)
{
    static const kaena_dtype types[] = {KAENA_I8, KAENA_F16, KAENA_F32, KAENA_I64, KAENA_STRING};
    const int64_t rows = 19, columns = 35;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        size_t size = kaena_dtype_size(types[t]);
        ops_call *c = malloc(sizeof *c);
        ops_prepare(c, KOP_Transpose, "perm=[1,2,0]", "f32[19,5,7]");
        c->in[0].dtype = types[t];
        c->in[0].data = kaena_arena_array(&c->arena, (size_t)(rows * columns), size);
        unsigned char *in = c->in[0].data;
        for (size_t i = 0; i < (size_t)(rows * columns) * size; i++)
            in[i] = (unsigned char)(i * 7 + i / 251);
        c->call.n_out = 1;
        c->call.env = &c->env;
        cr_assert_eq(kop_eval(&c->call), KAENA_OK, "%s", c->err.what);
        const unsigned char *out = c->out[0].data;
        for (int64_t i = 0; i < rows * columns; i++)
            cr_assert_eq(memcmp(out + (size_t)i * size,
                                in + (size_t)(i % rows * columns + i / rows) * size, size),
                         0, "%s, element %d", kaena_dtype_name(types[t]), (int)i);
        kaena_arena_fini(&c->arena);
        free(c);
    }
}

KTEST(ops_cast, cast)
{
    ops_check(KOP_Cast, "to=2", "f32[4] -1 1.9 300 nan", "uint8[4] 0 1 255 0");
    ops_check(KOP_Cast, "to=9", "f32[3] 0 0.5 nan", "bool[3] 0 1 1");
    ops_check(KOP_Cast, "to=10", "f32[?]", "float16[?]");
    ops_check(KOP_CastLike, "", "int8[1] -1 ; f32[1] 0", "f32[1] -1");
    ops_refuse(KOP_Cast, "", "f32[1]", 1, BAD, "'to'");
    ops_refuse(KOP_Cast, "to=23", "f32[1]", 1, KAENA_UNIMPLEMENTED, "23");
    ops_refuse(KOP_Cast, "to=99", "f32[1]", 1, KAENA_UNIMPLEMENTED, "99");
}

KTEST(ops_cast, quantise)
{
    ops_check(KOP_QuantizeLinear, "", "f32[4] -3 1 3 1000 ; f32[] 2 ; uint8[] 10",
              "uint8[4] 8 10 12 255");
    ops_check(KOP_QuantizeLinear, "axis=1", "f32[1,2] 3 3 ; f32[2] 1 3 ; int8[2] 0 -1",
              "int8[1,2] 3 0");
    ops_check(KOP_DequantizeLinear, "", "uint8[2] 8 12 ; f32[] 0.5 ; uint8[] 10", "f32[2] -1 1");
    ops_check(KOP_DequantizeLinear, "axis=0 block_size=2", "int8[3,1] 2 4 6 ; f32[2,1] 0.5 2",
              "f32[3,1] 1 2 12");
    ops_refuse(KOP_QuantizeLinear, "", "f32[1,3] ; f32[2] ; uint8[2]", 1, BAD, "axis 1");
    ops_refuse(KOP_DequantizeLinear, "", "f32[1] ; f32[]", 1, KAENA_UNIMPLEMENTED, "float32");
    ops_check(KOP_DynamicQuantizeLinear, "", "f32[3] 0 5.1 -0",
              "uint8[3] 0 255 0 ; f32[] 0.02 ; uint8[] 0");
}
