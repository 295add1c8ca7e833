"""The table of scripts/emulated_counters.sh: one process a case, since counters are told when a process ends."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

LATHE = ["scripts/emulate.sh", "build/emulated/lathe", "bench", "--device", "cuda"]
SECTOR = 32  # bytes of global memory that move at least


def run(options, **environment):
    done = subprocess.run(LATHE + options, env=dict(os.environ, **environment), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"emulated_counters.sh: lathe bench {' '.join(options)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done


def count(name, options, folder):
    """Least bytes and FLOPs of a case, and its kernels' counters, summed up."""
    case_file = pathlib.Path(folder) / "bench.json"
    counters_file = pathlib.Path(folder) / "counters.json"
    run(options + ["--once", "--filter", f"^{re.escape(name)}$", "--json", str(case_file)], PTXEMU_STATS_JSON=str(counters_file))
    kernels = json.loads(counters_file.read_text())

    def total(*names):
        return sum(kernel[name] for kernel in kernels for name in names)

    return json.loads(case_file.read_text())["benchmarks"][0], total


def without_filter(options):
    kept = list(options)
    if "--filter" in kept:
        del kept[kept.index("--filter") : kept.index("--filter") + 2]
    return kept


def main():
    options = sys.argv[1:]
    names = run(options + ["--list"]).stdout.split()
    print("Modelled: counted on the emulated GPU, sectors of 32 bytes, without caches; once: each sector once a launch, what caches")
    print("without limits would leave to DRAM.\n")
    print("| case | least MB | moved MB | moved / least | once / least | least GFLOP | on tensor cores | bank conflicts |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name.endswith("/cublas"):
                continue
            case, total = count(name, without_filter(options), folder)
            least = case["bytes"]
            moved = SECTOR * total("global_load_sectors", "global_store_sectors")
            once = SECTOR * total("global_load_sectors_once", "global_store_sectors_once")
            print(f"| {name} | {least / 1e6:.3f} | {moved / 1e6:.3f} | {moved / least:.2f} | {once / least:.2f} | {case['flops'] / 1e9:.4f} "
                  f"| {total('mma_flops') / 1e9:.4f} | {total('shared_bank_conflicts')} of {total('shared_wavefronts')} |", flush=True)


main()
