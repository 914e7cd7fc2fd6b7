#!/bin/sh
# usage: run_bits.sh BITS [--all]: the bits of the real models below 1 GFLOP (multiply-adds); with
# --all, of large classifiers too.
set -eu
bits=$1
shift
if [ -z "${KAENA_SHARED_DIR:-}" ]; then
    echo "SKIPPED: the models are in the shared directory (meson option shared_dir)" >&2
    exit 77
fi
models=$("$(dirname "$0")/../conformance/prepare_models.sh")
names="cntk_mnist ultraface_rfb320 blazeface_front ppocr_cls tract_keras_mlp sagemaker_mnist_mlp
oww_embedding triton_simple random_squeezenet"
case " $* " in
*" --all "*) names="$names random_inception_v1 random_resnet50" ;;
esac
for name in $names; do
    set -- "$@" "$models/$name"
done
set -- "$@" "$KAENA_SHARED_DIR/models/onnx/models/dtln_model1" # recurrent
exec "$bits" "$@"
