#!/usr/bin/env bash
# Plans beside what they plan, on this CPU: the time of a step (planned before and after it is measured), the peak memory by the
# backend's own account, and as the process's resident size, less that of a process that trains nothing. Categories of memory that
# differ by more than 3% are told on standard error. Wants an otherwise idle machine; --processor-time counts one thread's
# processor time instead, which other work on the machine hardly changes.
#   scripts/compare_plan.sh [--model NAME] [--micro-batch SIZE] [--recompute KIND] [--processor-time] [LATHE]
# Without --model all of llama-5m, llama-15m, llama-110m and gpt2-124m are run: about ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

lathe=build/release/lathe
models=(llama-5m llama-15m llama-110m gpt2-124m)
processor_time=
micro_batch_given=
recompute=none
while (($#)); do
    case $1 in
        --model) models=("$2"); shift ;;
        --micro-batch) micro_batch_given=$2; shift ;;
        --recompute) recompute=$2; shift ;;
        --processor-time) processor_time=1 ;;
        *) lathe=$1 ;;
    esac
    shift
done
[[ -x $lathe ]] || { echo "$lathe: no such program; build it or give its path" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bible -f 'gen1:1-rev22:21' >"$work/corpus.txt"
"$lathe" prepare --input "$work/corpus.txt" --output "$work/data" --vocab-size 4096 >/dev/null

threads=()
if [[ $processor_time ]]; then
    threads=(--threads 1)
    cat >"$work/clock.c" <<'C'
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec* time) {
    return (int)syscall(SYS_clock_gettime, clock == CLOCK_MONOTONIC ? CLOCK_PROCESS_CPUTIME_ID : clock, time);
}
C
    cc -shared -fPIC -O1 -o "$work/clock.so" "$work/clock.c"
fi
lathe() { env ${processor_time:+LD_PRELOAD="$work/clock.so"} "$lathe" "$@"; }

# Trains and prints the process's peak resident size in bytes: train OPTION...
train() {
    python3 - env ${processor_time:+LD_PRELOAD="$work/clock.so"} "$lathe" train --data "$work/data" --output "$work/run" --validation-every 0 --validation-sequences 1 "$@" <<'PYTHON'
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
if done.returncode != 0:
    sys.exit("training failed")
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
PYTHON
}

nothing=(--layers 1 --channels 16 --heads 2 --feed-forward 16 --sequence-length 8 --micro-batch 1 --global-batch 1 --steps 1)
train "${nothing[@]}" >/dev/null
empty=$(train "${nothing[@]}")  # goes on where the first ended: nothing is left to do
echo "| model, micro-batch x length, micro-batches, recomputation | planned step | measured step | ratio | planned memory | backend's | ratio | resident | ratio |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
for model in "${models[@]}"; do
    case $model in
        llama-5m) micro_batch=8 length=256 global=32 steps=12 ;;
        llama-15m) micro_batch=8 length=256 global=16 steps=8 ;;
        *) micro_batch=4 length=1024 global=8 steps=3 ;;
    esac
    micro_batch=${micro_batch_given:-$micro_batch}
    shape=("${threads[@]}" --preset "$model" --recompute "$recompute" --micro-batch "$micro_batch" --sequence-length "$length" --global-batch "$global")
    lathe plan "${shape[@]}" --data "$work/data" --json >"$work/before.json"
    rm -rf "$work/run"
    resident=$(train "${shape[@]}" --steps "$steps")
    lathe plan "${shape[@]}" --data "$work/data" --json >"$work/after.json"
    python3 - "$work" "$model, $micro_batch x $length, $((global / micro_batch)), recompute $recompute" "$resident" "$empty" <<'PYTHON'
import json, statistics, sys
work, name, resident, empty = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
plans = [json.load(open(f"{work}/{when}.json")) for when in ("before", "after")]
plan = plans[0]
planned_s = statistics.mean(each["step"]["seconds"] for each in plans)  # the machine may drift
steps = [json.loads(line) for line in open(f"{work}/run/metrics.jsonl")]
seconds = statistics.median(plan["tokens_per_step"] / step["tokens_per_second"] for step in steps[1:])
memory = json.load(open(f"{work}/run/memory.json"))["peak_bytes"]
for category, planned in plan["memory"]["peak_bytes"].items():
    measured = memory[category]["max"]
    if abs(planned - measured) > 0.03 * measured:
        print(f"{name}: {category}: planned {planned}, measured {measured}", file=sys.stderr)
planned, counted, resident = plan["memory"]["total_peak_bytes"], memory["total"]["max"], resident - empty
mib = lambda count: f"{count / 1048576:.1f} MiB"
print(f"| {name} | {planned_s:.3f} s | {seconds:.3f} s | {planned_s / seconds:.3f} "
      f"| {mib(planned)} | {mib(counted)} | {planned / counted:.4f} | {mib(resident)} | {planned / resident:.3f} |")
PYTHON
done
