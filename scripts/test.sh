#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test by CTest: optimised first, then under the address and
# undefined-behaviour sanitizers, what runs in several threads under the thread sanitizer, and, where nvcc is installed, the
# CUDA tests on the emulated GPU.
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

if command -v nvcc >/dev/null || [[ -x ${CUDA_PATH:-/usr/local/cuda}/bin/nvcc ]]; then
    scripts/build.sh emulated cuda_tests
    ctest --preset emulated -j "$(nproc)" --output-on-failure || status=1
else
    echo "CUDA tests skipped: no nvcc (install the CUDA toolkit 13 and put nvcc on the PATH)"
fi
exit $status
