#!/bin/sh
# usage: run_models.sh RUNNER [options]: whole models against the outputs they came with.
set -eu
runner=$1
shift
here=$(dirname "$0")
if [ -z "${KAENA_SHARED_DIR:-}" ]; then
    echo "SKIPPED: the models are in the shared directory (meson option shared_dir)" >&2
    exit 77
fi
models=$("$here/prepare_models.sh")
exec "$runner" --largest --rel 1e-4 --abs 1e-5 --at-least 23 "$@" "$models"
