"""Lathe's loader in Python: the same windows of the same shards in the same order (data/loader.h)."""

import json

import numpy

MASK = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def permuted_index(index, size, seed, epoch):
    key = mix(mix(seed) ^ epoch)
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for i in range(8):
            left, right = right, left ^ (mix(key + i * 0xD1342543DE82EF95 + mix(right)) & mask)
        index = left << half_bits | right
        if index < size:
            return index


class Loader:
    def __init__(self, folder, length, seed=1):
        shards = json.loads((folder / "dataset.json").read_text())["splits"]["train"]["shards"]
        assert len(shards) == 1, "the comparison's text fits one shard"
        header = numpy.fromfile(folder / shards[0]["file"], dtype="<i4", count=3)
        self.tokens = numpy.memmap(folder / shards[0]["file"], dtype={20240520: "<u2", 20240801: "<u4"}[int(header[0])],
                                   mode="r", offset=1024, shape=(int(header[2]),))
        self.length, self.seed = length, seed
        self.num_samples = (len(self.tokens) - 1) // length

    def batch(self, first_sample, count):
        """Inputs and targets, each [count, T] of int64."""
        rows = []
        for sample in range(first_sample, first_sample + count):
            window = permuted_index(sample % self.num_samples, self.num_samples, self.seed, sample // self.num_samples)
            rows.append(self.tokens[window * self.length:(window + 1) * self.length + 1])
        rows = numpy.stack(rows).astype(numpy.int64)
        return numpy.ascontiguousarray(rows[:, :-1]), numpy.ascontiguousarray(rows[:, 1:])
