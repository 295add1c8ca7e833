#!/usr/bin/env bash
# clang-tidy with the short list of .clang-tidy over what the release build compiles, as it compiles it: sources that share their
# headers are read together.
set -euo pipefail
cd "$(dirname "$0")/.."
sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' build/release/compile_commands.json | grep -vE '/tests/|/kernels/ptxemu/' | sort -u |
    xargs -r -n 4 -P "$(nproc)" clang-tidy-14 -p build/release --quiet --warnings-as-errors='*' 2> >(grep -v 'warnings generated' >&2)
echo "tidy: clean"
