"""The same disk for everyone: random images, read by us, by QEMU and by 7-Zip, against what was put into them.

VHDX_PEERS_SEEDS says how many seeds, VHDX_PEERS_FIRST_SEED where they begin; a test's name has its seed.
"""
import os
import shutil
import subprocess

import pytest

from conftest import state
from random_images import make_chain

SEEDS = int(os.environ.get("VHDX_PEERS_SEEDS", "16"))
FIRST_SEED = int(os.environ.get("VHDX_PEERS_FIRST_SEED", "1"))

# What the others are known to refuse: peer, feature of the image, why.  Everything else they have to read as we do.
KNOWN_FAULTS = [
    ("qemu", "child", "QEMU does not support differencing images"),
    ("qemu", "sector-4096", "QEMU knows sectors of 512 bytes only"),
    ("qemu", "table-1-bad", "QEMU looks at the first region table only"),
    ("qemu", "user-item-of-known-id", "QEMU looks at ids alone; IsUser makes it another item"),
    ("7zip", "header-1-bad", "7-Zip wants both headers"),
    ("7zip", "header-2-bad", "7-Zip wants both headers"),
    ("7zip", "table-1-bad", "7-Zip wants the first region table"),
    ("7zip", "table-2-bad", "7-Zip calls it an error, though it extracts the disk"),
    ("7zip", "odd-number-of-sectors", "7-Zip wants an even number of them"),
    ("7zip", "user-item-of-known-id", "7-Zip looks at ids alone; IsUser makes it another item"),
    ("7zip", "dirty", "7-Zip does not replay a log: it extracts what lies in place, and calls that an error"),
]


def first_difference(expected, found):
    if len(expected) != len(found):
        return f"{len(found)} bytes, expected {len(expected)}"
    at = next(i for i in range(0, len(expected), 512) if expected[i:i + 512] != found[i:i + 512])
    return f"sector at {at}"


class Reading:
    def __init__(self, layers, folder):
        self.layers, self.folder = layers, folder

    def judge(self, peer, layer, done, found):
        """A read that failed only where that is known; other bytes never."""
        features = set().union(*(below.features for below in self.layers[:self.layers.index(layer) + 1]))
        reasons = [reason for name, feature, reason in KNOWN_FAULTS if name == peer and feature in features]
        if done.returncode != 0:
            assert reasons, (peer, layer.name, sorted(features), done.stderr[-400:])
        else:
            assert found == layer.disk, (peer, layer.name, sorted(features), first_difference(layer.disk, found))

    def ours(self, vhdx, layer):
        path = self.folder / layer.name
        before = state(path)
        found = vhdx("convert", "-f", "vhdx", "-O", "raw", path, "-")
        assert found == layer.disk, (layer.name, sorted(layer.features), first_difference(layer.disk, found))
        assert state(path) == before
        assert vhdx.run("check", "-q", path).returncode in (0, 3), "what is well-formed has no fault"

    def everyone(self, vhdx, layer):
        self.ours(vhdx, layer)
        if shutil.which("qemu-img"):
            self.qemu(layer)
        if shutil.which("7zz"):
            self.seven_zip(layer)

    def qemu(self, layer):
        """QEMU reads no dirty log: a copy is opened for writing first, which replays it."""
        copy, raw = self.folder / "copy.vhdx", self.folder / "qemu.raw"
        shutil.copyfile(self.folder / layer.name, copy)
        if "dirty" in layer.features:
            subprocess.run(["qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", copy], capture_output=True,
                           check=False)
        done = subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", copy, raw], capture_output=True,
                              check=False)
        self.judge("qemu", layer, done, raw.read_bytes() if done.returncode == 0 else b"")

    def seven_zip(self, layer):
        done = subprocess.run(["7zz", "x", "-so", "-tvhdx", self.folder / layer.name], capture_output=True,
                              check=False)
        self.judge("7zip", layer, done, done.stdout)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_all_read_the_same(vhdx, tmp_path, seed):
    layers = make_chain(seed)
    reading = Reading(layers, tmp_path)
    for layer in layers:
        layer.image.write(tmp_path / layer.name)
    for layer in layers:
        reading.everyone(vhdx, layer)
    for layer in layers:
        if "dirty" in layer.features:
            vhdx("replay", "-q", tmp_path / layer.name)
            layer.features -= {"dirty"}
            reading.everyone(vhdx, layer)
