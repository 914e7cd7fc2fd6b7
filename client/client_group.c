/* Groups of TPBs. */
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "client_ask.h"
#include "client_session.h"
#include "kaena/v1/runtime.pb-c.h"

/* Descriptions are small; a daemon that sends more than this is not believed. */
#define DESCRIPTION_BYTES (64u << 20)

/* The public part comes first, so that a pointer to it is a pointer to the whole. */
typedef struct list_box {
    kaena_group_list list;
    kaena_arena arena;
    kaena_group *items;
} list_box;

/* False: out of memory. */
static bool copy_group(kaena_arena *a, const Kaena__V1__Group *from, const char *address,
                       kaena_group *to)
{
    kaena_tpb *tpbs = KAENA_NEW_N(a, kaena_tpb, from->n_tpbs);
    const char **models = KAENA_NEW_N(a, const char *, from->n_models);
    if (!tpbs || !models)
        return false;
    for (size_t i = 0; i < from->n_tpbs; i++)
        tpbs[i] = (kaena_tpb){from->tpbs[i]->device, from->tpbs[i]->tpb};
    for (size_t i = 0; i < from->n_models; i++) {
        models[i] = kaena_arena_strdup(a, from->models[i]);
        if (!models[i])
            return false;
    }
    *to = (kaena_group){.name = kaena_arena_strdup(a, from->name),
                        .daemon = kaena_arena_strdup(a, address),
                        .tpbs = tpbs,
                        .tpb_count = from->n_tpbs,
                        .models = models,
                        .model_count = from->n_models,
                        .id = from->id,
                        .persistent = from->persistent};
    return to->name && to->daemon;
}

static bool add_groups(list_box *box, Kaena__V1__Group *const *groups, size_t n,
                       const char *address)
{
    kaena_group *items = realloc(box->items, (box->list.count + n + 1) * sizeof *items);
    if (!items)
        return false;
    box->items = items;
    box->list.groups = items;
    for (size_t i = 0; i < n; i++) {
        if (!copy_group(&box->arena, groups[i], address, &items[box->list.count]))
            return false;
        box->list.count++;
    }
    return true;
}

static kaena_status take_groups(const ProtobufCMessage *answer, const char *address, void *to,
                                kaena_err *err)
{
    const Kaena__V1__ListGroupsResponse *r = (const Kaena__V1__ListGroupsResponse *)answer;
    if (!add_groups(to, r->groups, r->n_groups, address))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

static kaena_status take_group(const ProtobufCMessage *answer, const char *address, void *to,
                               kaena_err *err)
{
    Kaena__V1__CreateGroupResponse *r = (Kaena__V1__CreateGroupResponse *)(uintptr_t)answer;
    if (!r->group)
        return KAENA_FAIL(err, INTERNAL, "the daemon at %s described no group", address);
    if (!add_groups(to, &r->group, 1, address))
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    return KAENA_OK;
}

static list_box *create_list(void)
{
    list_box *box = calloc(1, sizeof *box);
    if (box)
        kaena_arena_init(&box->arena, DESCRIPTION_BYTES);
    return box;
}

void kaena_group_list_free(kaena_group_list *list)
{
    if (!list)
        return;
    list_box *box = (list_box *)list;
    kaena_arena_fini(&box->arena);
    free(box->items);
    free(box);
}

kaena_status kaena_group_list_get(kaena_client *client, kaena_group_list **out, kaena_err *err)
{
    Kaena__V1__ListGroupsRequest request = KAENA__V1__LIST_GROUPS_REQUEST__INIT;
    list_box *box = create_list();
    if (!box)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    kaena_ask ask = {"ListGroups", &request.base, &kaena__v1__list_groups_response__descriptor,
                     take_groups, box};
    kaena_status status = kaena_ask_all(client, &ask, &box->list.unreachable, err);
    if (status == KAENA_OK)
        *out = &box->list;
    else
        kaena_group_list_free(&box->list);
    return status;
}

/* In the name of a session unless the group is to stay. */
typedef struct creation {
    kaena_ask ask;
    bool owned;
} creation;

static kaena_status attempt_create(const kaena_target *target, void *user, kaena_outcome *outcome,
                                   kaena_err *err)
{
    creation *c = user;
    kaena_target mine = *target;
    char token[KAENA_TOKEN_TEXT] = "";
    if (c->owned)
        KAENA_TRY(kaena_session_open(target->client, target->daemon, target->deadline_ns,
                                     target->stop, token, outcome, err));
    mine.session = *token ? token : NULL;
    return kaena_attempt_ask(&mine, &c->ask, outcome, err);
}

kaena_status kaena_group_create(kaena_client *client, const kaena_group_options *options,
                                kaena_group_list **out, kaena_err *err)
{
    if (options->size < sizeof *options)
        return KAENA_FAIL(err, INVALID_ARGUMENT, "kaena_group_options: size %u is not %zu",
                          options->size, sizeof *options);
    Kaena__V1__CreateGroupRequest request = KAENA__V1__CREATE_GROUP_REQUEST__INIT;
    request.tpbs = options->tpbs;
    request.n_devices = options->device_count;
    request.devices = (uint32_t *)(uintptr_t)options->devices;
    if (options->name)
        request.name = (char *)options->name;
    request.persistent = options->persistent != 0;
    list_box *box = create_list();
    if (!box)
        return KAENA_FAIL(err, RESOURCE_EXHAUSTED, "out of memory");
    creation c = {.ask = {"CreateGroup", &request.base,
                          &kaena__v1__create_group_response__descriptor, take_group, box},
                  .owned = !options->persistent};
    kaena_status status = kaena_route_call(client, NULL, attempt_create, &c, false,
                                           kaena_deadline(0, client->timeout_ms), err);
    if (status == KAENA_OK && out)
        *out = &box->list;
    else
        kaena_group_list_free(&box->list);
    return status;
}

kaena_status kaena_group_destroy(kaena_client *client, const char *name, kaena_err *err)
{
    Kaena__V1__DestroyGroupRequest request = KAENA__V1__DESTROY_GROUP_REQUEST__INIT;
    request.name = (char *)name;
    kaena_ask ask = {"DestroyGroup", &request.base, &kaena__v1__destroy_group_response__descriptor,
                     NULL, NULL};
    return kaena_ask_routed(client, &ask, true, err);
}
