#!/usr/bin/env bash
# From a bare Debian 12 machine to a transformer that has learnt English: installs what is missing, builds, prepares the
# corpus, trains, prints a sample and draws the loss curve. Run again, it does only what is not done.
set -euo pipefail
cd "$(dirname "$0")/.."

run=runs/quickstart
corpus=$run/corpus/bible.txt
data=$run/data
output=$run/run
lathe=build/release/lathe

scripts/install_packages.sh
scripts/build.sh release lathe

if [[ ! -s $corpus ]]; then
    echo "Making the corpus: the King James Bible"
    mkdir -p "$(dirname "$corpus")"
    # One verse a line without its number, a blank line between chapters.
    bible -f 'gen1:1-rev22:21' | awk '{
        split($1, place, ":")
        if (NR > 1 && place[1] != chapter) print ""
        chapter = place[1]
        sub(/^[^ ]+ /, "")
        print
    }' >"$corpus.partial"
    mv "$corpus.partial" "$corpus"
fi

if [[ ! -e $data/dataset.json ]]; then
    $lathe prepare --input "$corpus" --output "$data" --vocab-size 4096
fi

$lathe train --config configs/quickstart.toml --data "$data" --output "$output"
$lathe evaluate --model "$output" --data "$data"
echo "For comparison, a model that ignores all context: $(sed -n 's/.*"unigram_entropy": *\([0-9.]*\).*/\1/p' \
    "$data/dataset.json" | head -n 1 | cut -c1-6) nats a token (unigram entropy)"

echo
echo "A sample:"
$lathe generate --model "$output" --tokens 200 --temperature 0.7

scripts/plot_loss.sh "$output" "$run/loss.png" "$data"
echo
echo "Loss curve: $run/loss.png"
echo "Next: $lathe generate --model $output --prompt 'In the beginning'"
