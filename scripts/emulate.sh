#!/usr/bin/env bash
# Runs a program built with CUDA on the emulated GPU (kernels/ptxemu), also as a rank:
#   scripts/emulate.sh build/emulated/lathe train --device cuda ...
#   scripts/mpirun.sh -n 2 scripts/emulate.sh build/emulated/lathe train --device cuda ...
# The emulated GPU is that of the build folder in which the program lies, else that of build/emulated. Its settings (PTXEMU_...) are
# in kernels/ptxemu/README.md. A reported fault ends the program with code 86.
set -euo pipefail

if (($# == 0)); then
    echo "usage: scripts/emulate.sh COMMAND [ARGUMENT...]" >&2
    exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(command -v -- "$1" || true)
if [[ -z $program ]]; then
    echo "emulate.sh: no such program: $1" >&2
    exit 2
fi

folder=$(cd "$(dirname "$program")" && pwd)
while [[ $folder != / && ! -e $folder/ptxemu/libcudart.so.13 ]]; do
    folder=$(dirname "$folder")
done
[[ $folder != / ]] || folder=$root/build/emulated
if [[ ! -e $folder/ptxemu/libcudart.so.13 ]]; then
    echo "emulate.sh: the emulated GPU is not built ($folder/ptxemu): scripts/build.sh emulated builds it where nvcc is installed" >&2
    exit 2
fi

export LD_LIBRARY_PATH=$folder/ptxemu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$@"
