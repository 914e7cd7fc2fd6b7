/* The client library of Kaena: loads compiled models into daemons (krtd) and runs inferences.
 *
 * A program that asks a model that is loaded already (examples/digits/classify.c is a whole one):
 *
 *     kaena_client *client;
 *     kaena_err err;
 *     if (kaena_client_open(NULL, &client, &err) != KAENA_OK)
 *         errx(1, "%s", err.what);
 *     kaena_tensor in = {.name = "image", .dtype = KAENA_F32, .rank = 4, .shape = {1, 1, 8, 8},
 *                        .data = pixels, .bytes = sizeof pixels};
 *     kaena_tensor out = {.data = answer, .bytes = sizeof answer};
 *     kaena_infer_call call = {.size = sizeof call, .model = "digits", .inputs = &in,
 *                              .input_count = 1, .outputs = &out, .output_count = 1};
 *     if (kaena_infer(client, &call, &err) != KAENA_OK)
 *         errx(1, "%s", err.what);
 *     kaena_client_close(client);
 *
 * A server loads its model itself, on every daemon, and does not notice when one of them dies:
 *
 *     kaena_load_options options = {.size = sizeof options, .name = "digits",
 *                                   .daemons = KAENA_ALL};
 *     kaena_model *model;
 *     if (kaena_model_open(client, "digits.neff", &options, &model, &err) != KAENA_OK)
 *         errx(1, "%s", err.what);
 *     ... kaena_model_infer(model, &call, &err) from any thread ...
 *     kaena_model_close(model);
 *
 * Rules that hold everywhere:
 *  - A function that can fail returns a kaena_status and takes a kaena_err last, which may be NULL.
 *    On failure the other outputs keep what they held.
 *  - A kaena_client and a kaena_model may be used by any number of threads at once; calls block the
 *    thread that makes them. Everything else belongs to one thread at a time.
 *  - The library has no state outside its handles and installs no signal handlers. A client does
 *    not survive fork(): open one in the child.
 *  - A client that only asks, with small tensors, runs in the threads that ask. Handles of models
 *    make the client start a thread, which finds daemons that came back and brings them their
 *    models; sessions, shared memory and requests that nobody waits for make it start another one,
 *    which carries them and runs callbacks. Both have all signals blocked, sleep while there is
 *    nothing to do, and end with kaena_client_close.
 *  - Large answers: gRPC allocates what it receives with malloc. A program that receives megabytes
 *    often does well to keep freed memory (mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) or to use
 *    another allocator.
 *  - Structures that the caller fills begin with |size|, set to sizeof of the structure. Structures
 *    that the library returns may grow at their end in later versions.
 *
 * This header is C99 and C++. */
#ifndef KAENA_CLIENT_H
#define KAENA_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Results of calls; the numbers are gRPC's. */
#ifndef KAENA_STATUS_DECLARED
#define KAENA_STATUS_DECLARED
typedef enum kaena_status {
    KAENA_OK = 0,
    KAENA_CANCELLED = 1,
    KAENA_UNKNOWN = 2,           /* the daemon sent a code this version does not know */
    KAENA_INVALID_ARGUMENT = 3,  /* the input is wrong: name, shape, element type, file */
    KAENA_DEADLINE_EXCEEDED = 4, /* no answer in time */
    KAENA_NOT_FOUND = 5,         /* no model, file or tensor of that name */
    KAENA_ALREADY_EXISTS = 6,    /* a model of that name is loaded */
    KAENA_PERMISSION_DENIED = 7,
    KAENA_RESOURCE_EXHAUSTED = 8,  /* memory or a queue is full: see needed, available, hint */
    KAENA_FAILED_PRECONDITION = 9, /* change the state, then call again */
    KAENA_ABORTED = 10,            /* given up because of an unload */
    KAENA_OUT_OF_RANGE = 11,
    KAENA_UNIMPLEMENTED = 12, /* not supported by this version */
    KAENA_INTERNAL = 13,      /* a bug */
    KAENA_UNAVAILABLE = 14,   /* no daemon could be reached, or the connection broke twice */
    KAENA_DATA_LOSS = 15,     /* the artifact is damaged */
    KAENA_UNAUTHENTICATED = 16
} kaena_status;
#endif

/* Element types; the numbers are those of onnx.TensorProto.DataType. */
#ifndef KAENA_DTYPE_DECLARED
#define KAENA_DTYPE_DECLARED
typedef enum kaena_dtype {
    KAENA_DTYPE_NONE = 0,
    KAENA_F32 = 1,
    KAENA_U8 = 2,
    KAENA_I8 = 3,
    KAENA_U16 = 4,
    KAENA_I16 = 5,
    KAENA_I32 = 6,
    KAENA_I64 = 7,
    KAENA_STRING = 8, /* elements are kaena_string */
    KAENA_BOOL = 9,   /* one byte, 0 or 1 */
    KAENA_F16 = 10,
    KAENA_F64 = 11,
    KAENA_U32 = 12,
    KAENA_U64 = 13,
    KAENA_BF16 = 16
} kaena_dtype;

/* An element of a KAENA_STRING tensor: borrowed bytes, not terminated. */
typedef struct kaena_string {
    const char *data;
    size_t size;
} kaena_string;
#endif

/* Why a daemon refused or failed (kaena_err.reason); the numbers are those of
 * kaena.v1.ErrorDetail.Reason. */
typedef enum kaena_reason {
    KAENA_REASON_NONE = 0,
    KAENA_REASON_NOT_ACCEPTED = 1, /* refused before it entered a queue */
    KAENA_REASON_QUEUE_FULL = 2,
    KAENA_REASON_NO_MEMORY = 3, /* of the devices */
    KAENA_REASON_NO_TPBS = 4,   /* the model needs more than the daemon owns */
    KAENA_REASON_VERSION_MISMATCH = 5,
    KAENA_REASON_BAD_ARTIFACT = 6,
    KAENA_REASON_BAD_TENSOR = 7, /* name, shape, element type or size */
    KAENA_REASON_MODEL_UNLOADED = 8,
    KAENA_REASON_DRAINING = 9,
    KAENA_REASON_EXECUTION_FAILED = 10,
    KAENA_REASON_LIMIT = 11,             /* of the daemon's configuration */
    KAENA_REASON_EXECUTION_TIMEOUT = 12, /* ran longer than the model may, and was stopped */
    KAENA_REASON_NOT_FINITE = 13,
    KAENA_REASON_NO_SESSION = 14, /* it has ended, with what it held */
    KAENA_REASON_BAD_REGION = 15,
    KAENA_REASON_NOT_DONE = 16,       /* a posted request has no answer yet */
    KAENA_REASON_ANSWER_FETCHED = 17, /* it was given out already */
    KAENA_REASON_ANSWER_EXPIRED = 18  /* nobody fetched it in time */
} kaena_reason;

/* What went wrong, in a caller's storage: cannot leak, cannot fail. client.h declares the same
 * record for users of the library; whichever header comes first declares it
 * (tests/unit/test_client_header.c compares the two). */
#ifndef KAENA_ERR_DECLARED
#define KAENA_ERR_DECLARED
typedef struct kaena_err {
    uint32_t size;  /* sizeof(kaena_err) of whoever made it */
    int32_t code;   /* kaena_status */
    int32_t reason; /* kaena.v1.ErrorDetail.Reason, 0 = none */
    int32_t reserved;
    uint64_t needed; /* RESOURCE_EXHAUSTED: what was asked for, in the unit |what| names; else 0 */
    uint64_t available;  /* RESOURCE_EXHAUSTED: what there was */
    char what[512];      /* outer context first: "load 'a.neff': section 3: offset past end" */
    char hint[256];      /* what to do, or "" */
    char request_id[40]; /* of the request, as the daemon's log has it; "" = there was none */
} kaena_err;
#endif

/* ---- Connecting ---- */

typedef struct kaena_client kaena_client;

typedef struct kaena_client_options {
    uint32_t size;
    /* Do not wait for a daemon that cannot be reached now: every address is tried once and the call
     * fails. Without it a call goes on trying until its deadline, so that a restart of the daemon
     * goes unnoticed. */
    uint32_t fail_fast;
    /* Where daemons listen: a comma list of "unix:PATH" and "HOST:PORT". NULL: KAENA_KRTD_ADDRESS
     * from the environment, else the daemons in the file KAENA_CONFIG names, else those in
     * /etc/kaena/krtd.json, else krtd0.sock in $KAENA_RUNDIR, /run/kaena or
     * $XDG_RUNTIME_DIR/kaena. */
    const char *address;
    /* The name of one daemon of the configuration file, instead of an address: that one alone. */
    const char *daemon;
    int64_t timeout_ms; /* for calls that set none; 0 = 30,000 */
    /* Tensors of 64 KiB and more go to daemons on unix sockets through shared memory, of which the
     * client takes as much as it needs, up to this; 0 = 256 MiB. */
    uint64_t shared_memory_bytes;
    uint32_t no_shared_memory; /* 1: everything goes through the socket */
    /* 1: requests of kaena_model_submit up to 32 KiB each way share one stream to each daemon
     * instead of having a call each: more of them a second. They end as they would otherwise. */
    uint32_t streams;
    /* TLS for addresses HOST:PORT: files in PEM form. NULL: KAENA_TLS_CA, KAENA_TLS_CERT and
     * KAENA_TLS_KEY from the environment; without a |tls_ca| they speak plainly. |tls_cert| and
     * |tls_key| (both or none) show the daemon who asks. |tls_name|: the host that the daemon's
     * certificate is for, where the address says something else; NULL: that of the address. */
    const char *tls_ca, *tls_cert, *tls_key, *tls_name;
    /* Told what the application may want to know though no call fails, a line each time, from any
     * thread: why shared memory cannot be used (once for each reason). NULL: nobody is told. */
    void (*log)(void *user, const char *text);
    void *log_user;
} kaena_client_options;

/* Makes a client; connections are made when they are needed. |options| may be NULL and is copied.
 *
 * INVALID_ARGUMENT, NOT_FOUND  the address, the daemon or the configuration file cannot be used */
kaena_status kaena_client_open(const kaena_client_options *options, kaena_client **out_client,
                               kaena_err *err);

/* Closes the handles of models that are still open, which ends every request under way with
 * CANCELLED, and connections, and frees the client, which no other thread is using any more. NULL
 * does nothing. */
void kaena_client_close(kaena_client *client);

/* ---- Tensors ---- */

#define KAENA_CLIENT_MAX_RANK 8

/* What a value is. */
typedef enum kaena_kind {
    KAENA_TENSOR = 0,
    KAENA_SEQUENCE = 1,         /* of tensors */
    KAENA_OPTIONAL = 2,         /* a tensor or nothing */
    KAENA_OPTIONAL_SEQUENCE = 3 /* a sequence or nothing */
} kaena_kind;

/* A value, row-major and little-endian. |bytes| is the size of |data|; for strings, of the array of
 * kaena_string.
 *
 * Of a sequence or optional |data| is an array of kaena_tensor (an optional has one or none; that
 * of an optional sequence is a KAENA_SEQUENCE) and |bytes| the size of that array; |dtype| is that
 * of all tensors inside, which need no names; rank and shape are not used. */
typedef struct kaena_tensor {
    const char *name;
    void *data;
    size_t bytes;
    int64_t shape[KAENA_CLIENT_MAX_RANK];
    int32_t rank; /* 0: a scalar */
    kaena_dtype dtype;
    kaena_kind kind;
    int32_t not_finite; /* of an output of a call that checks: 1 = it has NaN or infinity */
    struct kaena_memory *memory; /* the library's own, NULL = the caller's or malloc's: see below */
} kaena_tensor;

/* Where |memory| is set the data lies in memory that the library shares with daemons of this
 * machine: an input that lies there is not copied, and an output is written to where the
 * application reads it. It comes from kaena_tensor_alloc, or as an output whose |data| was NULL.
 * Given as an output again, such a tensor is answered in whatever memory of the library is free:
 * read |data| anew after each call. */

/* Gives |tensor| |bytes| bytes of data, shared with daemons where that is possible and worth it.
 * The other fields stay. May be called from any thread but not from a callback.
 * RESOURCE_EXHAUSTED: no memory. */
kaena_status kaena_tensor_alloc(kaena_client *client, size_t bytes, kaena_tensor *tensor,
                                kaena_err *err);

/* Frees data that the library allocated (kaena_tensor_alloc, an output), with all that stands
 * inside, and clears the tensor; also after its client was closed. Not for buffers of the caller.
 */
void kaena_tensor_free(kaena_tensor *tensor);

/* ---- Models ---- */

typedef enum kaena_model_state {
    KAENA_MODEL_LOADING = 1,
    KAENA_MODEL_READY = 2,
    KAENA_MODEL_UNLOADING = 3,
    KAENA_MODEL_FAILED = 4 /* its artifact was damaged while loaded: unload it */
} kaena_model_state;

/* What a model takes or gives. */
typedef struct kaena_tensor_info {
    const char *name;
    const int64_t *shape; /* [rank]; -1: an input may have any size there, an output's is known when
                             the model has run */
    int32_t rank;
    kaena_dtype dtype;
    size_t bytes; /* 0 for strings, for sequences and optionals, and where the shape is not known */
    kaena_kind kind;
    int32_t any_rank; /* 1: not even the rank is fixed */
} kaena_tensor_info;

typedef struct kaena_model_info {
    const char *name;
    const char *daemon; /* address of the daemon that holds it */
    const char *digest; /* SHA-256 of the artifact, hexadecimal */
    const char *compiler;
    const kaena_tensor_info *inputs; /* [input_count], in the framework's order */
    const kaena_tensor_info *outputs;
    size_t input_count, output_count;
    uint64_t id;
    kaena_model_state state;
    uint32_t tpb_count;
    uint32_t contexts;           /* inferences in flight at most */
    uint32_t queue_depth;        /* inferences that may wait */
    uint32_t queued;             /* that wait now */
    uint64_t dram_bytes;         /* of the devices it lives on */
    uint64_t inferences;         /* answered with outputs since the load */
    uint64_t failures;           /* accepted and answered with an error */
    double estimated_latency_us; /* by the compiler, on the real hardware's rates */
    const char *group;           /* "": none was named */
    const char *version;         /* label in the daemon's metrics */
    uint32_t replicas;           /* copies within the daemon */
    int32_t persistent;          /* 0: goes with the session of the client that loaded it */
    uint64_t executions;         /* begun: what expired or was cancelled before is not in it */
} kaena_model_info;

#define KAENA_ALL UINT32_MAX

typedef struct kaena_load_options {
    uint32_t size;
    uint32_t by_path;     /* 1: the daemon reads the file itself, below its --model-dir */
    const char *name;     /* NULL: the name the artifact carries */
    const char *group;    /* of TPBs, by its name; NULL: the daemon chooses TPBs */
    const char *version;  /* label in the daemon's metrics; NULL: the beginning of the digest */
    uint32_t queue_depth; /* 0: the daemon's default */
    uint32_t replicas;    /* copies within each daemon; 0 = 1, KAENA_ALL = as many as fit */
    uint32_t execution_timeout_ms; /* an execution that takes longer is stopped; 0: the daemon's */
    /* kaena_model_open alone: on how many of the client's daemons; 0 = 1, KAENA_ALL = on each. */
    uint32_t daemons;
    /* kaena_model_open alone: 1 = a daemon that has a model of that name already, whoever loaded it
     * and from whatever file, is taken as it is. 0 = ALREADY_EXISTS. */
    uint32_t share;
    /* kaena_model_open alone: 1 = stays loaded when the handle is closed or the program ends. */
    uint32_t persistent;
    int64_t timeout_ms; /* of a load; 0 = 300,000: large artifacts take time */
} kaena_load_options;

/* Loads the artifact |path| into one daemon that has room for it, where it stays until it is
 * unloaded. |options| and |out_info| may be NULL; the description is the caller's and freed with
 * kaena_model_info_free (which does not unload it).
 *
 * ALREADY_EXISTS       a model of that name is loaded (the end of one that is being unloaded is
 *                      waited for)
 * RESOURCE_EXHAUSTED   does not fit: |needed| and |available| bytes or TPBs, |hint| says what would
 *                      help
 * FAILED_PRECONDITION  made by a compiler this daemon cannot follow
 * INVALID_ARGUMENT, DATA_LOSS  not an artifact, or damaged */
kaena_status kaena_model_load(kaena_client *client, const char *path,
                              const kaena_load_options *options, kaena_model_info **out_info,
                              kaena_err *err);

/* Unloads the model: what runs is finished, what waits ends with ABORTED. NOT_FOUND: no such model.
 */
kaena_status kaena_model_unload(kaena_client *client, const char *name, kaena_err *err);

/* Describes a loaded model; the caller frees it. NOT_FOUND: no such model. */
kaena_status kaena_model_info_get(kaena_client *client, const char *name,
                                  kaena_model_info **out_model, kaena_err *err);
void kaena_model_info_free(kaena_model_info *model);

/* ---- Handles of models ---- */

/* A model on one or several daemons: its replicas. */
typedef struct kaena_model kaena_model;

/* Loads the artifact |path| into as many daemons as options->daemons says, and keeps it there: when
 * a daemon dies its replica is made anew, on the same daemon once it is back, or on another that
 * has none when that comes sooner. Returns as soon as each daemon was tried and one has it; what is
 * missing then comes later (kaena_model_replicas says). The file is opened once: what somebody puts
 * in its place is not loaded.
 *
 * With |path| NULL the handle is one of a model that others load, options->name: on all daemons
 * that have it, or as many as options->daemons.
 *
 * Fails as kaena_model_load does; NOT_FOUND: no daemon has a model of that name. While no daemon
 * can be reached it waits, until the deadline of a load or with fail_fast not at all. */
kaena_status kaena_model_open(kaena_client *client, const char *path,
                              const kaena_load_options *options, kaena_model **out_model,
                              kaena_err *err);

/* Frees the handle, which no other thread is using any more, and unloads what it loaded unless
 * options->persistent. Requests under way end with CANCELLED before it returns. Not from a
 * callback. NULL does nothing. */
void kaena_model_close(kaena_model *model);

/* What the first replica was when it was made: names, shapes, sizes. Lives as long as the handle.
 */
const kaena_model_info *kaena_model_describe(const kaena_model *model);

typedef enum kaena_replica_state {
    KAENA_REPLICA_READY = 1,
    KAENA_REPLICA_ABSENT = 2, /* the daemon answers but has not got the model, or not yet */
    KAENA_REPLICA_AWAY = 3    /* the daemon does not answer, or is going to end */
} kaena_replica_state;

typedef struct kaena_replica {
    const char *address; /* of the daemon; lives as long as the client */
    kaena_replica_state state;
    uint64_t inferences; /* answered there through this handle */
    char why[512];       /* not READY: what the last attempt to load it came to, or "" */
} kaena_replica;

/* Describes the model's replica on each daemon of the client, in the order of the addresses.
 * |out| has |room| entries. Gives the number of daemons. */
size_t kaena_model_replicas(kaena_model *model, kaena_replica *out, size_t room);

/* ---- Lists ---- */

/* The models of all daemons that answer. */
typedef struct kaena_model_list {
    kaena_model_info *const *models; /* [count] */
    size_t count;
    size_t unreachable; /* daemons that did not answer; at least one did */
} kaena_model_list;

kaena_status kaena_model_list_get(kaena_client *client, kaena_model_list **out_list,
                                  kaena_err *err);
void kaena_model_list_free(kaena_model_list *list);

/* ---- Devices ---- */

typedef struct kaena_device {
    const char *daemon;  /* its name */
    const char *address; /* where it listens */
    const char *version; /* of the daemon */
    const char *pci;
    const char *const *models; /* [model_count] names of models that live on it */
    size_t model_count;
    uint32_t index; /* position in the configuration's chips */
    uint32_t tpbs;
    uint64_t dram_bytes, dram_used_bytes;
} kaena_device;

/* The devices of all daemons that answer. */
typedef struct kaena_device_list {
    kaena_device *const *devices; /* [count] */
    size_t count;
    size_t unreachable;
} kaena_device_list;

kaena_status kaena_device_list_get(kaena_client *client, kaena_device_list **out_list,
                                   kaena_err *err);
void kaena_device_list_free(kaena_device_list *list);

/* ---- Groups of TPBs ---- */

typedef struct kaena_tpb {
    uint32_t device; /* position in the configuration's chips */
    uint32_t tpb;    /* on that device */
} kaena_tpb;

/* No TPB is in two groups; a model is loaded into one by naming it (kaena_load_options.group). */
typedef struct kaena_group {
    const char *name;
    const char *daemon;    /* address of the daemon that owns the TPBs */
    const kaena_tpb *tpbs; /* [tpb_count] */
    size_t tpb_count;
    const char *const *models; /* [model_count] names of models in it */
    size_t model_count;
    uint64_t id;        /* of its daemon */
    int32_t persistent; /* 0: goes with the session of the client that made it */
    int32_t reserved;
} kaena_group;

/* The groups of all daemons that answer. */
typedef struct kaena_group_list {
    const kaena_group *groups; /* [count] */
    size_t count;
    size_t unreachable; /* daemons that did not answer; at least one did */
} kaena_group_list;

kaena_status kaena_group_list_get(kaena_client *client, kaena_group_list **out_list,
                                  kaena_err *err);
void kaena_group_list_free(kaena_group_list *list);

typedef struct kaena_group_options {
    uint32_t size;
    uint32_t tpbs;           /* how many: 1..64 */
    const char *name;        /* unique on its daemon; NULL: made up */
    const uint32_t *devices; /* [device_count] to take them from; none = wherever they are free */
    size_t device_count;
    uint32_t persistent; /* 1: stays when the client closes */
    uint32_t reserved;
} kaena_group_options;

/* Makes a group on a daemon that has the TPBs. |out_group| (may be NULL) gets a list of this one,
 * the caller's.
 *
 * ALREADY_EXISTS      a group of that name
 * RESOURCE_EXHAUSTED  so many TPBs are not free: |needed|, |available| */
kaena_status kaena_group_create(kaena_client *client, const kaena_group_options *options,
                                kaena_group_list **out_group, kaena_err *err);

/* Destroys the group, and unloads the models in it. NOT_FOUND: no such group. */
kaena_status kaena_group_destroy(kaena_client *client, const char *name, kaena_err *err);

/* ---- Inference ---- */

typedef struct kaena_infer_call {
    uint32_t size;
    int32_t priority; /* -8..7: higher goes first in the model's queue; 0 = normal */
    const char *model;
    /* [input_count] Borrowed until the call returns; each needs name, dtype, shape and data. */
    const kaena_tensor *inputs;
    size_t input_count;
    /* [output_count] Either every name is set (those outputs are sent, in this order) or none (all
     * outputs of the model, in its order). Where |data| is set, it is the caller's buffer of
     * |bytes| bytes; where it is NULL, as it must be for strings, sequences and optionals, the
     * library allocates it (kaena_tensor_free). dtype, rank, shape, kind, bytes and not_finite
     * become those of the answer. */
    kaena_tensor *outputs;
    size_t output_count;
    int64_t timeout_ms;    /* 0: the client's */
    uint32_t check_finite; /* 1: look for NaN and infinity in the outputs */
    uint32_t reserved;
    /* Filled in on success. */
    uint64_t queue_ns;   /* waited in the daemon */
    uint64_t execute_ns; /* ran */
} kaena_infer_call;

/* Runs one inference of the model call->model, on whichever daemon has it, and waits for it.
 *
 * A refusal before the request was accepted, or a daemon that cannot be reached, leads to the next
 * daemon, and so on until the deadline. A connection that breaks after the request was sent, or
 * that gives no sign of life for 10 s, leads to at most one second attempt; inferences change
 * nothing, so running twice is harmless.
 *
 * INVALID_ARGUMENT   a name, shape, element type or size does not fit the model; or a buffer is too
 *                    small
 * NOT_FOUND          no such model
 * RESOURCE_EXHAUSTED the model's queue is full
 * DEADLINE_EXCEEDED  no answer in time; the inference does not run if it had not begun
 * ABORTED            the model was unloaded while the request waited
 * UNAVAILABLE        no daemon could be reached, or the connection broke twice
 * On failure the bytes in the caller's output buffers are undefined. */
kaena_status kaena_infer(kaena_client *client, kaena_infer_call *call, kaena_err *err);

/* The same on the least loaded replica of |model|; call->model is not looked at. As long as one
 * replica lives, the death of daemons shows in no call. RESOURCE_EXHAUSTED is told when every
 * replica that there should be is full; while one is missing the call waits for room. */
kaena_status kaena_model_infer(kaena_model *model, kaena_infer_call *call, kaena_err *err);

/* ---- Requests: inferences that nobody waits for in a call ---- */

typedef struct kaena_request kaena_request;

/* Called once when the request is done, with success or not (kaena_request_status), in a thread of
 * the library, which must not be kept: everybody's requests wait for it. It may submit and cancel
 * requests and release those that are done, but not wait for one nor close a model or a client. */
typedef void kaena_done(void *user, kaena_request *request);

/* Submits one inference and returns; any number may be under way, from any thread. |call| and all
 * it points to is the library's until the request is done. What the daemons have no room for waits
 * here, until the deadline of the call; otherwise the rules are those of kaena_model_infer.
 *
 * |done|         may be NULL when there is |out_request|
 * |out_request|  a handle, released by the caller; NULL: |done| sees it for the last time
 *
 * INVALID_ARGUMENT, RESOURCE_EXHAUSTED (memory, threads)  nothing was submitted, |done| is not
 * called */
kaena_status kaena_model_submit(kaena_model *model, kaena_infer_call *call, kaena_done *done,
                                void *user, kaena_request **out_request, kaena_err *err);

/* Waits until the request is done and its callback has returned, for |timeout_ms| at most; 0 only
 * looks, below 0 there is no limit. 1: so it is. */
int kaena_request_wait(kaena_request *request, int64_t timeout_ms);

/* What became of a request that is done; FAILED_PRECONDITION before that. */
kaena_status kaena_request_status(const kaena_request *request, kaena_err *err);

/* Asks for an end: it is done soon, with CANCELLED unless the answer was faster. */
void kaena_request_cancel(kaena_request *request);

/* Gives the handle back; a request that is not done is cancelled and waited for. A handle outlives
 * its model and its client. NULL does nothing. */
void kaena_request_release(kaena_request *request);

/* ---- Posted requests: inferences whose answer stays with the daemon until it is fetched ---- */

/* Names a posted request. Plain data, for the client that posted it. */
typedef struct kaena_cookie {
    uint64_t value;  /* the daemon's name for it; never 0 */
    uint32_t daemon; /* that has it: position among kaena_model_replicas */
    uint32_t reserved;
    char session[64]; /* that it goes with; "" = none: the daemon knows no sessions */
} kaena_cookie;

/* Posts one inference to the least loaded replica and returns when a daemon has accepted it: what
 * the call points to is the caller's again, and the request runs without a deadline. Of
 * call->outputs only the names are looked at; |timeout_ms| is for the acceptance. Which daemons are
 * tried, and how often, is as in kaena_model_infer. Tensors go through the socket, whatever their
 * size. Not from a callback.
 *
 * The answer is lost when nobody fetches it in time (limits.posted_seconds of the daemon, 60 s
 * unless configured), and when the client closes or its session with the daemon ends, as it does
 * when one of them dies.
 *
 * As kaena_model_infer; RESOURCE_EXHAUSTED also when the client has posted more than the daemons
 * keep */
kaena_status kaena_model_post(kaena_model *model, const kaena_infer_call *call,
                              kaena_cookie *out_cookie, kaena_err *err);

/* Waits for the answer of a posted request and fetches it, once, into call->outputs, whose names
 * are those that were posted, in the same order; the rest is as in kaena_infer, but for the inputs,
 * which are not looked at. A wait that ends with DEADLINE_EXCEEDED or UNAVAILABLE has lost nothing:
 * wait again; so it is with a connection that breaks, within the wait. An answer that does not fit
 * the call (a buffer that is too small) is lost. Not from a callback.
 *
 * DEADLINE_EXCEEDED    no answer within call->timeout_ms
 * NOT_FOUND            there is none (any more): |reason| says KAENA_REASON_ANSWER_FETCHED or
 *                      KAENA_REASON_ANSWER_EXPIRED, or nothing when the daemon does not remember
 * ABORTED              with KAENA_REASON_NO_SESSION: the session that it was posted in has ended
 *                      (the daemon died, for example), the answer is lost; else as in kaena_infer
 * FAILED_PRECONDITION  another thread waits for it
 * UNAVAILABLE          the daemon cannot be reached, and may still have it
 * and what the inference itself came to */
kaena_status kaena_wait(kaena_client *client, const kaena_cookie *cookie, kaena_infer_call *call,
                        kaena_err *err);

/* The same, but does not wait for an answer that is not there: then |*out_done| is 0 and the result
 * KAENA_OK. 1: the answer was fetched. */
kaena_status kaena_poll(kaena_client *client, const kaena_cookie *cookie, kaena_infer_call *call,
                        int *out_done, kaena_err *err);

/* ---- Statistics ---- */

#define KAENA_STATUS_COUNT 17 /* statuses that requests end with: 0..16 */

/* How often a time fell into which bucket. */
typedef struct kaena_histogram {
    const double *bounds;   /* [bucket_count - 1] upper bounds in seconds, ascending; the last
                               bucket has none */
    const uint64_t *counts; /* [bucket_count] */
    size_t bucket_count;    /* 0: nothing is known */
    double sum;             /* seconds */
} kaena_histogram;

/* Counted since the model was loaded. */
typedef struct kaena_model_stats {
    const char *name, *version;
    uint64_t requests[KAENA_STATUS_COUNT]; /* answered, by kaena_status */
    uint32_t queued, running;              /* now */
    uint64_t executions;
    kaena_histogram queue;             /* from acceptance to a free context */
    kaena_histogram execute;           /* on TPBs and host */
    kaena_histogram total;             /* from arrival to the answer */
    uint64_t batch_items, batch_slots; /* of a dynamic batch: items that ran, and room for them */
    uint64_t timeouts;                 /* executions stopped because they took too long */
} kaena_model_stats;

typedef struct kaena_tpb_stats {
    uint64_t busy_ns; /* has run programs so long since the daemon's start */
    uint64_t dram_bytes, dram_used_bytes;
} kaena_tpb_stats;

typedef struct kaena_device_stats {
    const char *pci;
    const kaena_tpb_stats *tpbs; /* [tpb_count] */
    size_t tpb_count;
    uint32_t index;
    uint64_t dram_bytes, dram_used_bytes;
} kaena_device_stats;

typedef struct kaena_daemon_stats {
    const char *name, *address, *version;
    uint64_t uptime_ns, rss_bytes, region_bytes;
    uint32_t connections, sessions, regions, restarts;
    const kaena_model_stats *models; /* [model_count] */
    size_t model_count;
    const kaena_device_stats *devices; /* [device_count] */
    size_t device_count;
} kaena_daemon_stats;

/* Of all daemons that answer. */
typedef struct kaena_stats {
    const kaena_daemon_stats *daemons; /* [count] */
    size_t count;
    size_t unreachable;
} kaena_stats;

/* Asks every daemon, each for at most |timeout_ms| (0: the client's). Fails when none answers. */
kaena_status kaena_stats_get(kaena_client *client, int64_t timeout_ms, kaena_stats **out_stats,
                             kaena_err *err);
void kaena_stats_free(kaena_stats *stats);

/* How many times were counted. */
uint64_t kaena_histogram_total(const kaena_histogram *histogram);
/* Seconds that the part |q| (0..1) of the times did not exceed: estimated, as if a bucket's were
 * spread evenly; what lies in the last bucket counts as its lower bound. 0 when there are none. */
double kaena_histogram_quantile(const kaena_histogram *histogram, double q);

/* "NOT_FOUND"; a static string. */
const char *kaena_status_name(kaena_status status);

#ifdef __cplusplus
}
#endif

#endif
