#!/usr/bin/env bash
# What somebody with a GPU runs first: looks at the driver, builds, runs the CUDA tests on each GPU, compute-sanitizer where it is
# there, benchmarks, and a short training on one and on all GPUs of the host, whose losses must be the same bits. Every figure
# ends in one report, also when a step fails.
#   scripts/gpu_check.sh [--emulated] [--output FOLDER]
# --emulated: the same steps on the emulated GPU at tiny sizes, to try this script where there is no GPU: no figure means anything.
set -uo pipefail
cd "$(dirname "$0")/.."

emulated=0
output=runs/gpu-check
while (($#)); do
    case $1 in
        --emulated) emulated=1 ;;
        --output)
            output=${2:?"gpu_check.sh: --output needs a folder"}
            shift
            ;;
        *)
            echo "usage: scripts/gpu_check.sh [--emulated] [--output FOLDER]" >&2
            exit 2
            ;;
    esac
    shift
done

rm -rf "$output/logs"
mkdir -p "$output/logs"
report=$output/report.md
steps=$output/logs/steps
: >"$steps"
failed=0

if ((emulated)); then
    preset=emulated
    gpus=2
    export PTXEMU_DEVICES=$gpus
    device=(scripts/emulate.sh)
    tests_of_all='*cuda_Gelu_*:*cuda_AdamW_*'
    tests_sanitized=$tests_of_all
    bench=(--model llama-5m --micro-batch 1 --sequence-length 32 --once --filter 'rmsnorm|swiglu|adamw|projection')
    train=(--preset llama-5m --layers 1 --channels 64 --heads 2 --kv-heads 2 --feed-forward 128 --sequence-length 32
        --steps 3 --micro-batch 1 --global-batch 2 --validation-every 0 --validation-sequences 1)
    vocabulary=512
    corpus_lines=2000
else
    preset=cuda
    gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true)
    device=()
    tests_of_all='*'
    tests_sanitized='-*Threads*:*TrainingSizes*'
    bench=(--repetitions 3)
    train=(--preset gpt2-124m --sequence-length 1024 --steps 30 --micro-batch 8 --global-batch 64 --validation-every 0
        --validation-sequences 8)
    vocabulary=16384
    corpus_lines=1000000
fi
lathe=build/$preset/lathe

# step NAME COMMAND...: runs it into a log, and notes how it ended.
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    printf '%-32s ' "$name"
    "$@" >"$output/logs/$name.log" 2>&1 || status=$?
    local verdict=passed
    if ((status == 77)); then
        verdict='not there'
    elif ((status)); then
        verdict="FAILED (exit code $status)"
        failed=1
    fi
    echo "$verdict, $((SECONDS - begin)) s"
    echo "| $name | $verdict | $((SECONDS - begin)) |" >>"$steps"
    return "$status"
}

driver() {
    if ((emulated)); then
        echo "the emulated GPU, $gpus devices"
        return
    fi
    command -v nvidia-smi >/dev/null || {
        echo "no nvidia-smi: install NVIDIA's driver"
        return 1
    }
    nvidia-smi && nvidia-smi --query-gpu=index,name,driver_version,memory.total,compute_cap --format=csv && nvidia-smi topo -m
}

cuda_tests() {
    local program status=0
    for program in $(find "build/$preset/tests" -type f -perm -u+x \( -name '*cuda*test' -o -name 'nccl*test' \) | sort); do
        echo "== $program"
        GTEST_FILTER=$tests_of_all "${device[@]}" "$program" --gtest_brief=1 || status=1
    done
    return $status
}

sanitize() {
    command -v compute-sanitizer >/dev/null || return 77
    local tool status=0
    for tool in memcheck racecheck synccheck initcheck; do
        echo "== $tool"
        GTEST_FILTER=$tests_sanitized compute-sanitizer --tool "$tool" --error-exitcode 1 \
            "build/$preset/tests/kernels/cuda_operations_test" --gtest_brief=1 || status=1
    done
    return $status
}

prepare_data() {
    [[ -e $output/data/dataset.json ]] && return
    bible -f 'gen1:1-rev22:21' | head -n "$corpus_lines" >"$output/corpus.txt"
    "$lathe" prepare --input "$output/corpus.txt" --output "$output/data" --vocab-size "$vocabulary"
}

# train_on GPUS NAME OPTION...: leaves metrics in $output/NAME.
train_on() {
    local ranks=$1 name=$2
    shift 2
    rm -rf "${output:?}/$name"
    local command=("${device[@]}" "$lathe" train --device cuda --dtype bf16 --data "$output/data" --output "$output/$name"
        "${train[@]}" "$@")
    ((ranks == 1)) || command=(scripts/mpirun.sh -n "$ranks" "${command[@]}")
    "${command[@]}"
}

losses() { grep -o '"loss": [^,]*' "$output/$1/metrics.jsonl"; }

same_losses() {
    local run status=0
    for run in "${@:2}"; do
        if diff <(losses "$1") <(losses "$run") >/dev/null; then
            echo "$run: the losses of $1, bit by bit"
        else
            echo "$run: other losses than $1"
            status=1
        fi
    done
    return $status
}

speed() { # median tokens/s and utilization of the steps after the first
    sed -n '2,$ s/.*"tokens_per_second": \([^,]*\), "utilization": \([^,]*\).*/\1 \2/p' "$output/$1/metrics.jsonl" |
        sort -g | awk '{ a[NR] = $1; b[NR] = $2 } END { m = int((NR + 1) / 2); printf "%.0f tokens/s, utilization %.3f", a[m], b[m] }'
}

write_report() {
    {
        echo "# Lathe on $( ((emulated)) && echo 'the emulated GPU: no figure means anything' || hostname), $(date -u +%F)"
        echo
        echo "Commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), preset $preset, $gpus GPUs."
        echo
        echo '| step | | s |'
        echo '| --- | --- | ---: |'
        cat "$steps"
        echo
        echo '## Device'
        echo '```'
        cat "$output/logs/driver.log"
        [[ -e $output/logs/info.log ]] && cat "$output/logs/info.log"
        echo '```'
        echo
        echo '## Tests'
        echo '```'
        for log in "$output"/logs/tests-*.log "$output/logs/sanitizer.log"; do
            [[ -e $log ]] && echo "$(basename "$log" .log)" && grep -E '^==|PASSED|FAILED|ERROR SUMMARY|SKIPPED' "$log"
        done
        echo '```'
        echo
        echo '## Benchmarks'
        echo '```'
        [[ -e $output/logs/bench.log ]] && cat "$output/logs/bench.log"
        echo '```'
        echo
        echo '## Training'
        echo '| run | speed | last loss |'
        echo '| --- | --- | --- |'
        for run in one-gpu cublas offload all-gpus-stage-0 all-gpus-stage-3; do
            [[ -e $output/$run/metrics.jsonl ]] && echo "| $run | $(speed "$run") | $(losses "$run" | tail -n 1) |"
        done
        echo
        [[ -e $output/logs/same-bits.log ]] && cat "$output/logs/same-bits.log"
    } >"$report"
    echo "Report: $report"
}
trap write_report EXIT

step driver driver || exit 1
step packages scripts/install_packages.sh --test || exit 1
step build scripts/build.sh "$preset" lathe cuda_tests || exit 1
step info "${device[@]}" "$lathe" info --device cuda
for ((gpu = 0; gpu < gpus; ++gpu)); do
    CUDA_VISIBLE_DEVICES=$gpu step "tests-gpu-$gpu" cuda_tests
done
((gpus < 2)) || step tests-all-gpus cuda_tests
step sanitizer sanitize
step bench "${device[@]}" "$lathe" bench --device cuda --dtype bf16 "${bench[@]}" --json "$output/bench.json"
if step data prepare_data; then
    same=()
    step train-one-gpu train_on 1 one-gpu
    step train-cublas train_on 1 cublas --matmul cublas
    step train-offload train_on 1 offload --offload optimizer && same+=(offload)
    if ((gpus > 1)); then
        step train-all-gpus-stage-0 train_on "$gpus" all-gpus-stage-0 && same+=(all-gpus-stage-0)
        step train-all-gpus-stage-3 train_on "$gpus" all-gpus-stage-3 --zero-stage 3 && same+=(all-gpus-stage-3)
    fi
    step same-bits same_losses one-gpu "${same[@]}"
fi
exit $failed
