"""One training process of Lathe or of PyTorch: its losses, speed, memory and start."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

SETTLING = 1  # first steps that are no measure of speed: memory is first touched, PyTorch compiles


@dataclasses.dataclass
class Job:
    lathe_options: list
    model: pathlib.Path
    data: pathlib.Path
    length: int
    micro_batch: int
    steps: int
    threads: int
    work: pathlib.Path

    def result(self, seconds, losses, begin, process):
        """`begin`: seconds from the process's start to the first step's."""
        return {"losses": losses, "begin_s": begin, "first_step_s": begin + seconds[0],
                "peak_mib": process.peak_mib, "others": process.others_share,
                "tokens_per_second": [self.length * self.micro_batch / s for s in seconds[SETTLING:]]}


def check(command):
    result = subprocess.run([str(x) for x in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {result.returncode}: {result.stderr.strip()}")


def read_beforehand(*folders):
    """So that no run waits for the disk: a system may have dropped files that it held in memory."""
    for folder in folders:
        for file in folder.iterdir():
            file.read_bytes()


def processor_seconds():
    """That all programs, and other machines on the same host, have used."""
    ticks = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle and waiting for disks


class Process:
    """A child whose standard output is read, and what it needed."""

    def __init__(self, command, job, log):
        self.command, self.log = [str(x) for x in command], log
        environment = {**os.environ, "OMP_NUM_THREADS": str(job.threads), "CUDA_VISIBLE_DEVICES": "",
                       "TORCHINDUCTOR_CACHE_DIR": str(job.work / "inductor"),
                       "TORCHINDUCTOR_CPP_USE_DECOMPOSE_TANH": "1"}  # compiled GPT-2s gain a tenth by it
        self.begun, self.before = time.monotonic(), processor_seconds()
        self.child = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        self.lines = self.child.stdout

    def seconds(self):
        return time.monotonic() - self.begun

    def fail(self):
        self.log.seek(0)
        sys.exit(f"{' '.join(self.command)}: ended early: {self.log.read()[-2000:]}")

    def end(self, kill=False):
        if kill:
            self.child.kill()
        _, status, usage = os.wait4(self.child.pid, 0)
        self.child.returncode = os.waitstatus_to_exitcode(status)
        self.lines.close()
        if self.child.returncode != 0 and not kill:
            self.fail()
        self.peak_mib = usage.ru_maxrss / 1024
        all_seconds = processor_seconds() - self.before
        self.others_share = max(0.0, 1.0 - (usage.ru_utime + usage.ru_stime) / all_seconds)


def lathe(program, job, dtype):
    """Ended from outside after its steps, as PyTorch's run neither validates nor writes a checkpoint."""
    with tempfile.TemporaryDirectory(dir=job.work) as folder, tempfile.TemporaryFile("w+") as log:
        run = pathlib.Path(folder) / "run"
        process = Process([program, "train", *job.lathe_options, "--resume", job.model, "--data", job.data,
                           "--output", run, "--dtype", dtype, "--device", "cpu", "--threads", job.threads,
                           "--steps", 1000000, "--schedule", "constant", "--sequence-length", job.length,
                           "--micro-batch", job.micro_batch, "--global-batch", job.micro_batch,
                           "--validation-every", 0, "--checkpoint-every", 0], job, log)
        begin = next((process.seconds() for line in process.lines if " parameters (" in line), None)
        steps = []
        while begin is not None and len(steps) < job.steps and process.child.poll() is None:
            time.sleep(0.05)
            metrics = run / "metrics.jsonl"
            text = metrics.read_text() if metrics.exists() else ""
            steps = [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()][:job.steps]
        if len(steps) < job.steps:
            process.fail()
        process.end(kill=True)
    tokens = job.length * job.micro_batch
    return job.result([tokens / s["tokens_per_second"] for s in steps], [s["loss"] for s in steps], begin, process)


def pytorch(job, variant):
    precision, mode, *loss = variant.split("-")
    with tempfile.TemporaryFile("w+") as log:
        process = Process([sys.executable, pathlib.Path(__file__).with_name("pytorch_train.py"), "--model", job.model,
                           "--data", job.data, "--precision", precision, "--loss", *(loss or ["whole"]),
                           "--micro-batch", job.micro_batch, "--length", job.length, "--steps", job.steps,
                           "--threads", job.threads, *(["--compile"] if mode == "compiled" else [])], job, log)
        begin, steps = None, []
        for line in process.lines:
            event = json.loads(line)
            if "ready" in event:
                begin = process.seconds()
            else:
                steps.append(event)
        process.end()
    return job.result([s["seconds"] for s in steps], [s["loss"] for s in steps], begin, process)
