#!/usr/bin/env bash
# Draws a run's loss curve: scripts/plot_loss.sh RUN_FOLDER OUT.png [DATA_FOLDER]
# Training loss (each step faint, and smoothed), held-out loss, and with DATA_FOLDER the unigram entropy, which a model
# that ignores all context would reach. Needs gnuplot (Debian package gnuplot-nox).
set -euo pipefail

fail() {
    echo "plot_loss.sh: $1" >&2
    exit "${2:-2}"
}

[[ $# -eq 2 || $# -eq 3 ]] || fail "usage: scripts/plot_loss.sh RUN_FOLDER OUT.png [DATA_FOLDER]"
metrics=$1/metrics.jsonl
output=$2
[[ -s $metrics ]] || fail "$metrics: no such file, or no step in it; give a run folder of lathe train"
command -v gnuplot >/dev/null || fail "gnuplot is missing; install the Debian package gnuplot-nox" 1

unigram=
if [[ $# -eq 3 ]]; then
    [[ -s $3/dataset.json ]] || fail "$3/dataset.json: no such file; give a folder of lathe prepare"
    unigram=$(sed -n 's/.*"unigram_entropy": *\([0-9.eE+-]*\).*/\1/p' "$3/dataset.json" | head -n 1)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# train: step, loss, loss smoothed over a centred window of a fortieth of the steps; held-out: step, loss. Steps whose
# loss is no number (skipped ones) are left out.
awk -v train="$work/train" -v held_out="$work/held_out" '
    function number(key,    text) {
        if (!match($0, "\"" key "\": *[^,}]*")) return ""
        text = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
        gsub(/[ "]/, "", text)
        return text ~ /^-?[0-9]/ ? text + 0 : ""
    }
    {
        step = number("step"); loss = number("loss"); validation = number("validation_loss")
        if (loss != "") { steps[++n] = step; losses[n] = loss; sums[n] = sums[n - 1] + loss }
        if (validation != "") print step, validation >held_out
    }
    END {
        half = int(n / 80)
        for (i = 1; i <= n; i++) {
            # At the start, where the loss falls fast, the window shrinks so that it stays centred.
            h = i - 1 < half ? i - 1 : half
            last = i + h < n ? i + h : n
            print steps[i], losses[i], (sums[last] - sums[i - h - 1]) / (last - i + h + 1) >train
        }
    }' "$metrics"
touch "$work/held_out"
[[ -s $work/train ]] || fail "$metrics: holds no loss that is a number"

plots="'$work/train' using 1:2 with lines lw 1 lc rgb '#b9d3ee' title 'training, each step'"
plots+=", '$work/train' using 1:3 with lines lw 3 lc rgb '#1f5fa8' title 'training, smoothed'"
if [[ -s $work/held_out ]]; then
    last=$(tail -n 1 "$work/held_out")
    plots+=", '$work/held_out' using 1:2 with linespoints lw 2 pt 7 ps 1.1 lc rgb '#d1495b'"
    plots+=" title 'held-out text (last: $(printf '%.2f' "${last#* }"))'"
fi
if [[ -n $unigram ]]; then
    plots+=", $unigram with lines lw 2 dt 2 lc rgb '#6b6b6b' title 'unigram entropy ($(printf '%.2f' "$unigram"))'"
fi

gnuplot <<PLOT
set terminal pngcairo size 1200,720 font 'DejaVu Sans,13' background rgb '#ffffff'
set output '$work/plot.png'
set border 3 lc rgb '#555555'
set tics nomirror out textcolor rgb '#333333'
set grid lc rgb '#e6e6e6' lw 1 dt 1
set key top right spacing 1.3 samplen 2.5 textcolor rgb '#333333'
set xlabel 'optimizer step' textcolor rgb '#333333'
set ylabel 'cross-entropy, nats per token' textcolor rgb '#333333'
set format x '%.0f'
set lmargin 9
set rmargin 4
set xrange [0:*] noextend
set offsets graph 0, graph 0.02, graph 0.04, graph 0.06
plot $plots
PLOT
[[ -s $work/plot.png ]] || fail "gnuplot drew nothing" 1
mv "$work/plot.png" "$output"
