#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test by CTest: optimised, under the address and undefined-behaviour sanitizers,
# what runs in several threads under the thread sanitizer, and, where nvcc is installed, the CUDA tests on the emulated GPU. While
# one build is tested the next is built.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install_packages.sh --test

# Tests share the cores: their threads must not spin long for each other.
export GOMP_SPINCOUNT=2000
# Many tests wait for processes and disks more than they compute.
jobs=$(($(nproc) * 3 / 2))

status=0
tests=
# Waits for the tests under way, and starts those of another build beside what follows.
test_beside() { # PRESET
    wait_for_tests
    ctest --preset "$1" -j "$jobs" --output-on-failure &
    tests=$!
}
wait_for_tests() {
    [[ -z $tests ]] || wait "$tests" || status=1
    tests=
}
trap '[[ -z $tests ]] || kill "$tests" 2>/dev/null || true' EXIT

scripts/build.sh debug
test_beside debug
scripts/build.sh release
test_beside release
scripts/build.sh tsan lathe_communicator_tests lathe_layout_tests
test_beside tsan
if command -v nvcc >/dev/null || [[ -x ${CUDA_PATH:-/usr/local/cuda}/bin/nvcc ]]; then
    scripts/build.sh emulated cuda_tests
    test_beside emulated
else
    echo "CUDA tests skipped: no nvcc (install the CUDA toolkit 13 and put nvcc on the PATH)"
fi
wait_for_tests
exit $status
