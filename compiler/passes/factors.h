/* Products seen through their nodes: x * 0.5 * (y / 2), however it is associated. For rules that
 * look for patterns. Private to this folder. */
#ifndef KCC_FACTORS_H
#define KCC_FACTORS_H

#include "pass_util.h"

#define KCC_MAX_FACTORS 4

/* c * v[0] * ... * v[n - 1], all of one shape. */
typedef struct kcc_factors {
    double c;
    kgr_value *v[KCC_MAX_FACTORS];
    int n;
} kcc_factors;

/* The node that computes |v|, which nobody but one node reads; NULL otherwise. */
const kgr_node *kcc_sole(const kgr_value *v);

/* What |n|'s result, or |v|, is a product of: looks through Mul, Div by a constant, and Pow by 2
 * and 3 whose results nobody else reads. False: too many factors, or they broadcast. */
bool kcc_factors_of(const kgr_node *n, kcc_factors *out);
bool kcc_factors_of_value(kgr_value *v, kcc_factors *out);

/* |a| is the number |b| as models of type |t| write it. */
bool kcc_near(double a, double b, kaena_dtype t);

#endif
