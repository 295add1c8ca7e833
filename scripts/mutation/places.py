"""The places of kernels/cuda at which a barrier, wait, fence, mask or bound check stands, and the text that asks there whether it is
to be left out (ask.h): scripts/mutate_kernels.py."""

import dataclasses
import hashlib
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
KERNELS = ROOT / "kernels" / "cuda"
# Files of the host whose waits and events are looked at; cuda_runtime_test is theirs.
HOST_FILES = ("cuda_backend.cpp", "offload_staging.cpp")
# A file has so many numbers, so that a place more in one does not have the others compiled anew.
NUMBERS_A_FILE = 200
NUMBERS = 16384  # kNumbers of ask.h


@dataclasses.dataclass
class Mutant:
    file: str
    line: int
    kind: str
    text: str  # the line as it stands in the source
    number: int = 0


STATEMENTS = (
    # kind, statement: taken away
    ("barrier", r"__syncthreads\(\);|__syncwarp\([^;]*\);|ptx::\w*barrier\w*\([^;]*\);|__syncthreads_\w+\([^;]*\);"),
    ("commit", r"ptx::commit_copies\(\);"),
    ("wait", r"ptx::wait_copies<[^;]*>\(\);|CUDA_CHECK\(cuda(?:StreamWaitEvent|EventSynchronize|EventRecord|StreamSynchronize)\([^;]*\);"),
    ("fence", r"__threadfence\w*\(\);"),
)
COMPARISON = re.compile(r"(?<=[\w)\]]) (<=|>=|<|>) (?=[\w(!*&-])")
WRITTEN_OUT_LEAST = re.compile(r"(?<=[ ({])([\w.:]+(?: \+ [\w.:]+)?) < ([\w.:]+(?: \+ [\w.:]+)?) \? \1 : \2(?=[,;})])")
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
        self.written_out = set()  # offsets of the comparison in a < b ? a : b

    def add(self, offset, length, kinds, replacement):
        self.edits.append((offset, length, kinds, replacement))

    def decide(self, begin, end, kind, mutated):
        """The condition from begin to end is `mutated` where this is chosen."""
        self.add(begin, 0, (kind,), lambda n: f"::lathe::mutation::decide({n[0]}, static_cast<bool>(")
        self.add(end, 0, (), lambda n: f"), {mutated})")

    def find(self):
        self.find_statements()
        self.find_masks()
        self.find_conditions()
        self.find_written_out_least()
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
                     lambda n: f"(kFullWarp >> (::lathe::mutation::is_chosen({n[0]}) ? 1 : 0))")

    def find_conditions(self):
        for match in re.finditer(r"\bif \(", self.code):
            begin = match.end() - 1
            end = closing(self.code, begin)
            condition = self.code[begin + 1 : end]
            if is_compile_time(self.code, match.start() + 3) or ";" in condition:
                continue
            body = self.code[end + 1 :].lstrip(" {\n")
            never = re.match(r"return\b|continue\b|break\b|\w+\[?.*= -INFINITY", body) is not None
            self.decide(begin + 1, end, "check taken away", "false" if never else "true")

    def find_written_out_least(self):
        """a < b ? a : b, where a comparison shifted by one would be the same."""
        for match in WRITTEN_OUT_LEAST.finditer(self.code):
            self.written_out.add(match.end(1))
            self.decide(match.start(), match.end(2), "bound taken away", "true")

    def find_comparisons(self):
        for match in COMPARISON.finditer(self.code):
            offset = match.start()
            if is_compile_time(self.code, offset) or offset in self.written_out:
                continue
            in_for, constant = is_constant_loop(self.code, offset)
            right = self.code[match.end() : match.end() + 40]
            if constant or re.match(r"\d+(\.\d+)?F\b|-?INFINITY", right):
                continue
            # The first way more passes (x < n), the second way less.
            by = 1 if match[1] in ("<", "<=") else -1
            self.add(match.end(), 0, ("shifted by one", "shifted by one the other way"),
                     lambda n, by=by: f"::lathe::mutation::shift({n[0]}, {n[1]}, {by}) + ")

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
        found = []
        # Of equal offsets the one that was added first stays outside.
        for offset, length, kinds, replacement in sorted(self.edits, key=lambda e: (e[0], -e[1])):
            line = self.source.count("\n", 0, offset) + 1
            text = re.sub(r" *//.*", "", lines[line - 1]).strip()
            found.append((offset, length, [Mutant(self.name, line, kind, text) for kind in kinds], replacement))
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
    files = sorted(KERNELS.glob("*.cu")) + sorted(KERNELS.glob("*.h"))
    files += [KERNELS / name for name in HOST_FILES]
    return [f for f in files if not f.name.endswith("_shapes.h") and f.name not in ("handles.h", "check.h")]


def enumerate_mutants():
    """{file: [(offset, length, mutants, replacement)]}"""
    everything = {}
    for index, file in enumerate(sources()):
        found = Rewriter(file.name, file.read_text()).mutants()
        for i, mutant in enumerate(mutants_of(found)):
            mutant.number = NUMBERS_A_FILE * (index + 1) + i
            if i == NUMBERS_A_FILE or mutant.number >= NUMBERS:
                raise ValueError(f"{file.name}: more places than numbers")
        everything[file] = found
    return everything


def mutants_of(found):
    return [m for _, _, here, _ in found for m in here]


def hash_of(file, found):
    """Of what the program and its mutants are: comments do not matter."""
    code = " ".join(re.sub(r" *//[^\n]*", "", file.read_text()).split())
    mutants = [(m.kind, m.text) for m in mutants_of(found)]
    return hashlib.sha256(repr((code, mutants)).encode()).hexdigest()[:16]
