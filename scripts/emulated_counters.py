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


def total(pattern, text):
    return sum(float(found) for found in re.findall(pattern, text))


def count(name, options, folder):
    """(least bytes, moved bytes, least FLOPs, tensor-core FLOPs, wavefronts, of them conflicts)"""
    file = pathlib.Path(folder) / "bench.json"
    done = run(options + ["--once", "--filter", f"^{re.escape(name)}$", "--json", str(file)], PTXEMU_STATS="1")
    case = json.loads(file.read_text())["benchmarks"][0]
    sectors = total(r"global (?:loads|stores): .*?sectors (\d+)", done.stderr)
    return (case["bytes"], sectors * SECTOR, case["flops"], total(r"mma \d+ \(([\d.]+) Gflop\)", done.stderr) * 1e9,
            total(r"shared: .*?wavefronts (\d+)", done.stderr), total(r"bank conflicts (\d+)", done.stderr))


def without_filter(options):
    kept = list(options)
    if "--filter" in kept:
        del kept[kept.index("--filter") : kept.index("--filter") + 2]
    return kept


def main():
    options = sys.argv[1:]
    names = run(options + ["--list"]).stdout.split()
    print("Modelled: counted on the emulated GPU, sectors of 32 bytes, without caches.\n")
    print("| case | least MB | moved MB | moved / least | least GFLOP | on tensor cores | bank conflicts |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if name.endswith("/cublas"):
                continue
            least, moved, flops, mma, wavefronts, conflicts = count(name, without_filter(options), folder)
            share = f"{100 * conflicts / wavefronts:.1f}%" if wavefronts else "-"
            print(f"| {name} | {least / 1e6:.3f} | {moved / 1e6:.3f} | {moved / least:.2f} | {flops / 1e9:.4f} | {mma / 1e9:.4f} | {share} |",
                  flush=True)


main()
