/* Whole files: mapped for reading, written atomically. */
#ifndef KAENA_BASE_FILE_H
#define KAENA_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

/* A file mapped read-only. |data| is NULL for an empty file. */
typedef struct kaena_file {
    const uint8_t *data;
    size_t size;
} kaena_file;

/* Maps a regular file; "file://" before the path is understood.
 * NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (not a regular file), INTERNAL: the message names
 * the file. */
kaena_status kaena_file_open(const char *path, kaena_file *out, kaena_err *err) KAENA_CHECKED;
void kaena_file_close(kaena_file *file);

/* Makes an empty file beside |path| that rename(2) puts in its place when it is whole: its name
 * into |temp| [PATH_MAX], open for writing in |*fd|. INVALID_ARGUMENT: |path| is something other
 * than a regular file (a device, a directory), which must not be replaced. */
kaena_status kaena_file_temp(const char *path, char *temp, int *fd, kaena_err *err) KAENA_CHECKED;

/* Writes |path| through a temporary file beside it and a rename: the file is there whole or not at
 * all. RESOURCE_EXHAUSTED: disk full. */
kaena_status kaena_file_write(const char *path, const void *data, size_t size,
                              kaena_err *err) KAENA_CHECKED;

/* The path inside a file:// URI, or |path| itself. */
const char *kaena_path_of_uri(const char *path);

/* Maps errno to a status: ENOENT NOT_FOUND, EACCES PERMISSION_DENIED, ENOSPC/EMFILE/ENOMEM
 * RESOURCE_EXHAUSTED, else INTERNAL. */
kaena_status kaena_status_of_errno(int e);

#endif
