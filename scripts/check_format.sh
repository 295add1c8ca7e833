#!/usr/bin/env bash
# Fails when a C++ file is not formatted as .clang-format says, or a script does not parse.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs -r clang-format-14 --dry-run --Werror
for script in $(git ls-files '*.sh' .ci/run); do
    bash -n "$script"
done
echo "format: clean"
