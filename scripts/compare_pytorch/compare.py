"""Runs Lathe and PyTorch in turns and prints what was measured; see scripts/compare_pytorch.sh."""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import report
import runs

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass
class Model:
    """A shape; initial_model.py makes weights of it, lathe_options() tells Lathe."""

    family: str
    layers: int
    channels: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    steps: int  # of a run, the first one included

    def lathe_options(self):
        options = ["--context-length", 1024, "--tied-embeddings", "true", "--norm-epsilon", 1e-5]
        for key in ("layers", "channels", "heads", "kv_heads", "feed_forward"):
            options += ["--" + key.replace("_", "-"), getattr(self, key)]
        if self.family == "gpt2":
            options += ["--norm", "layernorm", "--positions", "learned", "--mlp", "gelu-tanh", "--biases", "all",
                        "--init-rule", "scaled-residual"]
        if self.channels >= 768:
            # Norms and activations are cheap beside the products of a wide model, and need half its memory.
            options += ["--recompute", "selective"]
        return [*options, "--vocabulary-size", self.vocabulary]


MODELS = {  # the llamas and gpt2-124m are Lathe's presets
    "llama-5m": Model("llama", 6, 256, 4, 2, 640, 4096, 10),
    "gpt2-6m": Model("gpt2", 6, 256, 4, 4, 1024, 4096, 10),
    "llama-15m": Model("llama", 6, 288, 6, 6, 768, 32000, 6),
    "gpt2-15m": Model("gpt2", 6, 288, 6, 6, 1152, 32000, 6),
    "llama-110m": Model("llama", 12, 768, 12, 12, 2048, 32000, 3),
    "gpt2-124m": Model("gpt2", 12, 768, 12, 12, 3072, 50257, 3),
}

# What PyTorch is tried with. Precisions: f32; medium: f32 whose products may use bf16; autocast to bf16; master: all in
# bf16 with f32 master weights. The loss on all logits at once, or chunked (ChunkedLoss in model.py).
VARIANTS = {
    "f32": ["f32-eager", "f32-eager-chunked", "f32-compiled", "f32-compiled-chunked"],
    "bf16": ["autocast-eager", "autocast-eager-chunked", "autocast-compiled", "autocast-compiled-chunked",
             "master-eager-chunked", "master-compiled", "medium-compiled"],
}
QUICK = {"f32": ["f32-eager"], "bf16": ["autocast-eager-chunked"]}


def parse():
    parser = argparse.ArgumentParser(prog="compare_pytorch.sh", description=__doc__)
    parser.add_argument("--model", action="append", choices=list(MODELS), help="repeatable; all by default")
    parser.add_argument("--length", action="append", type=int, help="tokens of a sequence; by default 256 and 1024")
    parser.add_argument("--dtype", action="append", choices=list(VARIANTS), help="by default both")
    parser.add_argument("--variants", help="PyTorch's, separated by commas; by default all of the type: "
                        + ", ".join(sum(VARIANTS.values(), [])))
    parser.add_argument("--repetitions", type=int, default=3,
                        help="the first tries all variants, the others those within a tenth of the fastest")
    parser.add_argument("--steps", type=int, help="of each run; by default by the model's size")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="llama-5m, T = 256, few variants and steps")
    parser.add_argument("--results", type=pathlib.Path,
                        help="append the runs to this file, and report all that it holds")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "compare_pytorch",
                        help="keeps the data, the initial models and compiled kernels between calls")
    parser.add_argument("lathe", nargs="?", type=pathlib.Path, default=ROOT / "build" / "release" / "lathe")
    options = parser.parse_args()
    if options.quick:
        options.model, options.length = options.model or ["llama-5m"], options.length or [256]
        options.repetitions, options.steps = 1, options.steps or 4
    if options.steps is not None and options.steps < 2:
        parser.error(f"--steps {options.steps}: at least 2, as the first is no measure of speed")
    if not options.lathe.exists():
        print(f"{options.lathe}: no such program; build it or give its path", file=sys.stderr)
        sys.exit(2)
    return options


def prepare(options, model):
    """The data and the model's initial weights, from which both begin; made once."""
    data, folder = options.work / "data", options.work / "models" / model
    options.work.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        text = options.work / "corpus.txt"
        with text.open("w") as out:
            subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdout=out, check=True)
        runs.check([options.lathe, "prepare", "--input", text, "--output", data, "--vocab-size", 4096])
    if not folder.exists():
        runs.check([sys.executable, pathlib.Path(__file__).with_name("initial_model.py"), folder,
                    json.dumps(dataclasses.asdict(MODELS[model]))])
    return data, folder


def measure(options, model, length, dtype, record):
    data, folder = prepare(options, model)
    steps = options.steps or MODELS[model].steps
    row = {"model": model, "length": length, "dtype": dtype, "layers": MODELS[model].layers,
           "vocabulary": MODELS[model].vocabulary}
    job = runs.Job(MODELS[model].lathe_options(), folder, data, length, report.TOKENS // length, steps,
                   options.threads, options.work)
    variants = (QUICK if options.quick else VARIANTS)[dtype]
    if options.variants:
        variants = [v for v in options.variants.split(",") if v in VARIANTS[dtype]]
    mine = []
    for repetition in range(options.repetitions):
        for variant in variants:
            for program in ("lathe", variant):
                print(f"{model} {length} {dtype}: {program} ({repetition + 1})", file=sys.stderr)
                runs.read_beforehand(data, folder)
                result = runs.lathe(options.lathe, job, dtype) if program == "lathe" else runs.pytorch(job, variant)
                mine.append({**row, "program": program, "pair": time.time() if program == "lathe" else mine[-1]["pair"],
                             **result})
                record(mine[-1])
        variants = report.fast(mine, variants)


def main():
    options = parse()
    records = []
    if options.results and options.results.exists():
        records = [json.loads(line) for line in options.results.read_text().splitlines()]

    def record(result):
        records.append(result)
        if options.results:
            with options.results.open("a") as out:
                out.write(json.dumps(result) + "\n")

    for model in options.model or MODELS:
        for length in options.length or (256, 1024):
            for dtype in options.dtype or VARIANTS:
                measure(options, model, length, dtype, record)
    sys.exit(0 if report.print_all(records) else 1)


if __name__ == "__main__":
    main()
