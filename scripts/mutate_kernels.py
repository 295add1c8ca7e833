#!/usr/bin/env python3
"""Proof that the tests of the CUDA kernels can fail: takes away, or shifts by one, each barrier, wait, fence, mask and bound check
of kernels/cuda in turn, and expects the tests on the emulated GPU to notice.

    scripts/mutate_kernels.py [--list] [--only FILE]... [--jobs N] [--again] [--summary | --update]

All mutants live in one build: a copy of the tree (build/mutation/tree) in which each place asks whether it is the one chosen by
the environment variable LATHE_MUTANT. One that no test notices must stand in scripts/mutants_allowed.txt with the reason.
Results are kept in build/mutation/results.json, so that a run goes on where it was stopped; what was found for a file is forgotten
when the file changes, and --again tries those that lived once more. Exit code 1 where a mutant lives that is not allowed. Needs nvcc;
takes hours for all files."""

import argparse
import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys

from mutation import places, tests
from mutation.places import KERNELS, ROOT
from mutation.tests import TREE

WORK = ROOT / "build" / "mutation"
RESULTS = WORK / "results.json"
ALLOWED = ROOT / "scripts" / "mutants_allowed.txt"
PAGE = ROOT / "docs" / "kernels.md"
BEGIN = "<!-- mutants: begin (scripts/mutate_kernels.py --update writes this) -->"
END = "<!-- mutants: end -->"


def make_tree(everything):
    """The copy in which every place asks. Files keep their times where they are the same, so that only what changed is built."""
    TREE.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    rewritten = {file.relative_to(ROOT): found for file, found in everything.items()}
    for name in filter(None, tracked):
        file = ROOT / name
        if file.relative_to(ROOT) not in rewritten:
            write_if_changed(TREE / name, file.read_bytes(), file.stat().st_mode)
    for name, found in rewritten.items():
        text = places.rewrite((ROOT / name).read_text(), found)
        if name.name == "launch.h":
            text = text.replace("    kernel<<<", "    ::lathe::mutation::set_on_device();\n    kernel<<<", 1)
        if found:
            text = "#include \"kernels/cuda/mutation.h\"\n" + text
        write_if_changed(TREE / name, text.encode())
    write_if_changed(TREE / "kernels/cuda/mutation.h", places.ASK.encode())


def write_if_changed(path, content, mode=None):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if mode is not None:
        path.chmod(mode)


def build():
    log = WORK / "build.log"
    jobs = ["-j", str(os.cpu_count())]
    with open(log, "w") as output:
        for folder, command in ((ROOT, ["cmake", "--preset", "emulated"]),
                                (ROOT, ["cmake", "--build", "build/emulated", "--target", "ptxemu", *jobs]),
                                # Asking makes unsigned comparisons with zero, which are no error here.
                                (TREE, ["cmake", "--preset", "emulated", "-DCMAKE_CUDA_FLAGS=-diag-suppress=186"]),
                                (TREE, ["cmake", "--build", "build/emulated", "--target", *tests.PROGRAMS, *jobs])):
            if subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT).returncode != 0:
                sys.exit(f"mutate_kernels.py: {folder}: {' '.join(command)} failed: {log}")


def read_allowed():
    """{(file, kind, text): reason}"""
    allowed = {}
    for line in ALLOWED.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            file, kinds, text, reason = (part.strip() for part in line.split(" | "))
            allowed.update(((file, kind, text), reason) for kind in kinds.split(", "))
    return allowed


def hash_of(name):
    return hashlib.sha256((KERNELS / name).read_bytes()).hexdigest()[:16]


def load_results():
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {name: entry for name, entry in results.items() if (KERNELS / name).exists() and entry["hash"] == hash_of(name)}


def save_results(results):
    temporary = RESULTS.with_suffix(".new")
    temporary.write_text(json.dumps(results, indent=1))
    temporary.replace(RESULTS)


def summarize(everything, results, allowed):
    """The lines of the table, and the mutants that live without leave."""
    lines = ["| file | mutants | tried | killed | allowed | living |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    sums = [0] * 5
    living = []
    for file, found in everything.items():
        mutants = [m for _, _, here, _ in found for m in here]
        if not mutants:
            continue
        entry = results.get(file.name, {"mutants": {}})["mutants"]
        tried = [m for m in mutants if m.key in entry]
        lives = [m for m in tried if entry[m.key] == "lives"]
        spared = [m for m in lives if (m.file, m.kind, m.text) in allowed]
        living += [m for m in lives if m not in spared]
        counts = [len(mutants), len(tried), len(tried) - len(lives), len(spared), len(lives) - len(spared)]
        sums = [a + b for a, b in zip(sums, counts)]
        lines.append(f"| {file.name} | " + " | ".join(map(str, counts)) + " |")
    lines.append("| all | " + " | ".join(map(str, sums)) + " |")
    return lines, living


def update_page(lines):
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1])


def try_all(mutants, runner, jobs, results):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(runner.how_noticed, m): m for m in mutants}
        for done in concurrent.futures.as_completed(running):
            m = running[done]
            how = done.result() or "lives"
            results[m.file]["mutants"][m.key] = how
            save_results(results)
            print(f"{m.number:5} {m.file}:{m.line}: {m.kind}: {how}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only name the mutants")
    parser.add_argument("--summary", action="store_true", help="only tell what was found so far")
    parser.add_argument("--update", action="store_true", help="the same, into docs/kernels.md")
    parser.add_argument("--only", action="append", default=[], metavar="FILE", help="a file of kernels/cuda; may be given again")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--again", action="store_true", help="try those that lived, and are not allowed, again")
    options = parser.parse_args()
    everything = places.enumerate_mutants()
    names = {file.name for file in everything}
    unknown = [name for name in options.only if name not in names]
    if unknown:
        sys.exit(f"mutate_kernels.py: --only {unknown[0]}: no such file; known are {', '.join(sorted(names))}")
    chosen = [m for file, found in everything.items() for _, _, here, _ in found for m in here
              if not options.only or file.name in options.only]
    if options.list:
        for m in chosen:
            print(f"{m.number:5} kernels/cuda/{m.file}:{m.line}: {m.kind}: {m.text}")
        return
    allowed = read_allowed()
    WORK.mkdir(parents=True, exist_ok=True)
    results = load_results()
    if not options.summary and not options.update:
        make_tree(everything)
        build()
        runner = tests.Runner()
        for name in {m.file for m in chosen}:
            results.setdefault(name, {"hash": hash_of(name), "mutants": {}})
        found = lambda m: results[m.file]["mutants"].get(m.key)
        lives = lambda m: found(m) == "lives" and (m.file, m.kind, m.text) not in allowed
        todo = [m for m in chosen if found(m) is None or options.again and lives(m)]
        try_all(todo, runner, options.jobs, results)
    shown = {file: found for file, found in everything.items() if options.update or not options.only or file.name in options.only}
    lines, living = summarize(shown, results, allowed)
    if options.update:
        update_page(lines)
    else:
        print("\n".join(lines))
    for m in living:
        print(f"lives: kernels/cuda/{m.file}:{m.line}: {m.kind}: {m.text}", file=sys.stderr)
    sys.exit(1 if living else 0)


main()
