#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test by CTest: optimised first, then under the address and
# undefined-behaviour sanitizers, and what runs in several threads under the thread sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_packages.sh --test

# Tests share the cores: their threads must not spin long for each other.
export GOMP_SPINCOUNT=2000

status=0
for preset in debug release; do
    scripts/build.sh "$preset"
    ctest --preset "$preset" -j "$(nproc)" --output-on-failure || status=1
done
scripts/build.sh tsan lathe_communicator_tests lathe_layout_tests
ctest --preset tsan -j "$(nproc)" --output-on-failure || status=1
exit $status
