#!/usr/bin/env bash
# How near generation at batch 1 comes to the memory's bandwidth, beyond which it cannot go: tokens/s, and the weights' bytes a
# token as a share of the bandwidth measured in the same run. Of models as initialized, whose tokens take no less time.
#   scripts/generate_speed.sh [--model NAME] [--repetitions N] [LATHE]
set -euo pipefail
cd "$(dirname "$0")/.."

lathe=build/release/lathe
repetitions=3
models=(gpt2-124m llama-110m)
while (($#)); do
    case $1 in
        --model) models=("$2"); shift ;;
        --repetitions) repetitions=$2; shift ;;
        *) lathe=$1 ;;
    esac
    shift
done
[[ -x $lathe ]] || { echo "$lathe: no such program; build it or give its path" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bible -f 'gen1:1-gen20:18' >"$work/corpus.txt"
"$lathe" prepare --input "$work/corpus.txt" --output "$work/data" --vocab-size 512 >/dev/null

# The vocabulary of the preset's own family.
vocabulary() { [[ $1 == gpt2-* ]] && echo 50257 || echo 32000; }

for model in "${models[@]}"; do
    rm -rf "$work/run"
    "$lathe" train --preset "$model" --vocabulary-size "$(vocabulary "$model")" --data "$work/data" --output "$work/run" \
        --steps 1 --sequence-length 64 --micro-batch 1 --global-batch 1 --validation-sequences 1 >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
    for dtype in bf16 f32; do
        for ((i = 0; i < repetitions; i++)); do
            # Greedy: a text that no end of a document ends early.
            echo "$model: $("$lathe" generate --model "$work/run" --prompt "In the beginning" --tokens 200 --temperature 0 \
                --dtype "$dtype" --speed 2>&1 >/dev/null | tail -n 1)"
        done
    done
done
