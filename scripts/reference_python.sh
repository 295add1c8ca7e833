#!/usr/bin/env bash
# Prints a Python with torch, transformers, tokenizers and safetensors: $LATHE_PYTHON when set, else that of a virtual
# environment in build/venv, made on first use. Only checks against other programs need it.
set -euo pipefail
if [[ -n "${LATHE_PYTHON:-}" ]]; then
    echo "$LATHE_PYTHON"
    exit
fi
venv="$(cd "$(dirname "$0")/.." && pwd)/build/venv"
if [[ ! -e "$venv/.complete" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet torch transformers tokenizers safetensors numpy >&2
    touch "$venv/.complete"
fi
echo "$venv/bin/python"
