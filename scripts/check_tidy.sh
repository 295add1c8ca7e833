#!/usr/bin/env bash
# clang-tidy with the short list of .clang-tidy over every source of the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
# What is built only with CUDA is not among them.
built=$(sed -n "s|^ *\"file\": \"$PWD/\(.*\)\".*|\1|p" build/release/compile_commands.json)
git ls-files '*.cpp' ':!tests' ':!*/bench/*' | grep -Fxf <(echo "$built") |
    xargs -r -n 4 -P "$(nproc)" clang-tidy-14 -p build/release --quiet --warnings-as-errors='*' 2> >(grep -v 'warnings generated' >&2)
echo "tidy: clean"
