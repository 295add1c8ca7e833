#!/usr/bin/env bash
# What the kernels do on the emulated GPU beside the least that they must: bytes of global memory and tensor-core FLOPs of each case
# of `lathe bench`, counted, and shared-memory bank conflicts. A model: there are no caches and there is no time.
#   scripts/emulated_counters.sh [OPTION of lathe bench]...     e.g. --model gpt2-124m --filter layernorm
set -euo pipefail
cd "$(dirname "$0")/.."
[[ -x build/emulated/lathe ]] || {
    echo "emulated_counters.sh: build/emulated/lathe is not built: scripts/build.sh emulated builds it where nvcc is installed" >&2
    exit 2
}
(($#)) || set -- --model llama-5m --micro-batch 1 --sequence-length 128
exec python3 scripts/emulated_counters.py "$@"
