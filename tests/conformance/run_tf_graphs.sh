#!/bin/sh
# usage: run_tf_graphs.sh RUNNER [options]: the graphs of tensorflow/tf_op_graphs, which real TensorFlow has run. Needs KAENA_SHARED_DIR.
set -eu
runner=$1
shift
here=$(dirname "$0")
archive=${KAENA_SHARED_DIR:-}/models/tensorflow/tf_op_graphs/cases.tar.xz
if [ -z "${KAENA_SHARED_DIR:-}" ] || ! [ -f "$archive" ]; then
    echo "KAENA_SHARED_DIR is not set: no TensorFlow graphs to run" >&2
    exit 77
fi
out=${KAENA_BUILD_DIR:?}/tests/conformance/tf_op_graphs
"$here/unpack_once.sh" "$archive" "$out"
exec "$runner" --xfail "$here/tf_xfail.txt" --at-least 96% --at-least-common 96% --quiet "$@" "$out"
