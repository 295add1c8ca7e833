#!/usr/bin/env bash
# Compiles every kernel to machine code for compute capability 8.0, 9.0, 10.0 and 12.0, warnings as errors, and fails where a hot
# kernel spills or uses local memory, where ptxas notes that it serialised something, where a main loop holds other
# instructions than its design says, or where the table in docs/kernels.md is not what was found (--update writes it).
#   scripts/check_cuda.sh [--update]
# Needs nvcc and, for the machine code, the Python package nvidia-cuda-nvdisasm, which is put into build/machine-code.
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=$(command -v nvcc || echo "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc")
[[ -x $nvcc ]] || {
    echo "check_cuda.sh: skipped: there is no nvcc (install the CUDA toolkit 13 and put nvcc on the PATH)"
    exit 0
}

tools=build/machine-code
if [[ ! -e $tools/.complete ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet nvidia-cuda-nvdisasm==13.2.86
    touch "$tools/.complete"
fi
nvdisasm=$(find "$tools" -name nvdisasm -type f -path '*/bin/*' | head -n 1)

log=build/gate/configure.log
mkdir -p build/gate
cmake --preset cuda >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    exit 1
}
include=$(dirname "$(dirname "$(realpath "$nvcc")")")/include
for program in occupancy design; do
    g++ -std=c++20 -O1 -Wall -Wextra -Werror -I. -isystem "$include" "scripts/cuda_gate/$program.cpp" \
        kernels/cuda/device_profile.cpp -lfmt -o "build/gate/$program"
done
exec python3 scripts/cuda_gate/gate.py --nvdisasm "$nvdisasm" "$@"
