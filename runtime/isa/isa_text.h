/* What printing and assembling share. */
#ifndef KISA_TEXT_H
#define KISA_TEXT_H

#include "dtype.h"

/* "bf16": the row's name in dtype.def in small letters; a number where there is no row. |buf| is
 * used for the text. */
const char *kisa_dtype_text(kaena_dtype t, char buf[8]);

#endif
