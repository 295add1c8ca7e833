"""Reads cubins: what nvdisasm prints of a kernel, and its attributes."""

import dataclasses
import re
import struct
import subprocess


@dataclasses.dataclass
class Counts:
    """Instructions of a piece of machine code."""

    mma: int = 0
    ldmatrix: int = 0
    copies: int = 0  # asynchronous, global to shared
    wide_loads: int = 0  # global, 16 bytes a thread
    narrow_loads: int = 0
    wide_stores: int = 0
    narrow_stores: int = 0
    local: int = 0  # accesses of local memory


@dataclasses.dataclass
class Block:
    """A run of instructions entered at its beginning only."""

    instructions: list
    next: list


INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]+)\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_x?_?\w+):")
TARGET = re.compile(r"`\((\.L\w+)\)")


def count(instructions):
    counts = Counts()
    for name, _ in instructions:
        base = name.split(".")[0]
        wide = ".128" in name
        if base == "HMMA":
            counts.mma += 1
        elif base == "LDSM":
            counts.ldmatrix += 1
        elif base == "LDGSTS":
            counts.copies += 1
        elif base == "LDG":
            counts.wide_loads += wide
            counts.narrow_loads += not wide
        elif base == "STG":
            counts.wide_stores += wide
            counts.narrow_stores += not wide
        elif base in ("LDL", "STL"):
            counts.local += 1
    return counts


def split_blocks(lines):
    """The control-flow graph of one kernel: blocks in the order of the code."""
    blocks = [Block([], [])]
    labels = {}
    pending = []
    for line in lines:
        label = LABEL.match(line)
        if label:
            if blocks[-1].instructions:
                blocks.append(Block([], []))
            labels[label[1]] = len(blocks) - 1
            continue
        found = INSTRUCTION.match(line)
        if not found:
            continue
        _, predicate, name, operands = found.groups()
        blocks[-1].instructions.append((name, operands))
        if name.split(".")[0] in ("BRA", "EXIT", "RET", "BRX", "BSYNC", "JMP"):
            pending.append((len(blocks) - 1, name.split(".")[0], predicate, operands))
            blocks.append(Block([], []))
    ends = {index: (name, predicate, operands) for index, name, predicate, operands in pending}
    joins = {}  # convergence barrier -> where threads that wait at it go on
    for index, block in enumerate(blocks):
        for name, operands in block.instructions:
            if name.startswith("BSSY"):
                joins[operands.split(",")[0].strip()] = TARGET.search(operands)[1]
        name, predicate, operands = ends.get(index, ("", None, ""))
        goes_on = name == "" or predicate is not None or (name == "BRA" and "P" in operands.split("`")[0])
        if goes_on and index + 1 < len(blocks):
            block.next.append(index + 1)
        target = TARGET.search(operands)
        if name == "BSYNC":
            target = re.match(r"(.*)", joins.get(operands.strip(), ""))
            if target[1] in labels:
                block.next.append(labels[target[1]])
        elif target and target[1] in labels:
            block.next.append(labels[target[1]])
    return blocks


def strongly_connected(blocks, allowed):
    """Tarjan's components of the blocks in `allowed` that have a cycle."""
    order, low, stack, on_stack, components = {}, {}, [], set(), []

    def visit(root):
        work = [(root, iter(blocks[root].next))]
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in allowed:
                    continue
                if successor not in order:
                    order[successor] = low[successor] = len(order)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(blocks[successor].next)))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], order[successor])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == order[node]:
                    component = set()
                    while node not in component:
                        component.add(stack.pop())
                    on_stack.difference_update(component)
                    if len(component) > 1 or node in blocks[node].next:
                        components.append(component)

    for start in sorted(allowed):
        if start not in order:
            visit(start)
    return components


def main_loops(blocks):
    """Innermost loops with tensor-core instructions, each as its instructions."""

    def has_mma(component):
        return any(count(blocks[i].instructions).mma for i in component)

    found = []
    everything = set(range(len(blocks)))
    todo = [c for c in strongly_connected(blocks, everything) if has_mma(c)]
    while todo:
        component = todo.pop()
        # Without the blocks by which it is entered the loop is open: what still turns is inside of it.
        entered = {n for i in everything - component for n in blocks[i].next} & component
        inner = [c for c in strongly_connected(blocks, component - entered) if entered and has_mma(c)]
        if inner:
            todo += inner
        else:
            found.append([i for b in sorted(component) for i in blocks[b].instructions])
    return found


def disassemble(nvdisasm, cubin):
    """{mangled kernel: lines of its code}"""
    text = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout
    kernels, current = {}, None
    for line in text.splitlines():
        section = re.match(r"^\.text\.(\S+):", line)
        if section:
            current = kernels.setdefault(section[1], [])
        elif line.startswith("//---"):
            current = None
        elif current is not None:
            current.append(line)
    return kernels


def largest_blocks(cubin):
    """{mangled kernel: threads of its __launch_bounds__}, from the attributes that the driver reads."""
    data = open(cubin, "rb").read()
    section_offset = struct.unpack_from("<Q", data, 40)[0]
    size, number, names_index = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, section_offset + i * size) for i in range(number)]
    names = headers[names_index][4]
    threads = {}
    for name, _, _, _, offset, length in headers:
        text = data[names + name : data.index(b"\0", names + name)].decode()
        if text.startswith(".nv.info."):
            position = offset
            while position + 4 <= offset + length:
                form, attribute, value = struct.unpack_from("<BBH", data, position)
                if form == 4 and attribute in (0x05, 0x10):  # most threads, required threads
                    x, y, z = struct.unpack_from("<III", data, position + 4)
                    threads[text[len(".nv.info.") :]] = x * y * z
                position += 4 + (value if form == 4 else 0)
    return threads
