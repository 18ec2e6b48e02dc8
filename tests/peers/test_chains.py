"""Chains of ours, as other programs see them: 7-Zip follows parents, libvhdi names them, QEMU refuses."""
import random
import subprocess

import pytest

import guest
from conftest import MIB

SIZE = 24 * MIB


def make_chain(vhdx, folder, depth, block_sizes):
    """Images on each other, each with scattered writes of its own; returns their names, the base first."""
    draw = random.Random(depth)
    names = []
    for number in range(depth):
        name = "base.vhdx" if number == 0 else f"layer{number}.avhdx"
        below = ["--parent", names[-1]] if names else []
        vhdx("create", "-q", "--block-size", draw.choice(block_sizes), *below, name, *([] if names else [str(SIZE)]))
        for _ in range(6):
            size = draw.choice([512, 4096, 69632, MIB])
            offset = draw.randrange((SIZE - size) // 512) * 512
            letter = 0 if draw.random() < 0.2 else draw.randrange(1, 256)
            vhdx("bench", "-q", "-w", "-c", "1", "-d", "1", "-s", str(size), "-o", str(offset), "--pattern", str(letter),
                 name)
        names.append(name)
    return names


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_7zip_extracts_the_same(vhdx, peer, tmp_path, depth):
    peer("7zz", "i")
    names = make_chain(vhdx, tmp_path, depth, ["1M", "2M", "8M"])
    for name in names:
        theirs = subprocess.run(["7zz", "x", "-so", "-tvhdx", name], cwd=tmp_path, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, check=True).stdout
        assert theirs == vhdx("convert", "-O", "raw", name, "-"), name


def test_libvhdi_names_our_parent(vhdx, peer, tmp_path):
    names = make_chain(vhdx, tmp_path, 2, ["2M"])
    said = peer("vhdiinfo", names[1]).decode()
    parent = vhdx.json("info", "--json", names[0])
    assert "base.vhdx" in said and "ifferential" in said, said
    assert parent["data-write-guid"] in said.lower(), said


def test_qemu_refuses_and_changes_nothing(vhdx, peer, tmp_path):
    names = make_chain(vhdx, tmp_path, 2, ["2M"])
    before = guest.file_digest(tmp_path / names[1])
    assert b"not support" in peer("qemu-img", "info", names[1], status=1)
    assert guest.file_digest(tmp_path / names[1]) == before
