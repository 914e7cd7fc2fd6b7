#!/bin/sh
# Brings the models of the shared directory into one layout, NAME/model.onnx beside
# NAME/test_data_set_K, and prints where. The large classifiers come without weights: "light_NAME"
# are these, "random_NAME" have seeded random weights (1.4 GB in all). KAENA_MODELS_DIR keeps the
# result elsewhere than in the build directory.
set -eu
shared=${KAENA_SHARED_DIR:?}/models/onnx
out=${KAENA_MODELS_DIR:-${KAENA_BUILD_DIR:?}/tests/conformance/models}
mkdir -p "$out"
# Tests may run at the same time.
exec 9>"$out/lock"
flock 9

for name in blazeface_front cntk_mnist oww_embedding ppocr_cls sagemaker_mnist_mlp super_resolution_espcn \
    magika_v1 tract_keras_mlp triton_simple ultraface_rfb320 vespa_dummy_transformer; do
    ln -sfn "$shared/models/$name" "$out/$name"
done

for name in bvlc_alexnet inception_v1 resnet50 squeezenet vgg19 zfnet512; do
    light=$out/light_$name random=$out/random_$name
    mkdir -p "$light/test_data_set_0" "$random/test_data_set_0"
    ln -sfn "$shared/light/$name/model.onnx" "$light/model.onnx"
    ln -sfn "$shared/light/_inputs/arange_input_0.pb" "$light/test_data_set_0/input_0.pb"
    ln -sfn "$shared/light/$name/test_data_set_0/output_0.pb" "$light/test_data_set_0/output_0.pb"
    ln -sfn "$shared/light/_inputs/uniform77_input_0.pb" "$random/test_data_set_0/input_0.pb"
    ln -sfn "$shared/light/$name/random1234_output_0.pb" "$random/test_data_set_0/output_0.pb"
    if ! [ -e "$random/model.onnx" ]; then
        # Debian's interpreter: another python3 on the path has no onnx. The scale of the last layer
        # goes by the source file's path.
        /usr/bin/python3 "$shared/light/materialise_light.py" "$shared/light/$name/model.onnx" \
            "$random/model.tmp"
        mv "$random/model.tmp" "$random/model.onnx"
    fi
done >&2
echo "$out"
