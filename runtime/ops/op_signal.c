/* Signals: windows, DFT, STFT, mel weights. */
#include "ops_impl.h"

#include <math.h>

#include "fft.h"

#define TWO_PI 6.283185307179586

/* --- HannWindow, HammingWindow, BlackmanWindow --- */

kaena_status kop_infer_window_function(kop_call *call)
{
    kaena_dtype type;
    kaena_status status;
    kaena_shape shape = kop_shape_1d(KAENA_DIM_UNKNOWN);
    KAENA_TRY(kop_attr_dtype(call, "output_datatype", KAENA_F32, KOP_T_NUM, &type));
    if (kop_in_int(call, 0, &shape.dim[0], &status) && shape.dim[0] < 0)
        return KOP_BAD(call, "a window of %" PRId64 " elements is not possible", shape.dim[0]);
    KAENA_TRY(status);
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_window_function(kop_call *call)
{
    /* Coefficients of 1, cos(t) and cos(2t). */
    static const double hann[] = {0.5, -0.5, 0}, blackman[] = {0.42, -0.5, 0.08};
    static const double hamming[] = {25.0 / 46, -21.0 / 46, 0};
    const double *c = call->op == KOP_HannWindow      ? hann
                      : call->op == KOP_HammingWindow ? hamming
                                                      : blackman;
    kop_tensor *out = &call->out[0];
    size_t n = kop_elements(out);
    bool periodic = kop_attr_int(call, "periodic", 1) != 0;
    double period = periodic ? (double)n : (double)n - 1;
    for (size_t i = 0; i < n; i++) {
        double t = period > 0 ? TWO_PI * (double)i / period : TWO_PI / 2;
        kop_set_float(out, i, c[0] + c[1] * cos(t) + c[2] * cos(2 * t));
        if (i % KOP_CHUNK == 0)
            KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- DFT: along one axis; the last dimension holds real and imaginary part, or the real one alone
 * --- */

/* What inference knows of a DFT; sizes and the axis may be unknown. */
typedef struct dft_plan {
    int32_t axis;   /* -1: not known */
    int64_t length; /* of the transform; KAENA_DIM_UNKNOWN */
    bool inverse, onesided;
} dft_plan;

static kaena_status dft_plan_of(const kop_call *call, dft_plan *out)
{
    const kop_tensor *x = call->in[0];
    kaena_status status;
    int32_t rank = x->shape.rank;
    int64_t axis = -2, length = KAENA_DIM_UNKNOWN;
    dft_plan p = {.axis = -1,
                  .inverse = kop_attr_int(call, "inverse", 0) != 0,
                  .onesided = kop_attr_int(call, "onesided", 0) != 0};
    if (p.inverse && p.onesided)
        return KAENA_FAIL(call->err, UNIMPLEMENTED, "onesided together with inverse");
    if (rank < 2 || x->shape.dim[rank - 1] == 0 || x->shape.dim[rank - 1] > 2)
        return KOP_BAD(call, "the last dimension must be 1 (real) or 2 (complex), behind others");
    if (p.onesided && x->shape.dim[rank - 1] == 2)
        return KOP_BAD(call, "onesided is for real input");
    if (!kop_in(call, 2) || kop_in_int(call, 2, &axis, &status)) {
        if (!kop_axis(axis, rank, &p.axis) || p.axis == rank - 1)
            return KOP_BAD(call, "axis %" PRId64 " is not one of the signal's", axis);
    } else {
        KAENA_TRY(status);
    }
    if (kop_in(call, 1)) {
        if (kop_in_int(call, 1, &length, &status) && (length < 1 || length >= KOP_SIZE_LIMIT))
            return KOP_BAD(call, "a transform of length %" PRId64 " is not possible", length);
        KAENA_TRY(status);
    } else if (p.axis >= 0) {
        length = x->shape.dim[p.axis];
        if (length == 0 || length >= KOP_SIZE_LIMIT)
            return KOP_BAD(call, "a transform of length %" PRId64 " is not possible", length);
    }
    p.length = length;
    *out = p;
    return KAENA_OK;
}

static int64_t bins(int64_t length, bool onesided)
{
    return length < 0 ? KAENA_DIM_UNKNOWN : onesided ? length / 2 + 1 : length;
}

kaena_status kop_infer_dft(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    dft_plan p;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need(call, 1, KOP_T_INDEX));
    KAENA_TRY(kop_need(call, 2, KOP_T_INDEX));
    if (x->unranked) {
        kop_out_unranked(call, 0, x->dtype);
        return KAENA_OK;
    }
    KAENA_TRY(dft_plan_of(call, &p));
    kaena_shape shape = p.axis < 0 ? kop_shape_unknown(x->shape.rank) : x->shape;
    if (p.axis >= 0)
        shape.dim[p.axis] = bins(p.length, p.onesided);
    shape.dim[shape.rank - 1] = 2;
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_dft(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    kop_tensor *out = &call->out[0];
    dft_plan p;
    kop_fft fft;
    if (kop_elements(out) == 0)
        return KAENA_OK;
    KAENA_TRY(dft_plan_of(call, &p));
    size_t n = (size_t)p.length;
    kop_complex *v = kop_alloc(call, n, sizeof *v);
    if (!v)
        return KAENA_RESOURCE_EXHAUSTED;
    KAENA_TRY(kop_fft_plan(call, n, &fft));
    int32_t last = x->shape.rank - 1;
    size_t parts = (size_t)x->shape.dim[last], have = (size_t)x->shape.dim[p.axis];
    size_t inner = (size_t)kop_span(&x->shape, p.axis + 1, last);
    size_t kept = (size_t)out->shape.dim[p.axis], lines = kop_elements(out) / kept / 2;
    double sign = p.inverse ? -1 : 1, scale = p.inverse ? 1 / (double)n : 1;
    for (size_t line = 0; line < lines; line++) {
        size_t from = line / inner * have * inner + line % inner;
        size_t to = line / inner * kept * inner + line % inner;
        for (size_t i = 0; i < n; i++) {
            double pair[2] = {0, 0};
            if (i < have)
                kop_load_f64(x, (from + i * inner) * parts, parts, pair);
            v[i] = (kop_complex){pair[0], sign * pair[1]};
        }
        kop_fft_run(&fft, v);
        for (size_t i = 0; i < kept; i++) {
            double pair[2] = {v[i].re * scale, sign * v[i].im * scale};
            kop_store_f64(out, (to + i * inner) * 2, 2, pair);
        }
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- STFT: DFTs of frames --- */

/* Sizes of an STFT; KAENA_DIM_UNKNOWN where they are not known. */
typedef struct stft_plan {
    int64_t step, length;
    bool onesided;
} stft_plan;

static kaena_status stft_plan_of(const kop_call *call, stft_plan *out)
{
    const kop_tensor *window = kop_in(call, 2), *frame = kop_in(call, 3);
    kaena_status status;
    stft_plan p = {.step = KAENA_DIM_UNKNOWN,
                   .length = KAENA_DIM_UNKNOWN,
                   .onesided = kop_attr_int(call, "onesided", 1) != 0};
    if (!window && !frame)
        return KOP_BAD(call, "a window or the length of the frames is required");
    if (kop_in_int(call, 1, &p.step, &status) && (p.step < 1 || p.step >= KOP_SIZE_LIMIT))
        return KOP_BAD(call, "a step of %" PRId64 " is not possible", p.step);
    KAENA_TRY(status);
    if (window && !window->unranked)
        p.length = window->shape.dim[0];
    if (frame) {
        int64_t length;
        if (kop_in_int(call, 3, &length, &status)) {
            if (p.length >= 0 && p.length != length)
                return KOP_BAD(
                    call, "frames of %" PRId64 " elements and a window of %" PRId64 " do not fit",
                    length, p.length);
            p.length = length;
        }
        KAENA_TRY(status);
    }
    if (p.length != KAENA_DIM_UNKNOWN && (p.length < 1 || p.length >= KOP_SIZE_LIMIT))
        return KOP_BAD(call, "frames of %" PRId64 " elements are not possible", p.length);
    *out = p;
    return KAENA_OK;
}

kaena_status kop_infer_stft(kop_call *call)
{
    const kop_tensor *x = call->in[0];
    stft_plan p;
    KAENA_TRY(kop_need(call, 0, KOP_T_FLOAT));
    KAENA_TRY(kop_need_same(call, 0, 2));
    KAENA_TRY(kop_need_rank(call, 2, 1));
    KAENA_TRY(stft_plan_of(call, &p));
    kaena_shape shape = kop_shape_unknown(4);
    shape.dim[3] = 2;
    shape.dim[2] = bins(p.length, p.onesided);
    if (!x->unranked) {
        if ((x->shape.rank != 2 && x->shape.rank != 3) ||
            (x->shape.rank == 3 && (x->shape.dim[2] == 0 || x->shape.dim[2] > 2)))
            return KOP_BAD(call, "the signal must be [batch, length, 1 or 2]");
        if (x->shape.rank == 3 && x->shape.dim[2] == 2 && p.onesided)
            return KOP_BAD(call, "onesided is for real signals");
        shape.dim[0] = x->shape.dim[0];
        if (x->shape.dim[1] >= 0 && p.length >= 0) {
            int64_t room = x->shape.dim[1] - p.length;
            if (room < 0)
                return KOP_BAD(call, "the signal is shorter than one frame");
            if (p.step > 0)
                shape.dim[1] = room / p.step + 1;
        }
    }
    kop_out(call, 0, x->dtype, &shape);
    return KAENA_OK;
}

kaena_status kop_eval_stft(kop_call *call)
{
    const kop_tensor *x = call->in[0], *window = kop_in(call, 2);
    kop_tensor *out = &call->out[0];
    stft_plan p;
    kop_fft fft;
    if (kop_elements(out) == 0)
        return KAENA_OK;
    KAENA_TRY(stft_plan_of(call, &p));
    size_t n = (size_t)p.length, step = (size_t)p.step, parts = 1;
    if (x->shape.rank == 3)
        parts = (size_t)x->shape.dim[2];
    kop_complex *v = kop_alloc(call, n, sizeof *v);
    double *weight = window && v ? kop_doubles(call, window) : NULL;
    if (!v || (window && !weight))
        return KAENA_RESOURCE_EXHAUSTED;
    KAENA_TRY(kop_fft_plan(call, n, &fft));
    size_t frames = (size_t)out->shape.dim[1], kept = (size_t)out->shape.dim[2];
    for (size_t f = 0; f < (size_t)out->shape.dim[0] * frames; f++) {
        size_t from = f / frames * (size_t)x->shape.dim[1] + f % frames * step;
        for (size_t i = 0; i < n; i++) {
            double pair[2] = {0, 0}, w = weight ? weight[i] : 1;
            kop_load_f64(x, (from + i) * parts, parts, pair);
            v[i] = (kop_complex){pair[0] * w, pair[1] * w};
        }
        kop_fft_run(&fft, v);
        for (size_t i = 0; i < kept; i++)
            kop_store_f64(out, (f * kept + i) * 2, 2, (const double[]){v[i].re, v[i].im});
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}

/* --- MelWeightMatrix: triangles over the bins of a spectrogram --- */

kaena_status kop_infer_mel(kop_call *call)
{
    kaena_dtype type;
    kaena_status status;
    int64_t mels = KAENA_DIM_UNKNOWN, length = KAENA_DIM_UNKNOWN, rate = 1;
    KAENA_TRY(kop_attr_dtype(call, "output_datatype", KAENA_F32, KOP_T_NUM, &type));
    bool ok = !kop_in_int(call, 0, &mels, &status) || (mels >= 0 && mels < KOP_SIZE_LIMIT);
    KAENA_TRY(status);
    ok &= !kop_in_int(call, 1, &length, &status) || (length >= 0 && length < KOP_SIZE_LIMIT);
    KAENA_TRY(status);
    ok &= !kop_in_int(call, 2, &rate, &status) || rate > 0;
    KAENA_TRY(status);
    for (uint32_t i = 3; i < 5; i++) {
        const kop_tensor *t = call->in[i];
        KAENA_TRY(kop_need(call, i, KOP_T_FLOAT));
        if (kop_known(t) && kop_elements(t) != 1)
            return KOP_BAD(call, "input %u must have one element", i);
        if (kop_known(t) && t->data)
            ok &= kop_get_float(t, 0) >= 0 && isfinite(kop_get_float(t, 0));
    }
    if (!ok)
        return KOP_BAD(call, "the numbers of bands and samples, the sample rate and the edges must "
                             "not be negative");
    kaena_shape shape = {.rank = 2, .dim = {bins(length, true), mels}};
    kop_out(call, 0, type, &shape);
    return KAENA_OK;
}

/* The bin in which mel point |i| of mels + 2 lies. */
static int64_t mel_bin(const kop_call *call, int64_t i)
{
    double mels = (double)kop_get_int(call->in[0], 0), length = (double)kop_get_int(call->in[1], 0);
    double low = 2595 * log10(1 + kop_get_float(call->in[3], 0) / 700);
    double high = 2595 * log10(1 + kop_get_float(call->in[4], 0) / 700);
    double mel = (double)i * ((high - low) / (mels + 2)) + low;
    double hertz = 700 * (pow(10, mel / 2595) - 1);
    double bin = floor((length + 1) * hertz / (double)kop_get_int(call->in[2], 0));
    return bin < 0 ? 0 : bin > 0x1p40 ? INT64_C(1) << 40 : (int64_t)bin;
}

kaena_status kop_eval_mel(kop_call *call)
{
    kop_tensor *out = &call->out[0];
    int64_t rows = out->shape.dim[0], mels = out->shape.dim[1];
    for (int64_t m = 0; m < mels; m++) {
        int64_t low = mel_bin(call, m), center = mel_bin(call, m + 1), high = mel_bin(call, m + 2);
        for (int64_t j = low; j < high && j < rows; j++) {
            double rising = (double)(j - low) / (double)(center - low);
            double falling = (double)(high - j) / (double)(high - center);
            kop_set_float(out, (size_t)(j * mels + m), j < center ? rising : falling);
        }
        if (center < rows && (center == high || center == low))
            kop_set_float(out, (size_t)(center * mels + m), 1);
        KAENA_TRY(kop_poll(call));
    }
    return KAENA_OK;
}
