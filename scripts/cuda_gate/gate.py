"""The compile gate of scripts/check_cuda.sh: resources of every kernel, and the table in docs/kernels.md."""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import machine_code

ARCHITECTURES = ("80", "90", "100", "120")
# Whose occupancy the table tells, and for which machine code.
DEVICES = (("a100", "80"), ("h100", "90"), ("rtx5090", "120"))
# Machine code is read for these: the oldest, and the newest that keeps mma.sync's speed.
READ = ("80", "90")
# Notes of ptxas that mean slower code than was written, and that it prints as information.
NOTES = ("C7508", "C7510", "C7511", "C7517")
# Kernels that may spill or use local memory: a regular expression, and the reason.
MAY_USE_LOCAL_MEMORY = (
    (r"^resident_kernel<float, ", "NormBackward in f32, which no training on a GPU computes in, keeps whole rows in registers"),
)

# Bound by memory: these must load and store 16 bytes at a time where their arguments are aligned.
MOVE_PACKS = (r"^(gelu|swiglu|swiglu_backward|cast|adamw|accumulate|embedding|resident_norm|store_new)\w*<?",
              r"^(looped_norm|wide|rotary|cross_entropy|window)_kernel<.*true>")

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "gate"
PAGE = ROOT / "docs" / "kernels.md"
BEGIN = "<!-- kernels: begin (scripts/check_cuda.sh --update writes this) -->"
END = "<!-- kernels: end -->"


@dataclasses.dataclass
class Compiled:
    """What ptxas says of one kernel for one architecture."""

    registers: int = 0
    static_bytes: int = 0
    stack_bytes: int = 0
    spill_bytes: int = 0
    threads: int = 1024


@dataclasses.dataclass
class Kernel:
    file: str
    name: str
    by_architecture: dict = dataclasses.field(default_factory=dict)
    code: dict = dataclasses.field(default_factory=dict)  # architecture -> (counts, main loops)


def commands():
    """{.cu file: its compile command without architectures and output}"""
    found = {}
    for entry in json.loads((ROOT / "build/cuda/compile_commands.json").read_text()):
        file = pathlib.Path(entry["file"])
        if file.suffix != ".cu" or "kernels/cuda" not in str(file):
            continue
        words = shlex.split(entry["command"])
        words = words[next(i for i, word in enumerate(words) if word.endswith("nvcc")) :]
        kept, skip = [], False
        for word in words:
            if not skip and not word.startswith("--generate-code") and word not in ("-c", "-o", "-x", str(file)):
                kept.append(word)
            skip = word in ("-o", "-x")
        found[file] = kept
    return found


def compile_kernels(file, command, architecture, headers):
    """The cubin and what ptxas said of it; made anew where the file, a header or the command is another."""
    command = command + [f"-arch=sm_{architecture}", "-cubin", "-Xptxas=-v", str(file)]
    key = hashlib.sha256(file.read_bytes() + headers + " ".join(command).encode()).hexdigest()[:16]
    stem = WORK / f"{file.stem}.sm_{architecture}"
    cubin, log, stamp = (stem.with_name(stem.name + end) for end in (".cubin", ".log", ".key"))
    if not stamp.exists() or stamp.read_text() != key:
        result = subprocess.run(command + ["-o", str(cubin)], capture_output=True, text=True, cwd=ROOT)
        log.write_text(result.stdout + result.stderr)
        if result.returncode != 0:
            sys.exit(f"check_cuda.sh: {file.relative_to(ROOT)} for sm_{architecture}:\n{log.read_text()}")
        stamp.write_text(key)
    return cubin, log.read_text()


def compile_all():
    """[(file, architecture, cubin, log)], the largest files first, on all cores."""
    headers = b"".join(f.read_bytes() for f in sorted(ROOT.glob("kernels/**/*.h")) + sorted(ROOT.glob("kernels/**/*.cuh")))
    sources = commands()
    tasks = [(f, a) for f in sorted(sources, key=lambda f: -f.stat().st_size) for a in ARCHITECTURES]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda task: compile_kernels(task[0], sources[task[0]], task[1], headers), tasks)
        return [(file, architecture, *result) for (file, architecture), result in zip(tasks, made)]


def tidy(demangled):
    """Without namespaces, return type and parameters."""
    name = re.sub(r"\(anonymous namespace\)::|lathe::cuda::|lathe::|^void ", "", demangled)
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            name = name[:i]
            break
    name = re.sub(r"\((?:int|bool|unsigned int|long)\)", "", name)
    return name.replace("__nv_bfloat16", "bf16").replace("> >", ">>").strip()


def demangle(names):
    output = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, map(tidy, output.splitlines())))


def read_log(text):
    """{mangled kernel: Compiled}"""
    found, current = {}, None
    for line in text.splitlines():
        entry = re.search(r"Compiling entry function '(\S+)'", line)
        if entry:
            current = found.setdefault(entry[1], Compiled())
        if current is None:
            continue
        used = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)
        if used:
            current.stack_bytes = max(current.stack_bytes, int(used[1]))
            current.spill_bytes = max(current.spill_bytes, int(used[2]) + int(used[3]))
        registers = re.search(r"Used (\d+) registers", line)
        if registers:
            current.registers = int(registers[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current.static_bytes = int(shared[1]) if shared else 0
    return found


def read_code(nvdisasm, cubin):
    """{mangled kernel: (counts of all, counts of each main loop)}"""
    result = {}
    for name, lines in machine_code.disassemble(nvdisasm, cubin).items():
        blocks = machine_code.split_blocks(lines)
        whole = machine_code.count([i for block in blocks for i in block.instructions])
        loops = [machine_code.count(loop) for loop in machine_code.main_loops(blocks)] if whole.mma else []
        result[name] = (whole, loops)
    return result


def collect(compiled, nvdisasm):
    """({(file, name): Kernel}, complaints)"""
    kernels, complaints = {}, []
    readings = {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, architecture, cubin, _ in compiled:
            if architecture in READ:
                readings[file, architecture] = pool.submit(read_code, nvdisasm, cubin)
    for file, architecture, cubin, log in compiled:
        where = file.relative_to(ROOT).name
        complaints += [f"{where} for sm_{architecture}: {line.strip()}" for line in log.splitlines()
                       if any(note in line for note in NOTES)]
        resources = read_log(log)
        names = demangle(list(resources))
        threads = machine_code.largest_blocks(cubin)
        code = readings[file, architecture].result() if architecture in READ else {}
        for mangled, found in resources.items():
            kernel = kernels.setdefault((where, names[mangled]), Kernel(where, names[mangled]))
            if mangled not in threads:
                complaints.append(f"{where}: {kernel.name}: has no __launch_bounds__")
            found.threads = threads.get(mangled, 1024)
            kernel.by_architecture[architecture] = found
            if mangled in code:
                kernel.code[architecture] = code[mangled]
    return kernels, sorted(set(complaints))


def check_resources(kernel):
    if any(re.search(pattern, kernel.name) for pattern, _ in MAY_USE_LOCAL_MEMORY):
        return []
    said = [f"{kernel.file}: {kernel.name}: sm_{a}: {c.stack_bytes} bytes of local memory, {c.spill_bytes} spilled"
            for a, c in kernel.by_architecture.items() if c.stack_bytes or c.spill_bytes]
    return said + [f"{kernel.file}: {kernel.name}: sm_{a}: {whole.local} accesses of local memory"
                   for a, (whole, _) in kernel.code.items() if whole.local]


def check_packs(kernel):
    if not any(re.search(pattern, kernel.name) for pattern in MOVE_PACKS):
        return []
    return [f"{kernel.file}: {kernel.name}: sm_{a}: {c.wide_loads} loads and {c.wide_stores} stores of 16 bytes"
            for a, (c, _) in kernel.code.items() if not c.wide_loads or not c.wide_stores]


def read_designs():
    """[(pattern, dynamic bytes, {what: number in a turn of the main loop})]"""
    lines = subprocess.run([WORK / "design"], capture_output=True, text=True, check=True).stdout.splitlines()
    designs = []
    for line in lines:
        pattern, shared_bytes, *numbers = line.split("\t")
        loop = dict(zip(("mma", "ldmatrix", "copies", "loads"), map(int, numbers))) if "-" not in numbers else {}
        designs.append((pattern, int(shared_bytes), loop))
    return designs


def check_design(kernel, loop):
    """The main loops must hold what the design says, or that several times where they are unrolled."""
    complaints = []
    for architecture, (_, found) in kernel.code.items():
        where = f"{kernel.file}: {kernel.name}: sm_{architecture}"
        if not found:
            complaints.append(f"{where}: no loop with tensor-core products")
        for counts in found:
            seen = {"mma": counts.mma, "ldmatrix": counts.ldmatrix, "copies": counts.copies,
                    "loads": counts.wide_loads + counts.narrow_loads}
            turns = counts.mma / loop["mma"]
            if any(seen[what] != number * turns for what, number in loop.items() if what != "loads" or number) or turns != int(turns):
                complaints.append(f"{where}: the main loop holds {seen}, designed are {loop} (or a multiple)")
    return complaints


def occupancy(kernels, dynamic_bytes):
    """{(kernel key, device): "blocks (per cent)"}"""
    keys, lines = [], []
    for key, kernel in kernels.items():
        for device, architecture in DEVICES:
            c = kernel.by_architecture.get(architecture)
            if c:
                keys.append((key, device))
                lines.append(f"{device} {c.registers} {c.static_bytes} {dynamic_bytes[key]} {c.threads}")
    output = subprocess.run([WORK / "occupancy"], input="\n".join(lines), capture_output=True, text=True, check=True).stdout
    return {key: "{} ({}%)".format(*line.split()) for key, line in zip(keys, output.splitlines())}


def code_text(kernel):
    """What the machine code of the oldest architecture holds."""
    if READ[0] not in kernel.code:
        return "", ""
    whole, loops = kernel.code[READ[0]]
    loop = " / ".join(f"{c.mma} mma, {c.ldmatrix} ldmatrix, {c.copies} copies" for c in loops)
    return loop, f"{whole.wide_loads}+{whole.narrow_loads}, {whole.wide_stores}+{whole.narrow_stores}"


def table(kernels, dynamic_bytes):
    blocks = occupancy(kernels, dynamic_bytes)
    lines = ["| kernel | threads | registers " + "/".join(ARCHITECTURES) + " | shared memory | "
             + " | ".join(f"{device.upper()}" for device, _ in DEVICES)
             + " | main loop (sm_80) | loads, stores |",
             "| --- | ---: | --- | ---: | " + " | ".join("---:" for _ in DEVICES) + " | --- | --- |"]
    file = None
    for key in sorted(kernels):
        kernel = kernels[key]
        if kernel.file != file:
            file = kernel.file
            lines.append(f"| **{file}** |" + " |" * (5 + len(DEVICES)))
        compiled = kernel.by_architecture
        first = next(iter(compiled.values()))
        static_bytes = max(c.static_bytes for c in compiled.values())
        shared = "all" if dynamic_bytes[key] < 0 else static_bytes + dynamic_bytes[key]
        registers = "/".join(str(compiled[a].registers) if a in compiled else "-" for a in ARCHITECTURES)
        loop, accesses = code_text(kernel)
        cells = [f"`{kernel.name}`", str(first.threads), registers, str(shared)]
        cells += [blocks.get((key, device), "-") for device, _ in DEVICES] + [loop, accesses]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def keep_table(text, update):
    page = PAGE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    wanted = page[:begin] + "\n" + text + "\n" + page[end:]
    if wanted == page:
        return []
    if update:
        PAGE.write_text(wanted)
        return []
    return [f"{PAGE.relative_to(ROOT)}: the table of kernels is stale: scripts/check_cuda.sh --update writes it"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nvdisasm", required=True)
    parser.add_argument("--update", action="store_true", help="write the table in docs/kernels.md")
    options = parser.parse_args()
    kernels, complaints = collect(compile_all(), options.nvdisasm)
    dynamic_bytes = dict.fromkeys(kernels, 0)
    for pattern, shared_bytes, loop in read_designs():
        matching = [key for key in kernels if re.search(pattern, kernels[key].name)]
        if not matching:
            complaints.append(f"scripts/cuda_gate/design.cpp: no kernel is named {pattern}")
        for key in matching:
            dynamic_bytes[key] = shared_bytes
            if loop:
                complaints += check_design(kernels[key], loop)
    for kernel in kernels.values():
        complaints += check_resources(kernel) + check_packs(kernel)
    complaints += keep_table(table(kernels, dynamic_bytes), options.update)
    for complaint in complaints:
        print(f"check_cuda.sh: {complaint}", file=sys.stderr)
    if complaints:
        sys.exit(1)
    print(f"cuda: {len(kernels)} kernels for {', '.join('sm_' + a for a in ARCHITECTURES)}: no spills, no local memory, as designed")


main()
