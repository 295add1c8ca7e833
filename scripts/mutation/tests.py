"""Which tests a file of kernels/cuda has, and running them on the emulated GPU with one mutant chosen."""

import collections
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

from mutation.places import HOST_FILES, KERNELS, ROOT

TREE = ROOT / "build" / "mutation" / "tree"
PROGRAMS = ("cuda_operations_test", "cuda_runtime_test")
FOLDER = TREE / "build" / "emulated" / "tests" / "kernels"

# Where a fault shows only under other orders.
ORDERS = ({"PTXEMU_GLOBAL_INIT": "1"}, {"PTXEMU_SCHED": "1"}, {"PTXEMU_ASYNC": "1", "PTXEMU_SCHED": "2"})
ORDERED_KINDS = ("barrier", "wait", "commit", "fence", "mask")
SECONDS_WITHOUT_WORK = 60
REPORT = re.compile(rb"ptxemu[^\n]*?: ([A-Z][A-Z -]+[A-Z])")


def tests_of(file):
    """[(program, filter)] of a file."""
    if file in HOST_FILES or file == "wait_timer.h":
        return [("cuda_runtime_test", "*"), ("cuda_operations_test", "Backends/Memory.*cuda*")]
    operations = operations_of(file)
    return ([("cuda_operations_test", f"Backends/Operations.*cuda_{o}_{t}") for o in operations for t in ("bf16", "f32")]
            + [("cuda_operations_test", "*SpecialValues.*cuda*:*CublasMatmul.*")])


def operations_of(file):
    """The operations whose kernels a file serves: those of the files that use it, and where such a file has none of its own, of those
    that share its first word."""
    executes = {name: set(re.findall(r"CudaBackend::execute\(const (\w+)&", text)) for name, text in texts().items()}
    first = lambda name: re.split(r"[_.]", name)[0]
    users = {file} if executes[file] else {file} | users_of(file.replace(".cu", ".h"))
    if file == "attention.cu":
        users.add("cached_attention.cu")  # whose prompts take its kernels
    for user in [u for u in users if u.endswith(".cu") and not executes[u]]:
        users |= {name for name in executes if first(name) == first(user)}
    return sorted(set().union(*(executes.get(u, set()) for u in users)))


def texts():
    return {f.name: f.read_text() for f in KERNELS.iterdir() if f.suffix in (".cu", ".h", ".cpp")}


def users_of(header):
    """The files that include a header, by others too, and itself."""
    all_texts = texts()
    users = {header}
    while True:
        more = {n for n, t in all_texts.items() if any(f'kernels/cuda/{u}"' in t for u in users)} | users
        if more == users:
            return users
        users = more


class Runner:
    """Runs tests, those first that have noticed most for their time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seconds = {}  # of processor time without a mutant, by (test, order)
        self.noticed = collections.Counter()

    def how_noticed(self, mutant):
        """How the tests notice a mutant; None where they do not."""
        orders = ORDERS if mutant.kind.startswith(ORDERED_KINDS) or mutant.file in HOST_FILES else ORDERS[:1]
        for order in range(len(orders)):
            tests = tests_of(mutant.file)
            for test in tests:
                self.seconds_of(test, order)
            for test in sorted(tests, key=lambda t: self.seconds[t, order] / (1 + self.noticed[t])):
                how = run(mutant.number, test, ORDERS[order], 20 + 5 * self.seconds[test, order])[0]
                if how is not None:
                    self.noticed[test] += 1
                    return how
        return None

    def seconds_of(self, test, order):
        with self.lock:
            if (test, order) not in self.seconds:
                how, seconds = run(0, test, ORDERS[order], 3600)
                if how is not None:
                    sys.exit(f"mutate_kernels.py: {' '.join(test)} fails without a mutant: {how}")
                self.seconds[test, order] = seconds


def run(number, test, order, limit):
    """(how it failed or None, processor time in seconds). Counts processor time, not the clock's: whoever shares the machine may
    stop the run for a while."""
    program, chosen = test
    # A failure ends it at once.
    command = [str(ROOT / "scripts/emulate.sh"), str(FOLDER / program), "--gtest_brief=1", "--gtest_break_on_failure",
               f"--gtest_filter={chosen}"]
    variables = dict(os.environ, LATHE_MUTANT=str(number), PTXEMU_MAX_REPORTS="1", PTXEMU_DEVICES="4", **order)

    def set_limits():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, preexec_fn=set_limits)
        seconds, idle_steps = 0.0, 0
        step = 0.05
        while process.poll() is None:
            time.sleep(step)
            now = processor_seconds(process.pid)
            idle_steps = 0 if now is None or now > seconds else idle_steps + 1
            seconds = seconds if now is None else now
            if idle_steps * step > SECONDS_WITHOUT_WORK or REPORT.search(os.pread(log.fileno(), 1 << 16, 0)):
                process.kill()
        text = os.pread(log.fileno(), 1 << 20, 0)
    report = REPORT.search(text)
    if report:
        return report[1].decode().lower(), seconds
    if process.returncode == 0:
        return None, seconds
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "did not end", seconds
    return "wrong result" if process.returncode in (1, -signal.SIGTRAP) else f"exit code {process.returncode}", seconds


def processor_seconds(pid):
    """None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
