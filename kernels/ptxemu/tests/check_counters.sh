#!/usr/bin/env bash
# check_counters.sh FOLDER PROGRAM: the counters that PTXEMU_STATS_JSON writes are those of counters.cu.
set -euo pipefail
file=$(mktemp)
trap 'rm -f "$file"' EXIT
PTXEMU_STATS_JSON=$file LD_LIBRARY_PATH=$1 "$2"
cat "$file"
expect() { # KERNEL COUNTER VALUE
    grep "\"kernel\": \"$1(" "$file" | grep -q "\"$2\": $3[,}]" || {
        echo "check_counters.sh: $1: expected $2 = $3" >&2
        exit 1
    }
}
expect copy launches 1
expect copy block_threads 1024
expect copy blocks_per_sm 2
expect copy global_load_bytes 4096
expect copy global_load_sectors 128
expect copy global_store_sectors 128
expect copy shared_bank_conflicts 0
expect gather global_load_bytes 512
expect gather global_load_sectors 128
expect gather global_store_sectors 16
expect columns shared_bank_conflicts 62
expect twice global_load_sectors 24
expect twice global_load_sectors_once 12
expect twice global_store_sectors_once 24
