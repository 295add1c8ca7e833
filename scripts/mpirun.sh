#!/usr/bin/env bash
# OpenMPI's mpirun as lathe wants it: also as root, also with more ranks than cores, and with no rank tied to one core, since
# each has threads of its own. Usage: scripts/mpirun.sh -n 4 build/release/lathe train ...
#
# Ctrl-C, SIGTERM and SIGUSR1 let the ranks write a checkpoint and leave, however long that takes (mpirun itself would kill them a
# second later); a second one ends the job at once.
set -euo pipefail

command -v mpirun >/dev/null || {
    echo "mpirun.sh: no mpirun: install openmpi-bin (scripts/install_packages.sh does)" >&2
    exit 1
}
if ((EUID == 0)); then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# A host that goes silent is noticed within 11 s; OpenMPI's own settings take 8 minutes.
keepalive=(--mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3)

# In a session of its own, where a terminal's Ctrl-C does not reach it past this script; it does not outlive the script.
setsid setpriv --pdeathsig TERM mpirun --oversubscribe --bind-to none "${keepalive[@]}" "$@" </dev/null &
job=$!
stops=0
stop() {
    stops=$((stops + 1))
    ((stops == 1)) && kill -USR1 "$job" || kill -TERM "$job" || true
}
trap stop INT TERM USR1

status=0
wait "$job" || status=$?
while kill -0 "$job" 2>/dev/null; do # a signal ended the wait, not the job
    status=0
    wait "$job" || status=$?
done
exit "$status"
