#!/usr/bin/env bash
# Measures what each rank needs for parameters, gradients and optimizer state while training, on 1, 2, 4 and 8 ranks and
# ZeRO stages 0 to 3, and prints it as a markdown table beside Lathe's own formulas and those of the ZeRO paper. Fails where
# the measured bytes are not the formula's. Usage: scripts/memory_table.sh [build/release/lathe]
set -euo pipefail
cd "$(dirname "$0")/.."

lathe=${1:-build/release/lathe}
[[ -x $lathe ]] || {
    echo "memory_table.sh: no $lathe: build it (scripts/build.sh release lathe), or name another" >&2
    exit 2
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

awk 'BEGIN {
    split("king queen lord servant shepherd prophet", who)
    split("saw heard loved feared followed blessed", did)
    srand(1)
    for (i = 0; i < 4000; ++i)
        printf "the %s %s the %s of house %d\n%s", who[1 + int(6 * rand())], did[1 + int(6 * rand())],
            who[1 + int(6 * rand())], 1000 * rand(), i % 10 == 9 ? "\n" : ""
}' >"$folder/text.txt"
"$lathe" prepare --input "$folder/text.txt" --output "$folder/data" --vocab-size 512 >"$folder/log"

for ranks in 1 2 4 8; do
    for stage in 0 1 2 3; do
        # Eight micro-batches a step, whatever the layout.
        scripts/mpirun.sh -n "$ranks" "$lathe" train --data "$folder/data" --output "$folder/$ranks-$stage" --steps 3 \
            --layers 12 --channels 192 --heads 4 --feed-forward 512 --sequence-length 32 --micro-batch 1 --global-batch 8 \
            --dtype bf16 --threads 1 --zero-stage "$stage" --validation-sequences 1 >"$folder/log" 2>&1 || {
            cat "$folder/log" >&2
            exit 1
        }
    done
done
python3 scripts/memory_table.py "$folder"
