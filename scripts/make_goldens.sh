#!/usr/bin/env bash
# Makes the golden files of tests/golden anew: ./scripts/make_goldens.sh [OUTPUT]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
exec "$("$here/reference_python.sh")" "$here/make_goldens.py" "${1:-$here/../tests/golden}"
