#!/usr/bin/env bash
# run_case.sh FOLDER EXPECTED PROGRAM [CASE]: runs PROGRAM on the emulated GPU of FOLDER. With EXPECTED the emulator must report that
# fault and make the program fail; without, the program must succeed and nothing may be reported.
set -uo pipefail
folder=$1 expected=$2
shift 2

log=$(mktemp)
trap 'rm -f "$log"' EXIT
LD_LIBRARY_PATH=$folder "$@" 2>"$log"
status=$?
cat "$log" >&2

if [[ -z $expected ]]; then
    ((status == 0)) && ! grep -q '^ptxemu: ' "$log"
    exit
fi
if ! grep -qF -- "$expected" "$log" || ((status != 86)); then
    echo "run_case.sh: expected the report '$expected' and exit code 86, got code $status" >&2
    exit 1
fi
