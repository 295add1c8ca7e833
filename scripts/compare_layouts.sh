#!/usr/bin/env bash
# What ranks cost: tokens/s of 2 ranks x 1 thread beside 1 rank x 2 threads (stages 0 and 3, accumulation 1 and 8), and of
# ordered beside native reduction at 4 ranks. Alternating runs; the median of each, and the spread of their ratios.
#   scripts/compare_layouts.sh [--model NAME] [--repetitions N] [LATHE]
# Without --model both llama-5m (ten minutes) and gpt2-124m (half an hour a repetition) are run.
set -euo pipefail
cd "$(dirname "$0")/.."

lathe=build/release/lathe
repetitions=3
models=(llama-5m gpt2-124m)
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
bible -f 'gen1:1-rev22:21' >"$work/corpus.txt"
"$lathe" prepare --input "$work/corpus.txt" --output "$work/data" --vocab-size 4096 >/dev/null

# Runs one layout and prints the median tokens/s of its steps but the first, which sets things up.
# tokens_per_second RANKS THREADS MODEL OPTION...
tokens_per_second() {
    local ranks=$1 threads=$2 model=$3
    shift 3
    rm -rf "$work/run"
    local command=("$lathe" train --preset "$model" --data "$work/data" --output "$work/run" --threads "$threads"
        --validation-sequences 1 --validation-every 0 "$@")
    ((ranks == 1)) || command=(scripts/mpirun.sh -n "$ranks" "${command[@]}")
    "${command[@]}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    sed -n '2,$ s/.*"tokens_per_second": \([0-9.e+]*\).*/\1/p' "$work/run/metrics.jsonl" | median
}

median() { sort -g | awk '{ value[NR] = $1 } END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'; }

# compare TITLE "RANKS THREADS OPTION..." "RANKS THREADS OPTION..." MODEL COMMON_OPTION...: one row of the table.
compare() {
    local title=$1 first=$2 second=$3 model=$4 i
    shift 4
    : >"$work/first" && : >"$work/second"
    for ((i = 0; i < repetitions; i++)); do
        local ranks threads options
        read -r ranks threads options <<<"$first"
        # shellcheck disable=SC2086  # options are words
        tokens_per_second "$ranks" "$threads" "$model" "$@" $options >>"$work/first"
        read -r ranks threads options <<<"$second"
        # shellcheck disable=SC2086
        tokens_per_second "$ranks" "$threads" "$model" "$@" $options >>"$work/second"
    done
    local ratios
    ratios=$(paste "$work/first" "$work/second" | awk '{ print $2 / $1 }' | sort -g)
    printf '| %s | %.0f | %.0f | %.3f | %.3f - %.3f |\n' "$title" "$(median <"$work/first")" "$(median <"$work/second")" \
        "$(median <<<"$ratios")" "$(head -n 1 <<<"$ratios")" "$(tail -n 1 <<<"$ratios")"
}

echo "| model, micro-batch, accumulation | 1 x 2 tokens/s | 2 x 1 tokens/s | ratio | spread |"
echo "| --- | --- | --- | --- | --- |"
for model in "${models[@]}"; do
    case $model in
        llama-5m) micro_batch=8 length=256 steps=(25 6) ;;
        *) micro_batch=4 length=1024 steps=(4 2) ;;
    esac
    shape=(--micro-batch "$micro_batch" --sequence-length "$length")
    for stage in 0 3; do
        for accumulation in 1 8; do
            compare "$model $micro_batch x $length, accumulation $accumulation, stage $stage" \
                "1 2" "2 1 --zero-stage $stage" "$model" "${shape[@]}" \
                --global-batch $((2 * micro_batch * accumulation)) --steps "${steps[accumulation == 1 ? 0 : 1]}"
        done
    done
done
echo
echo "| model, 4 ranks x 1 thread, accumulation 1 | native tokens/s | ordered tokens/s | ratio | spread |"
echo "| --- | --- | --- | --- | --- |"
for model in "${models[@]}"; do
    case $model in
        llama-5m) shape=(--micro-batch 8 --sequence-length 256 --steps 15) micro_batch=8 ;;
        *) shape=(--micro-batch 4 --sequence-length 1024 --steps 3) micro_batch=4 ;;
    esac
    for stage in 0 3; do
        compare "$model, stage $stage" "4 1 --reduction native --zero-stage $stage" "4 1 --zero-stage $stage" \
            "$model" "${shape[@]}" --global-batch $((4 * micro_batch))
    done
done
