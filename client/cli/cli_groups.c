/* groups: list, create, destroy. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define MAX_DEVICES 64

static json_t *group_json(const kaena_group *g)
{
    json_t *tpbs = json_array(), *models = json_array();
    for (size_t i = 0; i < g->tpb_count; i++)
        json_array_append_new(tpbs, json_pack("{s:i, s:i}", "device", (int)g->tpbs[i].device, "tpb",
                                              (int)g->tpbs[i].tpb));
    for (size_t i = 0; i < g->model_count; i++)
        json_array_append_new(models, json_string(g->models[i]));
    return json_pack("{s:s, s:s, s:I, s:b, s:o, s:o}", "name", g->name, "daemon", g->daemon, "id",
                     (json_int_t)g->id, "persistent", (int)g->persistent, "tpbs", tpbs, "models",
                     models);
}

/* "0:0 0:1 2:3", device and TPB. */
static void print_group(const kaena_group *g)
{
    printf("%-16s %-9s ", g->name, g->persistent ? "stays" : "session");
    for (size_t i = 0; i < g->model_count; i++)
        printf("%s%s", i ? "," : "", g->models[i]);
    printf("%s ", g->model_count ? "" : "-");
    for (size_t i = 0; i < g->tpb_count; i++)
        printf(" %u:%u", g->tpbs[i].device, g->tpbs[i].tpb);
    printf("  %s\n", g->daemon);
}

static int list_groups(const cli_command *self, int argc, char **argv)
{
    bool json = false;
    if (!cli_listing_options(self, argc, argv, &json))
        return CLI_USAGE;
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_group_list *list;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_group_list_get(client, &list, &err) != KAENA_OK) {
        result = cli_fail(&err);
    } else {
        json_t *all = json ? json_array() : NULL;
        if (!json && list->count == 0)
            printf("there are no groups\n");
        else if (!json)
            printf("%-16s %-9s %s\n", "GROUP", "LIFE", "MODELS  DEVICE:TPB...  DAEMON");
        for (size_t i = 0; i < list->count; i++) {
            if (json)
                json_array_append_new(all, group_json(&list->groups[i]));
            else
                print_group(&list->groups[i]);
        }
        if (json)
            result = cli_print_json(json_pack("{s:o}", "groups", all));
        cli_say_unreachable(list->unreachable);
        kaena_group_list_free(list);
    }
    kaena_client_close(client);
    return result;
}

/* "0,1,5" */
static bool parse_devices(char *text, uint32_t *devices, size_t *count)
{
    for (char *item = strtok(text, ","); item; item = strtok(NULL, ",")) {
        long n;
        if (*count == MAX_DEVICES || !cli_number(item, 0, &n) || n > INT32_MAX)
            return false;
        devices[(*count)++] = (uint32_t)n;
    }
    return *count > 0;
}

static int create_group(const cli_command *self, int argc, char **argv)
{
    static const struct option options[] = {
        {"tpbs", required_argument, NULL, 't'},
        {"devices", required_argument, NULL, 'd'},
        {0},
    };
    uint32_t devices[MAX_DEVICES];
    kaena_group_options group = {.size = sizeof group, .devices = devices, .persistent = 1};
    long tpbs = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 't' && (!cli_number(optarg, 1, &tpbs) || tpbs > 64))
            return cli_misused(self, "--tpbs takes a number from 1 to 64");
        if (c == 'd' && !parse_devices(optarg, devices, &group.device_count))
            return cli_misused(self, "--devices takes indices of devices: 0,1");
        if (c != 't' && c != 'd')
            return cli_misused(self, NULL);
    }
    if (argc - optind != 1 || tpbs == 0)
        return cli_misused(self, "create takes a name and --tpbs");
    group.name = argv[optind];
    group.tpbs = (uint32_t)tpbs;
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_group_list *made;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_group_create(client, &group, &made, &err) != KAENA_OK) {
        result = cli_fail(&err);
    } else {
        print_group(&made->groups[0]);
        kaena_group_list_free(made);
    }
    kaena_client_close(client);
    return result;
}

static int destroy_group(const cli_command *self, int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-')
        return cli_misused(self, "destroy takes the name of a group");
    kaena_client *client = cli_connect();
    if (!client)
        return CLI_FAILED;
    kaena_err err;
    int result = CLI_OK;
    if (kaena_group_destroy(client, argv[1], &err) != KAENA_OK)
        result = cli_fail(&err);
    else
        printf("%s: destroyed, its models unloaded\n", argv[1]);
    kaena_client_close(client);
    return result;
}

int cli_groups(const cli_command *self, int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "list";
    /* What follows belongs to it, as to a command. */
    if (strcmp(what, "create") == 0)
        return create_group(self, argc - 1, argv + 1);
    if (strcmp(what, "destroy") == 0)
        return destroy_group(self, argc - 1, argv + 1);
    if (argc > 1 && strcmp(what, "list") == 0)
        return list_groups(self, argc - 1, argv + 1);
    return list_groups(self, argc, argv);
}
