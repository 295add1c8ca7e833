#!/usr/bin/env bash
# OpenMPI's mpirun as lathe wants it: also as root, also with more ranks than cores, and with no rank tied to one core, since
# each has threads of its own. Usage: scripts/mpirun.sh -n 4 build/release/lathe train ...
set -euo pipefail

command -v mpirun >/dev/null || {
    echo "mpirun.sh: no mpirun: install openmpi-bin (scripts/install_packages.sh does)" >&2
    exit 1
}
if ((EUID == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
exec mpirun --oversubscribe --bind-to none "$@"
