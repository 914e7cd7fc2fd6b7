/* Discrete Fourier transforms, for the operators of signals. */
#ifndef KAENA_OPS_FFT_H
#define KAENA_OPS_FFT_H

#include "ops.h"

typedef struct kop_complex {
    double re, im;
} kop_complex;

/* What transforms of one length share. Everything lives in the environment's arena. */
typedef struct kop_fft {
    size_t n;    /* the length, from 1 up */
    size_t size; /* a power of two: |n|, or that of the convolution that computes it */
    kop_complex *root, *chirp, *chirp_image, *work;
} kop_fft;

kaena_status kop_fft_plan(kop_call *call, size_t n, kop_fft *out) KAENA_CHECKED;
/* v[k] = sum over i of v[i] exp(-2 pi j i k / n), in place, [n]. */
void kop_fft_run(const kop_fft *f, kop_complex *v);

#endif
