#!/usr/bin/env bash
# Compares Lathe's tokenizer with tiktoken and Hugging Face tokenizers: ids, trained merges and speed.
#   scripts/compare_tokenizers.sh [LATHE] [--golden FOLDER] [--quick]
# LATHE is the binary (default build/release/lathe). The Python packages go to build/tokenizers; set
# PYTHON to an interpreter that has tiktoken and tokenizers to use that one instead.
set -euo pipefail
cd "$(dirname "$0")/.."

lathe=build/release/lathe
if [[ $# -gt 0 && $1 != --* ]]; then
    lathe=$1
    shift
fi
[[ -x $lathe ]] || { echo "$lathe: no such program; build it or give its path" >&2; exit 2; }

work=build/tokenizers
mkdir -p "$work"
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$work/venv/bin/python
    [[ -x $PYTHON ]] || python3 -m venv "$work/venv"
    "$PYTHON" -m pip install --quiet tiktoken tokenizers
fi
# GPT-2's ranks come with the source package of openai-whisper (its needs are not installed).
if [[ ! -f $work/gpt2.tiktoken ]]; then
    "$PYTHON" -m pip download --quiet --no-deps --no-binary :all: --dest "$work" openai-whisper
    tar -xzf "$work"/openai_whisper-*.tar.gz -C "$work" --strip-components=3 --wildcards \
        '*/whisper/assets/gpt2.tiktoken'
fi
if command -v bible >/dev/null; then
    bible -f 'gen1:1-rev22:21' >"$work/english.txt"
else
    echo "install the Debian packages bible-kjv and bible-kjv-text for the English text" >&2
    exit 2
fi
exec "$PYTHON" scripts/compare_tokenizers.py --lathe "$lathe" --work "$work" "$@"
