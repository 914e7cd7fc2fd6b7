/* devices, models. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"

bool cli_listing_options(const cli_command *self, int argc, char **argv, bool *out_json)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'j') {
            (void)cli_misused(self, NULL);
            return false;
        }
        *out_json = true;
    }
    if (optind == argc)
        return true;
    (void)cli_misused(self, "takes no arguments");
    return false;
}

int cli_print_json(json_t *root)
{
    int bad = !root || json_dumpf(root, stdout, JSON_INDENT(2)) != 0;
    json_decref(root);
    printf("\n");
    return bad ? CLI_FAILED : CLI_OK;
}

void cli_say_unreachable(size_t count)
{
    if (count > 0)
        fprintf(stderr, "kaena-cli: %zu of the daemons did not answer\n", count);
}

static json_t *device_json(const kaena_device *d)
{
    json_t *models = json_array();
    for (size_t i = 0; i < d->model_count; i++)
        json_array_append_new(models, json_string(d->models[i]));
    return json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:I, s:I, s:o}", "daemon", d->daemon,
                     "address", d->address, "version", d->version, "device", (int)d->index, "pci",
                     d->pci, "tpbs", (int)d->tpbs, "dram_bytes", (json_int_t)d->dram_bytes,
                     "dram_used_bytes", (json_int_t)d->dram_used_bytes, "models", models);
}

static void print_devices(const kaena_device_list *list)
{
    printf("%-12s %6s  %-14s %4s  %10s  %10s  %s\n", "DAEMON", "DEVICE", "PCI", "TPBS", "DRAM USED",
           "DRAM", "MODELS");
    for (size_t i = 0; i < list->count; i++) {
        const kaena_device *d = list->devices[i];
        char used[CLI_BYTES_TEXT], all[CLI_BYTES_TEXT];
        printf("%-12s %6u  %-14s %4u  %10s  %10s  ", d->daemon, d->index, d->pci, d->tpbs,
               cli_bytes_text(d->dram_used_bytes, used, sizeof used),
               cli_bytes_text(d->dram_bytes, all, sizeof all));
        for (size_t m = 0; m < d->model_count; m++)
            printf("%s%s", m ? ", " : "", d->models[m]);
        printf("%s\n", d->model_count ? "" : "-");
    }
}

int cli_devices(const cli_command *self, int argc, char **argv)
{
    bool json = false;
    if (!cli_listing_options(self, argc, argv, &json))
        return CLI_USAGE;
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_device_list *list;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_device_list_get(client, &list, &err) != KAENA_OK) {
        result = cli_fail(&err);
    } else {
        if (json) {
            json_t *devices = json_array();
            for (size_t i = 0; i < list->count; i++)
                json_array_append_new(devices, device_json(list->devices[i]));
            result = cli_print_json(json_pack("{s:o}", "devices", devices));
        } else {
            print_devices(list);
        }
        cli_say_unreachable(list->unreachable);
        kaena_device_list_free(list);
    }
    kaena_client_close(client);
    return result;
}

static json_t *tensors_json(const kaena_tensor_info *tensors, size_t count)
{
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int32_t d = 0; d < tensors[i].rank; d++)
            json_array_append_new(shape, json_integer(tensors[i].shape[d]));
        json_array_append_new(all, json_pack("{s:s, s:s, s:o}", "name", tensors[i].name, "dtype",
                                             kaena_dtype_name(tensors[i].dtype), "shape", shape));
    }
    return all;
}

static json_t *model_json(const kaena_model_info *m)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:b, s:I, "
                     "s:I, s:I, s:I, "
                     "s:f, s:o, s:o}",
                     "name", m->name, "state", cli_state_text(m->state), "daemon", m->daemon,
                     "digest", m->digest, "compiler", m->compiler, "id", (json_int_t)m->id, "tpbs",
                     (int)m->tpb_count, "contexts", (int)m->contexts, "queue_depth",
                     (int)m->queue_depth, "queued", (int)m->queued, "replicas", (int)m->replicas,
                     "group", m->group, "version", m->version, "persistent", (int)m->persistent,
                     "dram_bytes", (json_int_t)m->dram_bytes, "inferences",
                     (json_int_t)m->inferences, "executions", (json_int_t)m->executions, "failures",
                     (json_int_t)m->failures, "estimated_latency_us", m->estimated_latency_us,
                     "inputs", tensors_json(m->inputs, m->input_count), "outputs",
                     tensors_json(m->outputs, m->output_count));
}

void cli_print_tensors(const char *title, const kaena_tensor_info *tensors, size_t count)
{
    char text[CLI_TENSOR_TEXT];
    for (size_t i = 0; i < count; i++)
        printf("    %-6s %s %s\n", i ? "" : title, tensors[i].name,
               cli_tensor_text(&tensors[i], text, sizeof text));
}

static void print_models(const kaena_model_list *list)
{
    if (list->count == 0) {
        printf("no models are loaded\n");
        return;
    }
    printf("%-24s %-9s %4s  %10s  %9s  %10s  %8s\n", "MODEL", "STATE", "TPBS", "DRAM", "QUEUED",
           "INFERENCES", "FAILURES");
    for (size_t i = 0; i < list->count; i++) {
        const kaena_model_info *m = list->models[i];
        char dram[CLI_BYTES_TEXT], queue[32];
        (void)snprintf(queue, sizeof queue, "%u/%u", m->queued, m->queue_depth);
        printf("%-24s %-9s %4u  %10s  %9s  %10llu  %8llu\n", m->name, cli_state_text(m->state),
               m->tpb_count, cli_bytes_text(m->dram_bytes, dram, sizeof dram), queue,
               (unsigned long long)m->inferences, (unsigned long long)m->failures);
        cli_print_tensors("takes", m->inputs, m->input_count);
        cli_print_tensors("gives", m->outputs, m->output_count);
    }
}

int cli_models(const cli_command *self, int argc, char **argv)
{
    bool json = false;
    if (!cli_listing_options(self, argc, argv, &json))
        return CLI_USAGE;
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_model_list *list;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_model_list_get(client, &list, &err) != KAENA_OK) {
        result = cli_fail(&err);
    } else {
        if (json) {
            json_t *models = json_array();
            for (size_t i = 0; i < list->count; i++)
                json_array_append_new(models, model_json(list->models[i]));
            result = cli_print_json(json_pack("{s:o}", "models", models));
        } else {
            print_models(list);
        }
        cli_say_unreachable(list->unreachable);
        kaena_model_list_free(list);
    }
    kaena_client_close(client);
    return result;
}
