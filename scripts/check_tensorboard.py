"""Compares a run's TensorBoard events, as TensorBoard itself reads them, with its metrics.jsonl."""

import json
import logging
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Its reader reports a record that it cannot read by a warning only.
warnings = []


class Collect(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())


def single(value):
    """The f32 nearest to a number of metrics.jsonl (NaN and infinities are strings there)."""
    try:
        return struct.unpack("f", struct.pack("f", float(value)))[0]
    except OverflowError:
        return float("inf") if float(value) > 0 else float("-inf")


def expected_scalars(path):
    scalars = {}
    for line in path.read_text().splitlines():
        metrics = json.loads(line)
        step = metrics.pop("step")
        for tag in ("tokens", "skipped"):
            metrics.pop(tag, None)
        for tag, value in metrics.items():
            scalars.setdefault(tag, []).append((step, single(value)))
    return scalars


def main(run):
    logging.getLogger("tensorboard").addHandler(Collect(logging.WARNING))
    expected = expected_scalars(run / "metrics.jsonl")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    memory = sorted(tag for tag in found if tag.startswith("memory/"))
    problems = list(warnings)
    for tag in sorted(set(expected) | set(found) - set(memory)):
        # repr() as NaN is not equal to itself.
        if repr(found.get(tag)) != repr(expected.get(tag)):
            problems.append(f"{tag}: TensorBoard has {len(found.get(tag, []))} values, metrics.jsonl "
                            f"{len(expected.get(tag, []))}, or they differ")
    for problem in problems:
        print(f"check_tensorboard: {problem}", file=sys.stderr)
    if not problems:
        values = sum(len(series) for series in expected.values())
        print(f"TensorBoard reads all {values} values of {len(expected)} scalars as metrics.jsonl has them, and "
              f"{len(memory)} memory scalars")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
