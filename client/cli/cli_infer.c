/* infer: files in, files out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"
#include "npy.h"

#define FILE_NAME_BYTES 160
#define PRINTED 5 /* values of an output */

/* The name of an output as a file name: what is not [A-Za-z0-9._-] becomes '_', a long name is cut.
 * Never a path, never hidden, never empty. */
static void file_name(const char *name, char out[FILE_NAME_BYTES])
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = 0;
    for (; name[n] && n < FILE_NAME_BYTES - 1; n++)
        out[n] = strchr(good, name[n]) ? name[n] : '_';
    if (n == 0)
        out[n++] = '_';
    out[n] = 0;
    if (out[0] == '.')
        out[0] = '_';
}

/* File names of all outputs, each its own. */
static void file_names(const kaena_model_info *model, char (*out)[FILE_NAME_BYTES + 16])
{
    for (size_t i = 0; i < model->output_count; i++) {
        char base[FILE_NAME_BYTES];
        file_name(model->outputs[i].name, base);
        strcpy(out[i], base);
        for (unsigned copy = 2;; copy++) {
            bool clash = false;
            for (size_t j = 0; j < i; j++)
                clash = clash || strcmp(out[i], out[j]) == 0;
            if (!clash)
                break;
            (void)snprintf(out[i], sizeof out[i], "%s_%u", base, copy);
        }
    }
}

/* A tensor, or the one in an optional, is a file; a sequence is as many numbered files. */
static kaena_status write_value(const char *path, const kaena_tensor *t, kaena_err *err)
{
    const kaena_tensor *items = t->data;
    kaena_shape shape = {.rank = t->rank};
    if (t->kind == KAENA_TENSOR) {
        memcpy(shape.dim, t->shape, sizeof shape.dim);
        return kaena_npy_write(path, t->dtype, &shape, t->data, err);
    }
    for (size_t i = 0; i < t->bytes / sizeof *items; i++) {
        char item[4096];
        if (!cli_item_path(path, i, item, sizeof item))
            return KAENA_FAIL(err, INVALID_ARGUMENT, "the path '%.200s' is too long", path);
        KAENA_TRY(write_value(t->kind == KAENA_SEQUENCE ? item : path, &items[i], err));
    }
    return KAENA_OK;
}

static kaena_status write_outputs(const kaena_model_info *model, const kaena_tensor *outputs,
                                  const char *dir, kaena_err *err)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "cannot make the directory '%s': %s", dir,
                          strerror(errno));
    char(*names)[FILE_NAME_BYTES + 16] = calloc(model->output_count + 1, sizeof *names);
    if (!names)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    file_names(model, names);
    kaena_status status = KAENA_OK;
    for (size_t i = 0; i < model->output_count && status == KAENA_OK; i++) {
        char path[4096], text[CLI_TENSOR_TEXT];
        int n = snprintf(path, sizeof path, "%s/%s.npy", dir, names[i]);
        if (n < 0 || (size_t)n >= sizeof path) {
            status = KAENA_FAIL(err, INVALID_ARGUMENT, "the path of '%s' is too long", names[i]);
            break;
        }
        status = write_value(path, &outputs[i], err);
        const kaena_tensor_info info = {.shape = outputs[i].shape,
                                        .rank = outputs[i].rank,
                                        .dtype = outputs[i].dtype,
                                        .kind = outputs[i].kind};
        if (status == KAENA_OK)
            printf("%s %s -> %s\n", model->outputs[i].name,
                   cli_tensor_text(&info, text, sizeof text), path);
    }
    free(names);
    return status;
}

/* Prints the range of an output and its largest or first values. */
static void print_output(const char *name, const kaena_tensor *t)
{
    char text[CLI_TENSOR_TEXT];
    const kaena_tensor_info info = {
        .shape = t->shape, .rank = t->rank, .dtype = t->dtype, .kind = t->kind};
    printf("%s %s\n", name, cli_tensor_text(&info, text, sizeof text));
    if (t->kind != KAENA_TENSOR) {
        const kaena_tensor *items = t->data;
        size_t n = t->bytes / sizeof *items;
        if (n == 0)
            printf("  empty\n");
        for (size_t i = 0; i < n; i++) {
            char item[64];
            (void)snprintf(item, sizeof item, " item %zu:", i);
            print_output(item, &items[i]);
        }
        return;
    }
    if (t->dtype == KAENA_STRING) {
        const kaena_string *strings = t->data;
        for (size_t i = 0; i < t->bytes / sizeof *strings && i < PRINTED; i++)
            printf("  [%zu] %.*s\n", i, (int)strings[i].size, strings[i].data);
        return;
    }
    size_t element = kaena_dtype_size(t->dtype), n = t->bytes / element;
    size_t best[PRINTED], count = 0;
    double values[PRINTED] = {0}, least = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        double v;
        kaena_cast(&v, KAENA_F64, (const char *)t->data + i * element, t->dtype, 1);
        least = i == 0 || v < least ? v : least;
        sum += v;
        size_t at = count < PRINTED ? count++ : PRINTED;
        for (; at > 0 && v > values[at - 1]; at--) {
            if (at < PRINTED) {
                values[at] = values[at - 1];
                best[at] = best[at - 1];
            }
        }
        if (at < PRINTED) {
            values[at] = v;
            best[at] = i;
        }
    }
    if (n == 0)
        return;
    printf("  %zu values from %g to %g, mean %g; the largest:\n", n, least, values[0],
           sum / (double)n);
    for (size_t i = 0; i < count; i++)
        printf("  [%zu] %g\n", best[i], values[i]);
}

/* What infer was asked to do with the outputs. */
typedef struct infer_options {
    const char *model, *dir;
    char **inputs;
    size_t input_count;
    long timeout_ms;
    int32_t priority;
    bool print, check_finite;
} infer_options;

static kaena_status infer_once(kaena_client *client, const infer_options *o, kaena_err *err)
{
    kaena_model_info *model;
    KAENA_TRY(kaena_model_info_get(client, o->model, &model, err));
    cli_inputs in;
    kaena_status status = cli_inputs_read(model, o->inputs, o->input_count, &in, err);
    if (status != KAENA_OK) {
        kaena_model_info_free(model);
        return status;
    }
    kaena_tensor *outputs = calloc(model->output_count + 1, sizeof *outputs);
    kaena_infer_call call = {.size = sizeof call,
                             .model = model->name,
                             .inputs = in.tensors,
                             .input_count = in.count,
                             .outputs = outputs,
                             .output_count = model->output_count,
                             .priority = o->priority,
                             .check_finite = o->check_finite,
                             .timeout_ms = o->timeout_ms};
    status = outputs ? kaena_infer(client, &call, err)
                     : KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    for (size_t i = 0; status == KAENA_OK && i < model->output_count; i++)
        if (outputs[i].not_finite)
            fprintf(stderr, "kaena-cli: output '%s' has NaN or infinity\n", model->outputs[i].name);
    for (size_t i = 0; status == KAENA_OK && o->print && i < model->output_count; i++)
        print_output(model->outputs[i].name, &outputs[i]);
    if (status == KAENA_OK && o->dir)
        status = write_outputs(model, outputs, o->dir, err);
    for (size_t i = 0; outputs && i < model->output_count; i++)
        kaena_tensor_free(&outputs[i]);
    free(outputs);
    cli_inputs_fini(&in);
    kaena_model_info_free(model);
    return status;
}

int cli_infer(const cli_command *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},      {"input", required_argument, NULL, 'i'},
        {"output-dir", required_argument, NULL, 'o'}, {"print", no_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 't'},    {"priority", required_argument, NULL, 'P'},
        {"check-finite", no_argument, NULL, 'f'},     {0},
    };
    infer_options o = {.inputs = calloc((size_t)argc, sizeof(char *))};
    int result = CLI_OK;
    if (!o.inputs)
        return CLI_FAILED;
    for (int c; result == CLI_OK && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'm':
            o.model = optarg;
            break;
        case 'i':
            o.inputs[o.input_count++] = optarg;
            break;
        case 'o':
            o.dir = optarg;
            break;
        case 'p':
            o.print = true;
            break;
        case 't':
            if (!cli_number(optarg, 1, &o.timeout_ms))
                result = cli_misused(self, "--timeout takes milliseconds");
            break;
        case 'P': {
            long priority;
            if (!cli_number(optarg, -8, &priority) || priority > 7)
                result = cli_misused(self, "--priority takes a number from -8 to 7");
            else
                o.priority = (int32_t)priority;
            break;
        }
        case 'f':
            o.check_finite = true;
            break;
        default:
            result = cli_misused(self, NULL);
        }
    }
    if (result == CLI_OK && (!o.model || (!o.dir && !o.print) || optind != argc))
        result =
            cli_misused(self, "needs --model, --input for each input, and --output-dir or --print");
    if (result == CLI_OK) {
        kaena_err err;
        kaena_client *client = cli_connect();
        if (!client)
            result = CLI_FAILED;
        else if (infer_once(client, &o, &err) != KAENA_OK)
            result = cli_fail(&err);
        kaena_client_close(client);
    }
    free(o.inputs);
    return result;
}
