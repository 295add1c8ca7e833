#!/usr/bin/env bash
# Configures and builds one preset: scripts/build.sh PRESET [TARGET...]. Quiet unless something fails.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift

# A compiler of this project's size takes about 1.5 GB a job at worst.
memory_gb=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$(nproc)
((jobs * 3 / 2 <= memory_gb)) || jobs=$((memory_gb * 2 / 3 > 0 ? memory_gb * 2 / 3 : 1))

log=build/$preset/build.log
mkdir -p "build/$preset"
echo "Building build/$preset (log: $log)"
if ! { cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${@:+--target "$@"}; } >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    exit 1
fi
