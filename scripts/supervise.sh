#!/usr/bin/env bash
# Runs a command again while it fails: scripts/supervise.sh mpirun -n 4 build/release/lathe train ... --output RUN --resume auto
#
# Stops where the command is done (0), was used wrongly (2) or was stopped by a signal after a checkpoint (130, 143), and after
# LATHE_RESTARTS (5) restarts in a row without a new step in RUN/metrics.jsonl. Waits 1 s before the first restart, then twice as
# long each time up to LATHE_BACKOFF (300) s. SIGINT, SIGTERM and SIGUSR1 stop the command with time for a checkpoint (both lathe
# and mpirun take SIGUSR1 for that), and then this script; a second one ends it at once.
set -uo pipefail

limit=${LATHE_RESTARTS:-5}
longest=${LATHE_BACKOFF:-300}
output=
for ((i = 1; i < $#; ++i)); do
    [[ ${!i} == --output ]] && j=$((i + 1)) && output=${!j}
done
if (($# == 0)) || [[ -z $output ]]; then
    echo "supervise.sh: give a command with --output RUN" >&2
    exit 2
fi
say() { echo "supervise.sh: $*" >&2; }
steps() { tail -n 1 "$output/metrics.jsonl" 2>/dev/null | grep -o '"step": *[0-9]*' | grep -o '[0-9]*' || echo 0; }

job=
stops=0
stop() {
    stops=$((stops + 1))
    [[ -z $job ]] && return
    if ((stops == 1)); then kill -USR1 "$job"; else kill -TERM "$job"; fi
}
trap stop INT TERM USR1

failures=0
while true; do
    before=$(steps)
    # In a session of its own: a terminal's Ctrl-C reaches it through this script alone.
    setsid setpriv --pdeathsig TERM "$@" </dev/null &
    job=$!
    wait "$job"
    status=$?
    while kill -0 "$job" 2>/dev/null; do # a signal ended the wait, not the command
        wait "$job"
        status=$?
    done
    job=
    case $status in 0 | 2 | 130 | 143) exit "$status" ;; esac
    ((stops == 0)) || exit "$status"
    (($(steps) > before)) && failures=0
    if ((failures >= limit)); then
        say "$failures restarts without a new step: giving up with $status"
        exit "$status"
    fi
    pause=$((1 << (failures < 20 ? failures : 20)))
    ((pause <= longest)) || pause=$longest
    failures=$((failures + 1))
    say "ended with $status at step $(steps); starts again in $pause s ($failures of $limit without a new step)"
    sleep "$pause" &
    wait $!
    ((stops == 0)) || exit 143
done
