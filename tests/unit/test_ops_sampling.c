/* Operators at computed places: grids, unpooling, columns, deformed windows, regions. */
#include "ops_fixture.h"

#define BAD KAENA_INVALID_ARGUMENT

KTEST(ops_sampling, grid_sample_modes)
{
    const char *row = "f32[1,1,1,4] 1 2 3 4 ; f32[1,1,3,2] -1 0 0 0 0.5 0";
    ops_check(KOP_GridSample, "align_corners=1", row, "f32[1,1,1,3] 1 2.5 3.25");
    ops_check(KOP_GridSample, "align_corners=1 mode='nearest'", row, "f32[1,1,1,3] 1 3 3");
    ops_check(KOP_GridSample, "", row, "f32[1,1,1,3] 0.5 2.5 3.5");
    ops_check(KOP_GridSample, "padding_mode='border'", row, "f32[1,1,1,3] 1 2.5 3.5");
    ops_check(KOP_GridSample, "mode='cubic' align_corners=1 padding_mode='border'", row,
              "f32[1,1,1,3] 1 2.5 3.33203125");
    /* One spatial dimension, and three. */
    ops_check(KOP_GridSample, "align_corners=1", "f32[1,1,3] 1 2 4 ; f32[1,2,1] 0.5 -1",
              "f32[1,1,2] 3 1");
    ops_check(KOP_GridSample, "align_corners=1",
              "f32[1,1,2,1,2] 1 2 5 6 ; f32[1,1,1,2,3] 0 0 0 1 0 -1", "f32[1,1,1,1,2] 3.5 2");
}

KTEST(ops_sampling, grid_sample_padding)
{
    const char *far = "f32[1,1,1,3] 1 2 3 ; f32[1,1,4,2] 2 0 -3 0 nan 0 inf 0";
    ops_check(KOP_GridSample, "mode='nearest' align_corners=1", far, "f32[1,1,1,4] 0 0 0 0");
    ops_check(KOP_GridSample, "mode='nearest' align_corners=1 padding_mode='border'",
              "f32[1,1,1,3] 1 2 3 ; f32[1,1,2,2] 2 0 -3 0", "f32[1,1,1,2] 3 1");
    /* At 3 and -2 of three elements: one mirror each. */
    ops_check(KOP_GridSample, "mode='nearest' align_corners=1 padding_mode='reflection'",
              "f32[1,1,1,3] 1 2 3 ; f32[1,1,2,2] 2 0 -3 0", "f32[1,1,1,2] 2 3");
}

KTEST(ops_sampling, grid_sample_inference_and_refusals)
{
    ops_check(KOP_GridSample, "", "f32[2,3,?,5] ; f32[2,7,?,2]", "f32[2,3,7,?]");
    ops_check(KOP_GridSample, "", "f32* ; f32[2,7,?,2]", "f32*");
    ops_refuse(KOP_GridSample, "mode='bilinear'", "f32[1,1,2,2] ; f32[1,1,1,2]", 1, BAD,
               "'bilinear'");
    ops_refuse(KOP_GridSample, "", "f32[1,1,2,2] ; f32[1,1,1,3]", 1, BAD, "the grid must be");
    ops_refuse(KOP_GridSample, "", "f32[1,1,2,2] ; f32[2,1,1,2]", 1, BAD, "the grid must be");
    ops_refuse(KOP_GridSample, "", "f32[1,1,0,2] ; f32[1,1,1,2]", 1, BAD, "cannot be sampled");
}

KTEST(ops_sampling, affine_grid)
{
    ops_check(KOP_AffineGrid, "align_corners=1", "f32[1,2,3] 1 0 0.5 0 2 0 ; int64[4] 1 1 2 2",
              "f32[1,2,2,2] -0.5 -2 1.5 -2 -0.5 2 1.5 2");
    ops_check(KOP_AffineGrid, "", "f32[1,2,3] 1 0 0 0 1 0 ; int64[4] 1 3 1 2",
              "f32[1,1,2,2] -0.5 0 0.5 0");
    ops_check(KOP_AffineGrid, "", "f32[1,3,4] 1 0 0 0 0 1 0 0 0 0 1 0 ; int64[5] 1 1 2 1 1",
              "f32[1,2,1,1,3] 0 0 -0.5 0 0 0.5");
    ops_check(KOP_AffineGrid, "", "f32[1,2,3] ; int64[4]", "f32[?,?,?,2]");
    ops_refuse(KOP_AffineGrid, "", "f32[1,2,3] 1 0 0 0 1 0 ; int64[3] 1 1 2", 1, BAD, "theta");
    ops_refuse(KOP_AffineGrid, "", "f32[1,2,3] 1 0 0 0 1 0 ; int64[4] 2 1 2 2", 1, BAD, "theta");
}

KTEST(ops_sampling, max_unpool)
{
    const char *attrs = "kernel_shape=[2,2] strides=[2,2]";
    ops_check(KOP_MaxUnpool, attrs, "f32[1,1,1,2] 5 6 ; int64[1,1,1,2] 1 6",
              "f32[1,1,2,4] 0 5 0 0 0 0 6 0");
    /* Indices count in the size before output_shape extends it. */
    ops_check(KOP_MaxUnpool, attrs, "f32[1,1,1,2] 5 6 ; int64[1,1,1,2] 1 6 ; int64[4] 1 1 2 5",
              "f32[1,1,2,5] 0 5 0 0 0 0 0 6 0 0");
    ops_check(KOP_MaxUnpool, attrs, "f32[2,?,3,?] ; int64*", "f32[2,?,6,?]");
    ops_refuse(KOP_MaxUnpool, attrs, "f32[1,1,1,1] 5 ; int64[1,1,1,1] 4", 1, KAENA_OUT_OF_RANGE,
               "index 4");
    ops_refuse(KOP_MaxUnpool, attrs, "f32[1,1,1,1] ; int64[1,1,1,1] ; int64[4] 1 1 1 2", 1, BAD,
               "output_shape says 1");
    ops_refuse(KOP_MaxUnpool, "", "f32[1,1,1,1] ; int64[1,1,1,1]", 1, BAD, "kernel_shape");
}

KTEST(ops_sampling, col2im)
{
    /* Blocks of two, side by side and overlapping. */
    ops_check(KOP_Col2Im, "strides=[2]", "f32[1,2,2] 1 2 3 4 ; int64[1] 4 ; int64[1] 2",
              "f32[1,1,4] 1 3 2 4");
    ops_check(KOP_Col2Im, "", "f32[1,2,2] 1 2 3 4 ; int64[1] 3 ; int64[1] 2", "f32[1,1,3] 1 5 4");
    ops_check(KOP_Col2Im, "pads=[1,1]", "f32[1,2,2] 1 2 3 4 ; int64[1] 1 ; int64[1] 2",
              "f32[1,1,1] 5");
    ops_check(KOP_Col2Im, "dilations=[2]", "int32[1,2,1] 1 2 ; int64[1] 3 ; int64[1] 2",
              "int32[1,1,3] 1 0 2");
    ops_check(KOP_Col2Im, "", "f32[2,?,?] ; int64[2] 4 5 ; int64[2] 2 3", "f32[2,?,4,5]");
    ops_refuse(KOP_Col2Im, "", "f32[1,3,2] ; int64[1] 3 ; int64[1] 2", 1, BAD, "are not blocks");
    ops_refuse(KOP_Col2Im, "", "f32[1,2,2] ; int64[1] 3 ; int64[2] 2 2", 1, BAD, "one length");
}

KTEST(ops_sampling, center_crop_pad)
{
    ops_check(KOP_CenterCropPad, "", "f32[2,3] 1 2 3 4 5 6 ; int64[2] 1 4", "f32[1,4] 1 2 3 0");
    ops_check(KOP_CenterCropPad, "axes=[-1]", "int8[2,4] 1 2 3 4 5 6 7 8 ; int64[1] 1",
              "int8[2,1] 2 6");
    ops_check(KOP_CenterCropPad, "axes=[0]", "f32[5] 1 2 3 4 5 ; int64[1] 8",
              "f32[8] 0 1 2 3 4 5 0 0");
    ops_check(KOP_CenterCropPad, "axes=[0]", "f32[5,2] ; int64[1]", "f32[?,2]");
    ops_refuse(KOP_CenterCropPad, "axes=[2]", "f32[5,2] ; int64[1] 1", 1, BAD, "not an axis");
    ops_refuse(KOP_CenterCropPad, "", "f32[5,2] ; int64[1] 1", 1, BAD, "1 sizes for 2 axes");
    ops_refuse(KOP_CenterCropPad, "", "f32[5] ; int64[1] -1", 1, BAD, "-1");
}

KTEST(ops_sampling, deform_conv)
{
    const char *still = "f32[1,1,2,2] 1 2 3 4 ; f32[1,1,1,1] 2 ; f32[1,2,2,2] 0 0 0 0 0 0 0 0";
    const char *half = "f32[1,1,2,2] 1 2 3 4 ; f32[1,1,1,1] 2 ; f32[1,2,2,2] 0.5 0 0 0 0 0 0 0 ; "
                       "f32[1] 1 ; f32[1,1,2,2] 1 0 1 0.5";
    ops_check(KOP_DeformConv, "", still, "f32[1,1,2,2] 2 4 6 8");
    ops_check(KOP_DeformConv, "", half, "f32[1,1,2,2] 5 1 7 5");
    ops_check(KOP_DeformConv, "pads=[1,1,1,1]", "f32[1,2,4,4] ; f32[3,2,3,3] ; f32[1,18,4,4]",
              "f32[1,3,4,4]");
    ops_refuse(KOP_DeformConv, "", "f32[1,2,4,4] ; f32[3,2,3,3] ; f32[1,9,2,2]", 1, BAD, "offsets");
    ops_refuse(KOP_DeformConv, "group=2", "f32[1,2,4,4] ; f32[3,2,3,3] ; f32[1,18,2,2]", 1, BAD,
               "groups");
    ops_refuse(KOP_DeformConv, "", "f32[1,2,4] ; f32[3,2,3] ; f32[1,18,2]", 1, KAENA_UNIMPLEMENTED,
               "rank 3");
}

KTEST(ops_sampling, max_roi_pool)
{
    const char *x = "f32[1,1,3,3] 1 2 3 4 5 6 7 8 9 ; ";
    char in[128];
    (void)snprintf(in, sizeof in, "%sf32[2,5] 0 0 0 2 2 0 0 0 1 0", x);
    ops_check(KOP_MaxRoiPool, "pooled_shape=[1,1]", in, "f32[2,1,1,1] 9 2");
    (void)snprintf(in, sizeof in, "%sf32[1,5] 0 0 0 2 2", x);
    ops_check(KOP_MaxRoiPool, "pooled_shape=[3,1]", in, "f32[1,1,3,1] 3 6 9");
    ops_check(KOP_MaxRoiPool, "pooled_shape=[1,1] spatial_scale=0.5", in, "f32[1,1,1,1] 5");
    (void)snprintf(in, sizeof in, "%sf32[1,5] 1 0 0 2 2", x);
    ops_refuse(KOP_MaxRoiPool, "pooled_shape=[1,1]", in, 1, KAENA_OUT_OF_RANGE, "batch element 1");
    ops_refuse(KOP_MaxRoiPool, "", "f32[1,1,3,3] ; f32[1,5]", 1, BAD, "pooled_shape");
}
