#!/bin/sh
# Repeats everything that needs a GPU in one call: sh scripts/gpu.sh [FOLDER] [OP ...]
# It needs a python3 with torch, numba-cuda, triton and pytest; nothing is installed and no network is used.
# A copy without its git history names its commit in GPU_PIPELINE_COMMIT.
set -u
cd "$(dirname "$0")/.."
out=${1:-${OUT:-runs/gpu}}
[ $# -gt 0 ] && shift
exec "${PYTHON:-python3}" -u -m bench gpu --out "$out" "$@"
