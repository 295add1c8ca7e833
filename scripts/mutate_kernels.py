#!/usr/bin/env python3
"""Proof that the tests of the CUDA kernels can fail: takes away, or shifts by one, each barrier, wait, fence, mask and bound check
of kernels/cuda in turn, and expects the tests on the emulated GPU to notice.

    scripts/mutate_kernels.py [--list] [--only FILE]... [--jobs N] [--again] [--summary | --update]

All mutants live in one build: a copy of the tree (build/mutation/tree) in which each place asks whether it is the one that is chosen.
One that no test notices must stand in scripts/mutants_allowed.txt with the reason. Results are kept in scripts/mutation/results.json,
so that a run goes on where the last one stopped; what was found for a file is forgotten when its code changes, and --again tries those
that lived once more. Exit code 1 where a mutant lives that is not allowed. Needs nvcc."""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import threading

from mutation import places, tests
from mutation.places import ROOT, mutants_of
from mutation.tests import TREE

WORK = ROOT / "build" / "mutation"
RESULTS = ROOT / "scripts" / "mutation" / "results.json"
ALLOWED = ROOT / "scripts" / "mutants_allowed.txt"
PAGE = ROOT / "docs" / "kernels.md"
BEGIN = "<!-- mutants: begin (scripts/mutate_kernels.py --update writes this) -->"
END = "<!-- mutants: end -->"
LIVES = ("lives", "makes no difference")


def make_tree(everything):
    """The copy in which every place asks. Files keep their times where they are the same, so that only what changed is built."""
    TREE.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    rewritten = {file.relative_to(ROOT): found for file, found in everything.items()}
    for name in filter(None, tracked):
        file = ROOT / name
        if file.relative_to(ROOT) not in rewritten and file.name != "operation_case.cpp":
            write_if_changed(TREE / name, file.read_bytes(), file.stat().st_mode)
    for name, found in rewritten.items():
        text = places.rewrite((ROOT / name).read_text(), found)
        if name.name == "launch.h":
            text = text.replace("    kernel<<<", "    ::lathe::mutation::choose_by_environment();\n    kernel<<<", 1)
        if found:
            text = "#include \"kernels/cuda/mutation.h\"\n" + text
        write_if_changed(TREE / name, text.encode())
    scripts = ROOT / "scripts" / "mutation"
    write_if_changed(TREE / "kernels/cuda/mutation.h", (scripts / "ask.h").read_bytes())
    write_if_changed(TREE / "tests/kernels/try_mutants.h", (scripts / "try_mutants.h").read_bytes())
    case = ROOT / "tests/kernels/operation_case.cpp"
    comparison = "expect_close(c, run_case(c, backend), wanted, wanted_results);"
    text = case.read_text().replace(comparison, f"mutation::try_mutants([&] {{ {comparison} }});")
    write_if_changed(TREE / case.relative_to(ROOT), ("#include \"tests/kernels/try_mutants.h\"\n" + text).encode())


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


def load_results(everything):
    """{mutant's number: how it was noticed}. The file holds, of each file, a hash and what is known of its mutants in their order."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = {}
    for file, found in everything.items():
        entry = kept.get(file.name)
        if entry is not None and entry["hash"] == places.hash_of(file, found):
            results.update((m.number, how) for m, how in zip(mutants_of(found), entry["found"]) if how is not None)
    return results


def save_results(everything, results):
    lines = []
    for file, found in everything.items():
        here = [results.get(m.number) for m in mutants_of(found)]
        if any(here):
            lines.append(f'"{file.name}": ' + json.dumps({"hash": places.hash_of(file, found), "found": here}))
    temporary = RESULTS.with_suffix(".new")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    temporary.replace(RESULTS)


def summarize(everything, results, allowed):
    """The lines of the table, and the mutants that live without leave."""
    lines = ["| file | mutants | tried | killed | allowed | living |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    sums = [0] * 5
    living = []
    for file, found in everything.items():
        mutants = mutants_of(found)
        if not mutants:
            continue
        tried = [m for m in mutants if m.number in results]
        lives = [m for m in tried if results[m.number] in LIVES]
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


class Trial:
    """Tries mutants until a test notices them: first in the tests by cases, all in one process a test and order; those that live
    through them, one by one in the other tests."""

    def __init__(self, mutants, everything, results, jobs):
        self.living = {m.number: m for m in mutants}
        self.everything, self.results, self.jobs = everything, results, jobs
        self.lock = threading.Lock()
        self.differing = set()

    def run(self):
        for order in range(len(tests.ORDERS)):
            todo = {t: None for m in self.living.values() if order < tests.orders_of(m) for t in tests.cases_of(m.file)}
            self.in_parallel(lambda test: self.try_in_cases(test, order), todo)
        seconds = {}
        self.in_parallel(lambda m: self.settle(m, tests.how_noticed_by_others(m, seconds)), list(self.living.values()))

    def in_parallel(self, function, items):
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            for done in [pool.submit(function, item) for item in items]:
                done.result()

    def try_in_cases(self, test, order):
        numbers = [n for n, m in self.living.items() if order < tests.orders_of(m) and not tests.is_of_host(m.file)]
        if numbers:
            tests.try_in_cases(numbers, test, order, self.found)

    def found(self, number, how):
        self.differing.add(number)
        if how is not None and number in self.living:
            self.settle(self.living[number], how)

    def settle(self, m, how):
        with self.lock:
            self.living.pop(m.number, None)
            self.results[m.number] = how or ("lives" if m.number in self.differing else "makes no difference")
            save_results(self.everything, self.results)
        print(f"{m.number:5} {m.file}:{m.line}: {m.kind}: {self.results[m.number]}", flush=True)


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
    chosen = [m for file, found in everything.items() for m in mutants_of(found) if not options.only or file.name in options.only]
    if options.list:
        for m in chosen:
            print(f"{m.number:5} kernels/cuda/{m.file}:{m.line}: {m.kind}: {m.text}")
        return
    allowed = read_allowed()
    WORK.mkdir(parents=True, exist_ok=True)
    results = load_results(everything)
    if not options.summary and not options.update:
        make_tree(everything)
        build()
        lives = lambda m: results[m.number] in LIVES and (m.file, m.kind, m.text) not in allowed
        todo = [m for m in chosen if m.number not in results or options.again and lives(m)]
        Trial(todo, everything, results, options.jobs).run()
    shown = {file: found for file, found in everything.items() if options.update or not options.only or file.name in options.only}
    lines, living = summarize(shown, results, allowed)
    if options.update:
        update_page(lines)
    else:
        print("\n".join(lines))
    for m in living:
        print(f"{results[m.number]}: kernels/cuda/{m.file}:{m.line}: {m.kind}: {m.text}", file=sys.stderr)
    sys.exit(1 if living else 0)


main()
