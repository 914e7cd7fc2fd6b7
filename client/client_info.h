/* What daemons say about models and devices, in the form of client.h. */
#ifndef KAENA_CLIENT_INFO_H
#define KAENA_CLIENT_INFO_H

#include <stdbool.h>

#include "err.h"
#include "kaena/client.h"
#include "kaena/v1/runtime.pb-c.h"

/* A copy of |model| of the daemon at |address|, freed with kaena_model_info_free. NULL: out of
 * memory.
 */
kaena_model_info *kaena_model_info_from_wire(const Kaena__V1__Model *model, const char *address);

/* Lists that grow. add: false = out of memory; add_model takes |model| (NULL counts as out of
 * memory). */
kaena_model_list *kaena_model_list_create(void);
bool kaena_model_list_add(kaena_model_list *list, kaena_model_info *model);

kaena_device_list *kaena_device_list_create(void);
bool kaena_device_list_add(kaena_device_list *list, const Kaena__V1__ListDevicesResponse *from,
                           const char *address);

#endif
