#!/usr/bin/env bash
# Reads a run's TensorBoard events with TensorBoard's own reader and compares them with metrics.jsonl:
#   scripts/check_tensorboard.sh RUN_FOLDER
# The Python package tensorboard goes to build/tensorboard; set PYTHON to an interpreter that has it to use that one.
set -euo pipefail
[[ $# -eq 1 ]] || { echo "usage: scripts/check_tensorboard.sh RUN_FOLDER" >&2; exit 2; }
run=$(realpath "$1")
cd "$(dirname "$0")/.."
if [[ -z ${PYTHON:-} ]]; then
    venv=build/tensorboard
    PYTHON=$venv/bin/python
    [[ -x $PYTHON ]] || python3 -m venv "$venv"
    "$PYTHON" -m pip install --quiet tensorboard
fi
exec "$PYTHON" scripts/check_tensorboard.py "$run"
