/* Arrays and lists of tensors (TensorArray, TensorList) as one tensor whose axis 0 counts the
 * elements.
 *
 * The shape of the elements may be known only when the first is written: until then an array is a
 * tensor of the full rank whose dimensions behind the first are all 0, which no array of elements
 * in use has. Arrays of elements of several shapes are not supported. */
#ifndef KCC_TF_ARRAY_H
#define KCC_TF_ARRAY_H

#include "tf_xlat.h"

/* Whether nothing was written yet and the elements' shape is not known. */
bool tf_array_is_fresh(const kop_tensor *t);

/* The fresh array |v| with elements as those of the array |like|, all zero. */
kgr_value *tf_array_settle(tf_xlat *x, kgr_value *v, const kop_tensor *like);

#endif
