#!/usr/bin/env bash
# Trains on two "hosts" of one machine, two network namespaces joined by a virtual cable, 2 ranks on each, and compares the losses
# with those of one process, bit for bit. Then cuts the cable in the middle of a run, and kills all of a host in another: the job
# must end within its collective timeout. Needs root; leaves with 77 and the reason where the machine cannot do it. Usage: scripts/two_hosts.sh build/release/lathe
set -euo pipefail

skip() {
    echo "skipped: $1"
    exit 77
}
lathe=$(realpath "$1")
scripts=$(realpath "$(dirname "$0")")
((EUID == 0)) || skip "network namespaces need root"
command -v ip >/dev/null || skip "no ip command: install iproute2"
command -v mpirun >/dev/null || skip "no mpirun: install openmpi-bin"

id=lathe$$
work=$(mktemp -d -t two-hosts-XXXXXX)
job=
clean() {
    [[ -z $job ]] || kill -KILL "$job" 2>/dev/null || true
    for host in a b; do
        ip netns pids "$id$host" 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$id$host" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean EXIT

# Host a holds mpirun. Addresses of a range that is for documentation only.
ip netns add "${id}a" 2>"$work/error" && ip netns add "${id}b" 2>>"$work/error" &&
    ip link add "v${id}a" netns "${id}a" type veth peer name "v${id}b" netns "${id}b" 2>>"$work/error" ||
    skip "cannot make network namespaces: $(tail -n 1 "$work/error")"
for host in a b; do
    [[ $host == a ]] && address=192.0.2.1/24 || address=192.0.2.2/24
    ip -n "$id$host" address add "$address" dev "v$id$host"
    ip -n "$id$host" link set "v$id$host" up
    ip -n "$id$host" link set lo up
done

# What ssh is on a cluster: takes the host's name and a command. The host's name is its own as well, by a namespace of names.
cat >"$work/rsh" <<END
#!/usr/bin/env bash
host=\$1
shift
exec ip netns exec ${id}b unshare --uts bash -c 'hostname hostb; exec bash -c "\$1"' - "\$*"
END
chmod +x "$work/rsh"
printf '192.0.2.1 slots=2\n192.0.2.2 slots=2\n' >"$work/hosts"

on_two_hosts() { # exec'd in a process of its own, so that its id is the job's
    exec ip netns exec "${id}a" unshare --uts bash -c 'hostname hosta; exec "$@"' - \
        "$scripts/mpirun.sh" --hostfile "$work/hosts" -n 4 --mca plm_rsh_agent "$work/rsh" \
        --mca orte_keep_fqdn_hostnames 1 --mca btl tcp,self --mca btl_tcp_if_include 192.0.2.0/24 \
        --mca oob_tcp_if_include 192.0.2.0/24 "$@"
}
train() { # RUN STEPS OPTION...
    printf '%s\n' "$lathe" train --data "$work/data" --output "$work/$1" --steps "$2" --layers 2 --channels 64 --heads 4 \
        --feed-forward 160 --sequence-length 32 --micro-batch 2 --global-batch 16 --learning-rate 0.003 --threads 1 "${@:3}"
}
losses() { grep -o '"loss": [^,]*' "$work/$1/metrics.jsonl"; }

yes 'the miller saw a fox by the river, and the old king forgot the house at night.
' | awk '{print NR, $0; if (NR % 5 == 0) print ""}' | head -n 600 >"$work/text" || true
"$lathe" prepare --input "$work/text" --output "$work/data" --vocab-size 320 >/dev/null

mapfile -t command < <(train one 10)
"${command[@]}" >/dev/null
mapfile -t command < <(train two 10 --zero-stage 3 --shard-size 2)
(on_two_hosts "${command[@]}") >"$work/out" 2>&1 || {
    cat "$work/out"
    exit 1
}
for rank in 0 1 2 3; do
    ((rank == 0)) && log=log.txt || log=log-rank-$rank.txt
    grep -ho 'rank [0-9]* of [0-9]*: .*' "$work/two/$log"
done
[[ $(losses one | wc -l) == 10 && $(losses one) == "$(losses two)" ]] || {
    echo "the losses of two hosts are not those of one process:"
    paste <(losses one) <(losses two)
    exit 1
}
echo "10 losses of 2 hosts x 2 ranks are those of one process, bit for bit"

timeout_s=40
# Runs until its metrics show a step, does what breaks it, and sees it end.
breaks() { # NAME COMMAND...
    mapfile -t command < <(train "$1" 1000000 --zero-stage 3 --shard-size 2 --collective-timeout $timeout_s)
    (on_two_hosts "${command[@]}") >"$work/out" 2>&1 &
    job=$!
    for ((i = 0; i < 600; ++i)); do
        [[ -s $work/$1/metrics.jsonl ]] && break
        sleep 0.1
    done
    [[ -s $work/$1/metrics.jsonl ]] || {
        echo "$1: it does not train"
        cat "$work/out"
        exit 1
    }
    "${@:2}"
    broken=$SECONDS
    while kill -0 "$job" 2>/dev/null && ((SECONDS - broken <= timeout_s)); do
        sleep 0.1
    done
    if kill -0 "$job" 2>/dev/null; then
        echo "$1: the job still runs $((SECONDS - broken)) s later"
        cat "$work/out"
        exit 1
    fi
    status=0
    wait "$job" || status=$?
    job=
    sleep 1
    left=$(pgrep -fc "$work/$1" || true)
    echo "$1: the job ended within $((SECONDS - broken)) s with $status; $left of its processes are left; it told:"
    tr '\r' '\n' <"$work/out" | grep -E '^lathe: |lost communication|Remote daemon' || true
    ((status != 0 && left == 0))
}
kill_host() { ip netns pids "${id}b" | xargs kill -KILL; }
breaks host-killed kill_host
breaks cable-cut ip -n "${id}a" link set "v${id}a" down
