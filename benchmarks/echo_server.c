/* The least a gRPC server can be: one completion-queue thread that sends every request back.
 *
 * echo_server ADDRESS
 *
 * What a server with work to do is measured against (benchmarks/rpc). Its method is "/echo/Echo";
 * it runs until it is killed. */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define CALLS 128 /* that may wait or be answered at a time */

typedef struct echo_call {
    grpc_call *core;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *payload;
    int cancelled;
    bool answering;
} echo_call;

static grpc_server *server;
static grpc_completion_queue *cq;
static void *method;

static void check(grpc_call_error e)
{
    if (e == GRPC_CALL_OK)
        return;
    (void)fprintf(stderr, "echo_server: %s\n", grpc_call_error_to_string(e));
    exit(1);
}

static void arm(echo_call *c)
{
    *c = (echo_call){0};
    grpc_metadata_array_init(&c->metadata);
    check(grpc_server_request_registered_call(server, method, &c->core, &c->deadline, &c->metadata,
                                              &c->payload, cq, cq, c));
}

static void answer(echo_call *c)
{
    grpc_op ops[4] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};
    size_t n = 1;
    if (c->payload) /* none: the client took the call back */
        ops[n++] =
            (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->payload};
    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                         .data.send_status_from_server.status = GRPC_STATUS_OK};
    ops[n++] = (grpc_op){.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                         .data.recv_close_on_server.cancelled = &c->cancelled};
    c->answering = true;
    check(grpc_call_start_batch(c->core, ops, n, c, NULL));
}

static void finish(echo_call *c)
{
    grpc_byte_buffer_destroy(c->payload);
    grpc_metadata_array_destroy(&c->metadata);
    grpc_call_unref(c->core);
    arm(c);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: echo_server ADDRESS\n");
        return 2;
    }
    grpc_init();
    grpc_arg limit = {.type = GRPC_ARG_INTEGER,
                      .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                      .value.integer = -1};
    grpc_channel_args args = {.num_args = 1, .args = &limit};
    server = grpc_server_create(&args, NULL);
    method = grpc_server_register_method(server, "/echo/Echo", NULL,
                                         GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server, cq, NULL);
    if (!grpc_server_add_http2_port(server, argv[1], grpc_insecure_server_credentials_create())) {
        (void)fprintf(stderr, "echo_server: cannot listen on %s\n", argv[1]);
        return 1;
    }
    grpc_server_start(server);
    echo_call *calls = calloc(CALLS, sizeof *calls);
    for (size_t i = 0; calls && i < CALLS; i++)
        arm(&calls[i]);
    for (;;) {
        grpc_event e = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        echo_call *c = e.tag;
        if (c->answering)
            finish(c);
        else if (e.success)
            answer(c);
    }
}
