"""Trains a model folder of Lathe's in PyTorch, as fast as PyTorch does it, for scripts/compare_pytorch.sh.

Prints one JSON object a line: {"ready": true} before the first step, then each step's loss and seconds.
"""

import argparse
import contextlib
import json
import pathlib
import time

import data
import model
import torch

RATE, BETAS, EPSILON, DECAY, CLIP = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0  # Lathe's defaults


def groups(parameters):
    return [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": DECAY},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]


class Optimizer:
    """Clipping and fused AdamW; parameters in bf16 have f32 masters."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.masters = self.parameters
        if self.parameters[0].dtype != torch.float32:
            self.masters = [p.detach().float() for p in self.parameters]
            for master in self.masters:
                master.grad = torch.empty_like(master)
        self.adamw = torch.optim.AdamW(groups(self.masters), lr=RATE, betas=BETAS, eps=EPSILON, fused=True)

    def step(self):
        separate = self.masters is not self.parameters
        if separate:
            torch._foreach_copy_([m.grad for m in self.masters], [p.grad for p in self.parameters])
        torch.nn.utils.clip_grad_norm_(self.masters, CLIP, foreach=True)
        self.adamw.step()
        with torch.no_grad():
            if separate:
                torch._foreach_copy_(self.parameters, self.masters)
        for parameter in self.parameters:
            parameter.grad = None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--precision", choices=["f32", "medium", "autocast", "master"], required=True)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--loss", choices=["whole", "chunked"], default="whole")
    parser.add_argument("--micro-batch", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("medium" if options.precision == "medium" else "highest")
    low = options.precision in ("autocast", "master")
    network = model.load(options.model, torch.bfloat16 if options.precision == "master" else torch.float32,
                         torch.bfloat16 if low else torch.float32, options.loss == "chunked")
    optimizer = Optimizer(network.parameters())
    forward = torch.compile(network) if options.compile else network
    autocast = torch.autocast("cpu", torch.bfloat16) if options.precision == "autocast" else contextlib.nullcontext()
    loader = data.Loader(options.data, options.length)

    print(json.dumps({"ready": True}), flush=True)
    for step in range(options.steps):
        start = time.perf_counter()
        tokens, targets = (torch.from_numpy(x) for x in loader.batch(step * options.micro_batch, options.micro_batch))
        with autocast:
            loss = forward(tokens, targets)
        loss.backward()
        optimizer.step()
        value = loss.item()
        print(json.dumps({"loss": value, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
