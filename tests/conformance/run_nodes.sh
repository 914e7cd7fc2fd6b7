#!/bin/sh
# usage: run_nodes.sh RUNNER [options]: the operator cases of Debian's libonnx-testdata and, with
# KAENA_SHARED_DIR, those that newer releases of ONNX ship.
set -eu
runner=$1
shift
here=$(dirname "$0")
data=/usr/share/libonnx-testdata/data
if ! [ -d "$data/node" ]; then
    echo "$data/node is missing: apt-get install libonnx-testdata" >&2
    exit 1
fi
set -- "$@" "$data/node" "$data/simple" "$data/pytorch-converted" "$data/pytorch-operator"
backend=${KAENA_SHARED_DIR:-}/models/onnx/backend
if [ -n "${KAENA_SHARED_DIR:-}" ] && [ -d "$backend" ]; then
    # The node cases there are the same; these are a newer release's.
    out=${KAENA_BUILD_DIR:?}/tests/conformance/newer
    "$here/unpack_once.sh" "$backend/pytorch-converted.tar.xz" "$out"
    set -- "$@" "$out"
else
    echo "KAENA_SHARED_DIR is not set: only the cases of libonnx-testdata run" >&2
fi
exec "$runner" --xfail "$here/xfail.txt" --at-least 97% --all-supported --table --quiet "$@"
