"""Tables of what runs.py measured."""

import math
import statistics

TOKENS = 4096  # of a step
FAST = 0.9  # of the fastest variant's tokens/s: what then counts as fast too
MEMORY_BAR, START_BAR = 0.7, 0.2
DISTURBED = 0.1  # of the processor's time for other programs: no measure of speed


def speed_bar(model, dtype):
    if dtype == "bf16":
        return 1.5
    return 1.1 if model in ("llama-110m", "gpt2-124m") else 1.3


def tolerance(record):
    """Of a step's loss, relative to it, when both sides round independently."""
    steps = len(record["losses"])
    if record["dtype"] == "f32":
        # Errors of long sums grow as the square root of their length, and add up over steps alike.
        return 2**-24 * math.sqrt(max(record["vocabulary"], TOKENS) * steps)
    # Weights are rounded alike; what differs is some eight rounded activations a layer, averaged over the tokens.
    return 2**-9 * math.sqrt(8 * record["layers"] * steps / TOKENS)


def speeds(records, program):
    return [x for r in records if r["program"] == program for x in r["tokens_per_second"]]


def speed(records, program):
    return statistics.median(speeds(records, program))


def fast(records, variants):
    """Those of `variants` that come near the fastest."""
    best = max(speed(records, v) for v in variants)
    return [v for v in variants if speed(records, v) >= FAST * best]


def programs(records):
    return [p for p in dict.fromkeys(r["program"] for r in records) if p != "lathe"]


def median(records, program, key):
    return statistics.median(r[key] for r in records if r["program"] == program)


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def spread(values):
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} - {max(values):,.0f})"


def verdict(met):
    return "met" if met else "**missed**"


class Row:
    """All runs of one model, length and type; for bf16 PyTorch's f32 runs count as well."""

    def __init__(self, key, records):
        self.model, self.length, self.dtype = key
        mine = [r for r in records if (r["model"], r["length"]) == key[:2]]
        self.mine = [r for r in mine if r["dtype"] == self.dtype]
        self.theirs = [r for r in mine if r["program"] != "lathe" and self.dtype in (r["dtype"], "bf16")]
        self.name = f"{self.model}, T = {self.length}, {self.dtype}"
        self.variants = programs(self.theirs)
        self.best = max(self.variants, key=lambda v: speed(self.theirs, v))

    def ratio(self):
        """The median of runs each beside the run of Lathe just before it, as machines' speeds drift."""
        ours = {r["pair"]: r for r in self.mine if r["program"] == "lathe"}
        pairs = [(ours[r["pair"]], r) for r in self.mine if r["program"] == self.best and r["pair"] in ours]
        if not pairs:
            return speed(self.mine, "lathe") / speed(self.theirs, self.best)
        return statistics.median(speed([a], "lathe") / speed([b], self.best) for a, b in pairs)

    def speed_cells(self):
        ratio = self.ratio()
        bar = speed_bar(self.model, self.dtype)
        return [self.name, spread(speeds(self.mine, "lathe")), spread(speeds(self.theirs, self.best)), self.best,
                f"{ratio:.2f}", f"{bar} {verdict(ratio >= bar)}"]

    def memory_cells(self):
        frugal = min(fast(self.theirs, self.variants), key=lambda v: median(self.theirs, v, "peak_mib"))
        ours, peak = median(self.mine, "lathe", "peak_mib"), median(self.theirs, frugal, "peak_mib")
        return [self.name, f"{ours:,.0f}", f"{peak:,.0f}", frugal, f"{ours / peak:.2f}",
                f"{MEMORY_BAR} {verdict(ours <= MEMORY_BAR * peak)}"]

    def start_cells(self):
        eager, compiled = ([v for v in programs(self.mine) if mode in v] for mode in ("eager", "compiled"))
        if not eager:
            return None
        quickest = min(eager, key=lambda v: median(self.mine, v, "first_step_s"))
        begins = [median(self.mine, "lathe", "begin_s"), median(self.mine, quickest, "begin_s")]
        ends = [median(self.mine, "lathe", "first_step_s"), median(self.mine, quickest, "first_step_s")]
        compiling = [r["first_step_s"] for r in self.mine if r["program"] in compiled]
        return [self.name, f"{begins[0]:.2f}", f"{begins[1]:.2f}", f"{begins[0] / begins[1]:.2f}",
                f"{START_BAR} {verdict(begins[0] <= START_BAR * begins[1])}",
                f"{ends[0]:.2f}", f"{ends[1]:.2f}", f"{ends[0] / ends[1]:.2f}",
                f"{min(compiling):.1f} - {max(compiling):.1f}" if compiling else ""]

    def variant_cells(self):
        return [[self.name, v, spread(speeds(self.theirs, v)), f"{median(self.theirs, v, 'peak_mib'):,.0f}"]
                for v in sorted(self.variants, key=lambda v: -speed(self.theirs, v))
                if any(r["program"] == v and r["dtype"] == self.dtype for r in self.theirs)]

    def loss_cells(self):
        """Every run of a program gives the same losses (Lathe's to the bit), so the longest one is looked at."""
        ours = max((r for r in self.mine if r["program"] == "lathe"), key=lambda r: len(r["losses"]))
        cells = []
        for variant in programs(self.mine):
            theirs = max((r for r in self.mine if r["program"] == variant), key=lambda r: len(r["losses"]))
            errors = [abs(a - b) / a for a, b in zip(ours["losses"], theirs["losses"])]
            allowed = tolerance(theirs)
            cells.append([self.name, variant, f"{ours['losses'][0]:.4f} to {ours['losses'][-1]:.4f}",
                          f"{errors[0]:.1e}", f"{max(errors):.1e}",
                          f"{allowed:.1e} {'agree' if max(errors) <= allowed else '**differ**'}"])
        return cells


def undisturbed(records):
    """Without runs beside which other programs computed, unless there is no other run of the kind."""
    kind = lambda r: (r["model"], r["length"], r["dtype"], r["program"])
    quiet = {kind(r) for r in records if r["others"] <= DISTURBED}
    kept = [r for r in records if r["others"] <= DISTURBED or kind(r) not in quiet]
    loud = [r for r in kept if r["others"] > DISTURBED]
    if len(kept) < len(records) or loud:
        left_out = len(records) - len(kept)
        print(f"Other programs took over {DISTURBED:.0%} of the processor beside {left_out + len(loud)} of "
              f"{len(records)} runs; {left_out} of them are left out. Measure on a quiet machine.\n")
    return kept


def print_all(records):
    """Whether the losses agree; speed, memory and start only are reported."""
    records = undisturbed(records)
    keys = dict.fromkeys((r["model"], r["length"], r["dtype"]) for r in records)
    rows = [Row(key, records) for key in keys]
    table(["model", "Lathe tokens/s (spread)", "PyTorch's best (spread)", "which", "ratio", "bar"],
          [row.speed_cells() for row in rows])
    table(["model", "Lathe's peak MiB", "PyTorch's, most frugal of its fast", "which", "ratio", "bar"],
          [row.memory_cells() for row in rows])
    table(["model", "Lathe: first step begins, s", "PyTorch eager", "ratio", "bar", "Lathe: first step ends, s",
           "PyTorch eager", "ratio", "PyTorch compiled ends"], [c for row in rows if (c := row.start_cells())])
    table(["model", "PyTorch", "tokens/s (spread)", "peak MiB"], [c for row in rows for c in row.variant_cells()])
    losses = [c for row in rows for c in row.loss_cells()]
    table(["model", "PyTorch", "loss over the steps", "differs at step 1", "at most", "allowed"], losses)
    return all("differ" not in c[-1] for c in losses)
