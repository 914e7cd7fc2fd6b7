/* A set of unique names, by hash: what keeps building linear. */
#ifndef KGR_NAMES_H
#define KGR_NAMES_H

#include "arena.h"

typedef struct kgr_names kgr_names;

/* Memory is |arena|'s; NULL when its quota is reached. */
kgr_names *kgr_names_create(kaena_arena *arena);

/* Enters |name|, or where that is taken |name|_2, _3 ..., for |owner|; returns the copy, NULL when
 * the quota is reached. */
const char *kgr_names_add(kgr_names *names, const char *name, void *owner);
/* "<stem>_<number>" that is not taken, entered. */
const char *kgr_names_make(kgr_names *names, const char *stem, void *owner);
/* The owner of |name|, or NULL. */
void *kgr_names_find(const kgr_names *names, const char *name);
/* Gives an entered name another owner. */
void kgr_names_reown(kgr_names *names, const char *name, void *owner);

#endif
