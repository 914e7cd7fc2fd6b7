/* What a node costs on either side, before it is lowered: enough to see whether a crossing pays.
 * The figures are a processor's that emulates TPBs, not the hardware's: they decide where a node is
 * computed, and the estimates in the report are made from instructions. */
#include "cost.h"

#include "pass_util.h"

#define HOST_NODE_US 1.0 /* call, memory of the results */
#define HOST_ELEMENTS_PER_US 300.0
#define HOST_COPIED_PER_US 4000.0 /* elements handed on in their order */
#define HOST_FLOPS_PER_US 600.0   /* sums of products, in double precision */
#define DEVICE_NODE_US 0.3
#define DEVICE_BYTES_PER_US 5000.0
#define DEVICE_FLOPS_PER_US 50000.0
#define CROSSING_TENSOR_US 1.0 /* its conversion into the other side's layout */
#define CROSSING_BYTES_PER_US 5000.0

static double elements(const kgr_value *v)
{
    return kcc_known(v) ? (double)kop_elements(&v->t) : 0;
}

static double bytes(const kgr_value *v)
{
    return elements(v) * (double)kaena_dtype_size(v->t.dtype);
}

static int64_t last_dim(const kgr_value *v, int32_t back)
{
    int32_t rank = kcc_known(v) ? v->t.shape.rank : 0;
    return rank >= back ? v->t.shape.dim[rank - back] : 1;
}

/* Products per element of the result of a convolution with weights |w| [M][C/group][kernel]. */
static double taps(const kgr_value *w)
{
    double m = kcc_known(w) && w->t.shape.rank ? (double)w->t.shape.dim[0] : 0;
    return m > 0 ? elements(w) / m : 0;
}

double kcc_node_flops(const kgr_node *n)
{
    double out = elements(n->out[0]);
    switch ((int)n->op) {
    case KOP_Conv:
    case KOP_ConvInteger:
        return 2 * out * taps(n->in[1]);
    case KOP_QLinearConv:
        return 2 * out * taps(n->in[3]);
    case KOP_ConvTranspose:
        return 2 * elements(n->in[0]) * taps(n->in[1]);
    case KOP_Gemm:
        return 2 * out * (double)last_dim(n->in[0], kgr_attr_get_int(n, "transA", 0) ? 2 : 1);
    case KOP_MatMul:
    case KOP_MatMulInteger:
    case KOP_QLinearMatMul:
        return 2 * out * (double)last_dim(n->in[0], 1);
    case KOP_RNN:
    case KOP_GRU:
    case KOP_LSTM: { /* X [steps][batch][.], W and R per step and row of the batch */
        double rows = (double)(last_dim(n->in[0], 3) * last_dim(n->in[0], 2));
        return 2 * rows * (elements(n->in[1]) + elements(n->in[2]));
    }
    case KOP_Cast:
    case KOP_Concat:
    case KOP_Expand:
    case KOP_Flatten:
    case KOP_Gather:
    case KOP_Identity:
    case KOP_Pad:
    case KOP_Reshape:
    case KOP_Slice:
    case KOP_Split:
    case KOP_Squeeze:
    case KOP_Tile:
    case KOP_Transpose:
    case KOP_Unsqueeze:
        return 0;
    default:
        return out;
    }
}

/* Elements that pass through a node. */
static double traffic(const kgr_node *n, double (*of)(const kgr_value *v))
{
    double sum = 0;
    for (uint32_t i = 0; i < n->n_in; i++)
        sum += n->in[i] ? of(n->in[i]) : 0;
    for (uint32_t i = 0; i < n->n_out; i++)
        sum += of(n->out[i]);
    return sum;
}

static bool hands_on(const kgr_node *n)
{
    return n->op == KOP_Reshape || n->op == KOP_Flatten || n->op == KOP_Identity ||
           n->op == KOP_Squeeze || n->op == KOP_Unsqueeze;
}

double kcc_host_us(const kgr_node *n)
{
    double rate = hands_on(n) ? HOST_COPIED_PER_US : HOST_ELEMENTS_PER_US;
    return HOST_NODE_US + traffic(n, elements) / rate + kcc_node_flops(n) / HOST_FLOPS_PER_US;
}

double kcc_device_us(const kgr_node *n)
{
    return DEVICE_NODE_US + traffic(n, bytes) / DEVICE_BYTES_PER_US +
           kcc_node_flops(n) / DEVICE_FLOPS_PER_US;
}

double kcc_crossing_us(const kgr_value *v)
{
    return CROSSING_TENSOR_US + bytes(v) / CROSSING_BYTES_PER_US;
}
