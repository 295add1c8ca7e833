#!/usr/bin/env bash
# Lathe and transformers read each other's models and agree on the logits, for every family:
#   ./scripts/check_hugging_face.sh [LATHE]        (default: build/release/lathe)
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
exec "$("$here/reference_python.sh")" "$here/check_hugging_face.py" "${1:-$here/../build/release/lathe}"
