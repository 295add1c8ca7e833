#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test by CTest: optimised first, then under the address and
# undefined-behaviour sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_packages.sh --test

status=0
for preset in debug release; do
    scripts/build.sh "$preset"
    ctest --preset "$preset" -j "$(nproc)" --output-on-failure || status=1
done
exit $status
