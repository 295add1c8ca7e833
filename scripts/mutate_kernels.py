#!/usr/bin/env python3
"""Proof that the tests of the CUDA kernels can fail: takes away, or shifts by one, each barrier, wait, fence, mask and bound check
of kernels/cuda in turn, and expects the tests on the emulated GPU to notice.

    scripts/mutate_kernels.py [--list] [--only FILE]... [--jobs N] [--summary]

All mutants live in one build: a copy of the tree (build/mutation/tree) in which each place asks whether it is the one chosen by
the environment variable LATHE_MUTANT. A mutant that no test notices must stand in scripts/mutants_allowed.txt with the reason.
Results are kept in build/mutation/results.json, so that a run goes on where it was stopped; what was found for a file is forgotten
when the file changes. Exit code 1 where a mutant lives that is not allowed. Needs nvcc; takes hours for all files."""

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
TREE = WORK / "tree"
RESULTS = WORK / "results.json"
ALLOWED = ROOT / "scripts" / "mutants_allowed.txt"
TESTS = ROOT / "build" / "mutation" / "tree" / "build" / "emulated" / "tests" / "kernels"
# Files of the host whose waits and events are looked at; cuda_runtime_test is theirs.
HOST_FILES = ("cuda_backend.cpp", "offload_staging.cpp")

# What a mutated place asks. The device's copy of the number is set before the first launch.
ASK = """#pragma once
#include <cuda_runtime.h>
#include <cstdlib>
#ifndef __CUDACC__
#define LATHE_MUTATION_FUNCTION inline
#else
#define LATHE_MUTATION_FUNCTION static __host__ __device__ __forceinline__
static __device__ int lathe_mutant_on_device = 0;
#endif
namespace lathe::mutation {
inline int chosen_on_host() {
    const char* text = std::getenv("LATHE_MUTANT");
    return text == nullptr ? 0 : std::atoi(text);
}
LATHE_MUTATION_FUNCTION bool is_chosen(int number) {
#ifdef __CUDA_ARCH__
    return lathe_mutant_on_device == number;
#else
    return chosen_on_host() == number;
#endif
}
LATHE_MUTATION_FUNCTION int shift(int number, int by) { return is_chosen(number) ? by : 0; }
template <typename T>
LATHE_MUTATION_FUNCTION T least(int number, T a, T b) {
    return is_chosen(number) ? (a < b ? b : a) : (a < b ? a : b);
}
#ifdef __CUDACC__
static inline void set_on_device() {
    static const bool is_set = [] {
        const int chosen = chosen_on_host();
        return cudaMemcpyToSymbol(lathe_mutant_on_device, &chosen, sizeof(chosen)) == cudaSuccess;
    }();
    static_cast<void>(is_set);
}
#endif
}  // namespace lathe::mutation
"""


@dataclasses.dataclass
class Mutant:
    file: str
    line: int
    kind: str
    text: str  # the line as it stands in the source
    occurrence: int  # among equal lines and kinds of the file
    number: int = 0

    @property
    def key(self):
        return f"{self.file}|{self.kind}|{self.text}|{self.occurrence}"


STATEMENTS = (
    # kind, statement: taken away
    ("barrier", r"__syncthreads\(\);|__syncwarp\([^;]*\);|ptx::\w*barrier\w*\([^;]*\);|__syncthreads_\w+\([^;]*\);"),
    ("commit", r"ptx::commit_copies\(\);"),
    ("wait", r"ptx::wait_copies<[^;]*>\(\);|CUDA_CHECK\(cuda(?:StreamWaitEvent|EventSynchronize|EventRecord|StreamSynchronize)\([^;]*\);"),
    ("fence", r"__threadfence\w*\(\);"),
)
COMPARISON = re.compile(r"(?<=[\w)\]]) (<=|>=|<|>) (?=[\w(!*&-])")
NUMBER_OR_CONSTANT = re.compile(r"\(?(?:(?:\w+(?:<\w+>)?::)*k[A-Z]\w*|\d+)\b")


def blank(text):
    """Comments and strings as spaces, so that places keep their offsets."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"'
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def closing(text, begin):
    """Offset of the bracket that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    raise ValueError("unbalanced brackets")


def statement_of(text, offset):
    """The text from the last ; { or } to the next one."""
    begin = max(text.rfind(c, 0, offset) for c in ";{}") + 1
    ends = [i for i in (text.find(c, offset) for c in ";{}") if i >= 0]
    return text[begin : min(ends)] if ends else text[begin:]


def is_compile_time(text, offset):
    statement = statement_of(text, offset)
    line = text[text.rfind("\n", 0, offset) + 1 : offset]
    return (re.search(r"\bconstexpr\b|static_assert|\btemplate\b|__launch_bounds__|\brequires\b", statement) is not None
            or line.lstrip().startswith("#"))


def is_constant_loop(text, offset):
    """for (int i = 0; i < kTiles; ...): counted when compiling, no bound check."""
    head = text[max(0, text.rfind("for (", 0, offset)) : offset]
    in_for = "for (" in head and head.count("(") > head.count(")")
    right = text[text.index(" ", offset + 1) :].lstrip()
    return in_for, in_for and NUMBER_OR_CONSTANT.match(right) is not None


def without_statement(numbers, statement):
    text = f"if (!::lathe::mutation::is_chosen({numbers[0]})) {{ {statement} }}"
    if len(numbers) == 1:
        return text
    later = re.sub(r"<(.*)>", r"<(\1) + 1>", statement)
    return f"if (::lathe::mutation::is_chosen({numbers[1]})) {{ {later} }} else {text}"


class Rewriter:
    """Finds the places of a file and writes questions into them."""

    def __init__(self, name, source):
        self.name, self.source = name, source
        self.code = blank(source)
        self.edits = []  # (offset, removed characters, function(mutants) -> replacement)

    def add(self, offset, length, kinds, replacement):
        self.edits.append((offset, length, kinds, replacement))

    def find(self):
        self.find_statements()
        self.find_masks()
        self.find_conditions()
        self.find_comparisons()
        self.find_least()

    def find_statements(self):
        for kind, pattern in STATEMENTS:
            for match in re.finditer(pattern, self.code):
                before = self.code[: match.start()].rstrip()
                if before.endswith(("::", "void", "inline")):
                    continue
                statement = self.source[match.start() : match.end()]
                kinds = [kind + " taken away"]
                if "wait_copies" in statement:
                    kinds.append("wait that leaves one more under way")
                self.add(match.start(), len(match[0]), kinds, lambda n, s=statement: without_statement(n, s))

    def find_masks(self):
        for match in re.finditer(r"\(kFullWarp\b", self.code):
            self.add(match.start() + 1, len("kFullWarp"), ("mask without its last lane",),
                     lambda n: f"(kFullWarp >> ::lathe::mutation::shift({n[0]}, 1))")

    def find_conditions(self):
        for match in re.finditer(r"\bif \(", self.code):
            begin = match.end() - 1
            end = closing(self.code, begin)
            condition = self.code[begin + 1 : end]
            if is_compile_time(self.code, match.start() + 3) or ";" in condition:
                continue
            body = self.code[end + 1 :].lstrip(" {\n")
            never = re.match(r"return\b|continue\b|break\b|\w+\[?.*= -INFINITY", body) is not None
            kind = "check taken away"
            if never:
                wrap = lambda n: f"!::lathe::mutation::is_chosen({n[0]}) && ("
            else:
                wrap = lambda n: f"::lathe::mutation::is_chosen({n[0]}) || ("
            self.add(begin + 1, 0, (kind,), wrap)
            self.add(end, 0, (), lambda n: ")")

    def find_comparisons(self):
        for match in COMPARISON.finditer(self.code):
            offset = match.start()
            if is_compile_time(self.code, offset):
                continue
            in_for, constant = is_constant_loop(self.code, offset)
            right = self.code[match.end() : match.end() + 40]
            if constant or re.match(r"\d+(\.\d+)?F\b|-?INFINITY", right):
                continue
            by = 1 if match[1] in ("<", ">=") else -1
            kinds = ("shifted by one",)
            self.add(match.end(), 0, kinds,
                     lambda n, by=by: f"::lathe::mutation::shift({n[0]}, {by}) + ")

    def find_least(self):
        for match in re.finditer(r"(?<![\w:])(?:std::)?min(?:<[^(;]*>)?\(", self.code):
            if is_compile_time(self.code, match.start()):
                continue
            inner = self.code[match.end() : closing(self.code, match.end() - 1)]
            if re.search(r"(^|, )(k[A-Z]\w*|\d+)(,|$)", inner) and not re.search(r"[a-z_]", inner):
                continue
            typed = re.match(r"(?:std::)?min(<[^(;]*>)\(", match[0])
            self.add(match.start(), len(match[0]), ("bound taken away",),
                     lambda n, t=typed[1] if typed else "": f"::lathe::mutation::least{t}({n[0]}, ")

    def mutants(self):
        self.find()
        lines = self.source.split("\n")
        seen = collections.Counter()
        found = []
        # Of equal offsets the one that was added first stays outside.
        for offset, length, kinds, replacement in sorted(self.edits, key=lambda e: (e[0], -e[1])):
            line = self.source.count("\n", 0, offset) + 1
            text = lines[line - 1].strip()
            here = []
            for kind in kinds:
                here.append(Mutant(self.name, line, kind, text, seen[kind, text]))
                seen[kind, text] += 1
            found.append((offset, length, here, replacement))
        return found


def rewrite(source, found):
    result, position = [], 0
    for offset, length, here, replacement in found:
        if offset < position:
            raise ValueError(f"places overlap: {here}")
        result += [source[position:offset], replacement([m.number for m in here])]
        position = offset + length
    return "".join(result + [source[position:]])


def sources():
    """Files with device code or waits; shapes only choose among right kernels."""
    folder = ROOT / "kernels" / "cuda"
    files = sorted(folder.glob("*.cu")) + sorted(folder.glob("*.cuh")) + sorted(folder.glob("*.h"))
    files += [folder / name for name in HOST_FILES]
    return [f for f in files if not f.name.endswith("_shapes.h") and f.name not in ("handles.h", "check.h")]


def enumerate_mutants():
    """{file: [(offset, length, mutants, replacement)]}, numbered from 1."""
    number, everything = 0, {}
    for file in sources():
        found = Rewriter(file.name, file.read_text()).mutants()
        for _, _, here, _ in found:
            for mutant in here:
                number += 1
                mutant.number = number
        everything[file] = found
    return everything


def make_tree(everything):
    """The copy in which every place asks. Files keep their times where they are the same, so that only what changed is built."""
    TREE.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, tracked):
        write_if_changed(TREE / name, (ROOT / name).read_bytes(), (ROOT / name).stat().st_mode)
    for file, found in everything.items():
        text = rewrite(file.read_text(), found)
        if file.name == "launch.h":
            text = text.replace("    kernel<<<", "    ::lathe::mutation::set_on_device();\n    kernel<<<", 1)
        if found:
            text = "#include \"kernels/cuda/mutation.h\"\n" + text
        write_if_changed(TREE / file.relative_to(ROOT), text.encode())
    write_if_changed(TREE / "kernels/cuda/mutation.h", ASK.encode())


def write_if_changed(path, content, mode=None):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if mode is not None:
        path.chmod(mode)


def build():
    log = WORK / "build.log"
    with open(log, "w") as output:
        for folder, command in ((ROOT, ["cmake", "--preset", "emulated"]),
                                (ROOT, ["cmake", "--build", "build/emulated", "--target", "ptxemu", "-j", str(os.cpu_count())]),
                                # Asking makes unsigned comparisons with zero, which are no error here.
                                (TREE, ["cmake", "--preset", "emulated", "-DCMAKE_CUDA_FLAGS=-diag-suppress=186"]),
                                (TREE, ["cmake", "--build", "build/emulated", "--target", "cuda_operations_test", "cuda_runtime_test", "-j", str(os.cpu_count())])):
            if subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT).returncode != 0:
                sys.exit(f"mutate_kernels.py: {folder}: {' '.join(command)} failed: {log}")


def tests_of(file):
    """The test program of a file, and which of its tests."""
    if file in HOST_FILES:
        return "cuda_runtime_test", "*"
    operations = operations_of(file)
    return "cuda_operations_test", ":".join(f"Backends/Operations.*cuda_{o}_*" for o in operations) or "Backends/Operations.*"


def operations_of(file):
    """The operations whose kernels a file serves."""
    folder = ROOT / "kernels" / "cuda"
    texts = {f.name: f.read_text() for f in folder.iterdir() if f.suffix in (".cu", ".h", ".cuh", ".cpp")}
    executes = {name: set(re.findall(r"CudaBackend::execute\(const (\w+)&", text)) for name, text in texts.items()}
    if not file.endswith(".cu"):
        users = {file}
        while True:
            more = {n for n, t in texts.items() if any(f'kernels/cuda/{u}"' in t for u in users)} | users
            if more == users:
                break
            users = more
    else:
        # A file without an execute of its own serves those of the files that share its first word.
        users = {file} if executes[file] else {n for n in texts if n.split("_")[0].split(".")[0] == file.split("_")[0].split(".")[0]}
    return sorted(set().union(*(executes[u] for u in users if u in executes)))


def run_tests(number, tests, environment, timeout):
    program, chosen = tests
    command = ["nice", "-n", "19", str(ROOT / "scripts/emulate.sh"), str(TESTS / program), "--gtest_brief=1",
               "--gtest_fail_fast", f"--gtest_filter={chosen}"]
    variables = dict(os.environ, LATHE_MUTANT=str(number), PTXEMU_MAX_REPORTS="1", **environment)
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return "did not end"
    if done.returncode == 0:
        return None
    report = re.search(r"ptxemu[^\n]*?: ([A-Z][A-Z -]+[A-Z])", done.stderr)
    if report:
        return report[1].lower()
    return "wrong result" if done.returncode == 1 else f"exit code {done.returncode}"


# Where a fault shows only under other orders.
RUNS = ({"PTXEMU_GLOBAL_INIT": "1"}, {"PTXEMU_SCHED": "1"}, {"PTXEMU_ASYNC": "1", "PTXEMU_SCHED": "2"})


def try_mutant(mutant, tests, seconds):
    for environment in RUNS:
        how = run_tests(mutant.number, tests, environment, 60 + 10 * seconds)
        if how is not None:
            return how
    return "lives"


def read_allowed():
    """{(file, kind, text): reason}"""
    allowed = {}
    for line in ALLOWED.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            file, kind, text, reason = (part.strip() for part in line.split(" | "))
            allowed[file, kind, text] = reason
    return allowed


def hash_of(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def load_results():
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {name: entry for name, entry in results.items()
            if (ROOT / "kernels/cuda" / name).exists() and entry["hash"] == hash_of(ROOT / "kernels/cuda" / name)}


def save_results(results):
    temporary = RESULTS.with_suffix(".new")
    temporary.write_text(json.dumps(results, indent=1))
    temporary.replace(RESULTS)


def summarize(everything, results, allowed):
    print("| file | mutants | tried | killed | allowed | living |\n| --- | ---: | ---: | ---: | ---: | ---: |")
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
        print(f"| {file.name} | {len(mutants)} | {len(tried)} | {len(tried) - len(lives)} | {len(spared)} | {len(lives) - len(spared)} |")
    for m in living:
        print(f"lives: kernels/cuda/{m.file}:{m.line}: {m.kind}: {m.text}", file=sys.stderr)
    return not living


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only name the mutants")
    parser.add_argument("--summary", action="store_true", help="only tell what was found so far")
    parser.add_argument("--only", action="append", default=[], metavar="FILE", help="a file of kernels/cuda; may be given again")
    parser.add_argument("--jobs", type=int, default=1, help="tests at a time")
    options = parser.parse_args()
    everything = enumerate_mutants()
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
    if not options.summary:
        make_tree(everything)
        build()
        seconds = {}
        for name in sorted({m.file for m in chosen}):
            results.setdefault(name, {"hash": hash_of(ROOT / "kernels/cuda" / name), "mutants": {}})
            begin = os.times().elapsed
            how = run_tests(0, tests_of(name), {}, 3600)
            if how is not None:
                sys.exit(f"mutate_kernels.py: the tests of {name} fail without a mutant: {how}")
            seconds[name] = os.times().elapsed - begin
        todo = [m for m in chosen if m.key not in results[m.file]["mutants"]]
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            running = {pool.submit(try_mutant, m, tests_of(m.file), seconds[m.file]): m for m in todo}
            for done in concurrent.futures.as_completed(running):
                m = running[done]
                results[m.file]["mutants"][m.key] = done.result()
                save_results(results)
                print(f"{m.number:5} {m.file}:{m.line}: {m.kind}: {done.result()}", flush=True)
    sys.exit(0 if summarize(everything, results, allowed) else 1)


main()
