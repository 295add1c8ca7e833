#!/usr/bin/env bash
# Lathe beside PyTorch on this CPU: the same model, weights, tokens and AdamW, in turns; tables in markdown.
#   scripts/compare_pytorch.sh [--quick] [--model NAME]... [--length T]... [--dtype f32|bf16]... [--repetitions N] ...
# --help tells all options. Everything takes hours; --quick, one small row, a minute or two. Needs a quiet machine.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
exec "$("$here/reference_python.sh")" "$here/compare_pytorch/compare.py" "$@"
