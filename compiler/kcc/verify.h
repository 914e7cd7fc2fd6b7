/* `--verify`: the compiled model beside the reference evaluation of the model as imported, on the
 * same input. */
#ifndef KCC_VERIFY_H
#define KCC_VERIFY_H

#include "compile.h"

/* Runs both on one seeded input and prints maximum error and cosine per output; where they part by
 * more than the cast mode allows, |*agrees| is false and the first layer that does is named. The
 * compilation has been written. */
kaena_status kcc_verify(const kcc_compilation *c, kaena_strbuf *out, bool *agrees,
                        kaena_err *err) KAENA_CHECKED;

#endif
