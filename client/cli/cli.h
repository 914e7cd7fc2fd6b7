/* What the commands of kaena-cli share. */
#ifndef KAENA_CLI_H
#define KAENA_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "dtype.h"
#include "err.h"
#include "kaena/client.h"
#include "shape.h"

/* Exit statuses. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* One command: a row of the table in kaena_cli.c. */
typedef struct cli_command {
    const char *name;
    int (*run)(const struct cli_command *self, int argc, char **argv); /* argv[0] is the command */
    const char *arguments;
    const char *help;
} cli_command;

int cli_devices(const cli_command *self, int argc, char **argv);
int cli_models(const cli_command *self, int argc, char **argv);
int cli_groups(const cli_command *self, int argc, char **argv);
int cli_load(const cli_command *self, int argc, char **argv);
int cli_unload(const cli_command *self, int argc, char **argv);
int cli_infer(const cli_command *self, int argc, char **argv);
int cli_bench(const cli_command *self, int argc, char **argv);
int cli_stats(const cli_command *self, int argc, char **argv);

/* Prints "kaena-cli: <what>" and the hint; gives CLI_FAILED. */
int cli_fail(const kaena_err *err);
/* Prints what is wrong with the command line and the command's arguments; gives CLI_USAGE.
 * |problem| may be NULL where getopt has spoken already. */
int cli_misused(const cli_command *self, const char *problem);

/* A client for the address of --address, in the terms of the command line. NULL: the failure is
 * printed. */
kaena_client *cli_connect(void);
/* The same, sharing memory with daemons of this machine. */
kaena_client *cli_connect_sharing(void);

/* The options of listings: --json. False: misused. */
bool cli_listing_options(const cli_command *self, int argc, char **argv, bool *out_json);
/* Takes |root|, NULL = it could not be made; gives the exit status. */
int cli_print_json(json_t *root);
void cli_say_unreachable(size_t count);
void cli_print_tensors(const char *title, const kaena_tensor_info *tensors, size_t count);

/* A whole number >= |least|; false: it is not one. */
bool cli_number(const char *text, long least, long *out);

/* "float32[1,3,224,224]". 224 bytes always suffice. */
#define CLI_TENSOR_TEXT 224
const char *cli_tensor_text(const kaena_tensor_info *t, char *buf, size_t size);
/* "1.5 MiB". 32 bytes always suffice. */
#define CLI_BYTES_TEXT 32
const char *cli_bytes_text(unsigned long long bytes, char *buf, size_t size);
const char *cli_state_text(kaena_model_state state);

/* "DIR/NAME.3.npy", item 3 of the sequence DIR/NAME.npy; false: too long. */
bool cli_item_path(const char *path, size_t item, char *buf, size_t size);

/* The inputs of a model, each with a buffer of the CLI's. */
typedef struct cli_inputs {
    kaena_tensor *tensors; /* names belong to the model */
    size_t count;
} cli_inputs;

/* Reads the inputs of |model| from arguments "name=file.npy", the name optional where there is one
 * input. float32 files serve bfloat16 inputs, for which .npy has no type. A sequence x=s.npy is in
 * s.0.npy, s.1.npy and so on; "x=" is an empty sequence or optional. */
kaena_status cli_inputs_read(const kaena_model_info *model, char *const *arguments, size_t count,
                             cli_inputs *out, kaena_err *err) KAENA_CHECKED;
/* Makes them up: floats in [0,1), small integers, no strings. */
kaena_status cli_inputs_random(const kaena_model_info *model, unsigned seed, cli_inputs *out,
                               kaena_err *err) KAENA_CHECKED;
void cli_inputs_fini(cli_inputs *inputs);

#endif
