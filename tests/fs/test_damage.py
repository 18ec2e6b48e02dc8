"""Bits flipped in the tables of file systems: what is live is never called free, or the volume is refused.

VHDX_SEED replays a run; the seed is in what a failure prints.
"""

import os
import random

import pytest
from makers import KINDS, make
from tools import only_volume

SEED = int(os.environ.get("VHDX_SEED", random.SystemRandom().randrange(1 << 32)))
ROUNDS = int(os.environ.get("VHDX_ROUNDS", 40))


def holds(ranges, at, length):
    return any(start <= at and at + length <= start + size for start, size in ranges)


def flip(file, at, bit):
    file.seek(at)
    value = file.read(1)[0]
    file.seek(at)
    file.write(bytes([value ^ 1 << bit]))
    file.flush()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_live_is_freed(kind, new_file, tmp_path):
    source = random.Random(f"{SEED} {kind}")
    maker = make(kind, new_file, tmp_path)
    before = only_volume(maker.path, "--ranges")["ranges"]
    tables = maker.tables()
    refused = 0
    with open(maker.path, "r+b") as file:
        for number in range(ROUNDS):
            start, length = source.choice(tables)
            at, bit = start + source.randrange(length), source.randrange(8)
            flip(file, at, bit)
            volume = only_volume(maker.path, "--ranges")
            lost = [piece for piece in volume["ranges"] if not holds(before, *piece)]
            assert not lost, f"VHDX_SEED={SEED} round {number}: bit {bit} of byte {at} frees {lost}"
            refused += volume["verdict"] == "refused"
            flip(file, at, bit)
    assert refused > 0
