"""Which tests a file of kernels/cuda has, and running them on the emulated GPU with mutants chosen."""

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
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


def is_of_host(file):
    return file in HOST_FILES or file in ("wait_timer.h", "stamp_clock.h", "offload_slots.h")


def orders_of(mutant):
    return len(ORDERS) if mutant.kind.startswith(ORDERED_KINDS) or mutant.file in HOST_FILES else 1


def cases_of(file):
    """The tests of a file whose cases try all mutants in one process (try_mutants.h); those of the host's waits come to nothing there."""
    return [] if is_of_host(file) else [("cuda_operations_test", f"Backends/Operations.*cuda_{o}_{t}") for o in operations_of(file) for t in ("bf16", "f32")]


def others_of(file):
    """Its other tests, which take a process a mutant."""
    if is_of_host(file):
        return [("cuda_runtime_test", "*"), ("cuda_operations_test", "Backends/Memory.*cuda*")]
    cublas = ":*CublasMatmul.*" if "Matmul" in operations_of(file) else ""
    return [("cuda_operations_test", f"*SpecialValues.*cuda*{cublas}")]


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


def try_in_cases(numbers, test, order, found):
    """Calls found(number, how) for each mutant that a case notices, how being None where the case has only seen a difference in what
    is decided."""
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        process = subprocess.Popen(command_of(test), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env=environment(order, LATHE_MUTANTS=" ".join(map(str, numbers)), LATHE_MUTANTS_LOG=log))
        output = process.communicate()[0]
        if process.returncode != 0:
            sys.exit(f"mutate_kernels.py: {' '.join(test)} fails without a mutant:\n{output.decode(errors='replace')[-2000:]}")
        for line in open(log) if os.path.exists(log) else []:
            what, number, how = line.rstrip("\n").split(" ", 2)
            found(int(number), how if what == "noticed" else None)


def how_noticed_by_others(mutant, seconds):
    """How one of a mutant's other tests notices it; None where none does. `seconds`: what they take without one, once known."""
    for order in range(orders_of(mutant)):
        for test in others_of(mutant.file):
            if (test, order) not in seconds:
                how, seconds[test, order] = run(0, test, order, 3600)
                if how is not None:
                    sys.exit(f"mutate_kernels.py: {' '.join(test)} fails without a mutant: {how}")
            how = run(mutant.number, test, order, 20 + 5 * seconds[test, order])[0]
            if how is not None:
                return how
    return None


def command_of(test):
    program, chosen = test
    # A failure ends it at once.
    return [str(ROOT / "scripts/emulate.sh"), str(FOLDER / program), "--gtest_brief=1", "--gtest_break_on_failure",
            f"--gtest_filter={chosen}"]


def environment(order, **more):
    return dict(os.environ, PTXEMU_MAX_REPORTS="1", PTXEMU_DEVICES="4", OMP_NUM_THREADS="1", **ORDERS[order], **more)


def run(number, test, order, limit):
    """(how it failed or None, processor time in seconds). Counts processor time, not the clock's: whoever shares the machine may
    stop the run for a while."""
    def set_limits():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command_of(test), env=environment(order, LATHE_MUTANT=str(number)), stdout=log, stderr=log, preexec_fn=set_limits)
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
