"""vhdx compare."""
import json

import pytest

from conftest import MIB


@pytest.fixture
def pair(vhdx, raw_disk):
    vhdx("convert", raw_disk, "a.vhdx")
    return raw_disk, "a.vhdx"


def test_the_same(vhdx, pair):
    assert vhdx("compare", *pair) == b"Images are identical.\n"
    assert vhdx("compare", "-f", "raw", "-F", "vhdx", *pair) == b"Images are identical.\n"
    assert vhdx("compare", "-q", *pair) == b""
    document = vhdx.json("compare", "--json", *pair)
    assert document["identical"] is True and document["a"]["virtual-size"] == document["b"]["virtual-size"]


@pytest.mark.parametrize("offset", [0, 4095, 5 * MIB + 1, 24 * MIB + 1535])
def test_the_first_difference_is_named(vhdx, pair, raw_disk, offset):
    with open(raw_disk, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    done = vhdx.run("compare", *pair)
    assert done.returncode == 1 and done.stdout.decode() == f"Content mismatch at offset {offset} (0x{offset:x})!\n"
    done = vhdx.run("compare", "--json", *pair)
    assert done.returncode == 1 and json.loads(done.stdout)["first-difference"] == offset


def test_the_shorter_disk_counts_as_followed_by_zeros(vhdx):
    vhdx("create", "a.vhdx", "10M")
    vhdx("create", "b.vhdx", "12M")
    assert b"size mismatch" in vhdx("compare", "a.vhdx", "b.vhdx")
    assert vhdx.run("compare", "--strict", "a.vhdx", "b.vhdx").returncode == 1


def test_errors_are_not_differences(vhdx, pair):
    assert vhdx.fails(2, "compare", "none.vhdx", pair[0]).startswith("vhdx: none.vhdx: ")
    assert vhdx.fails(2, "compare", pair[0], "none.vhdx").startswith("vhdx: none.vhdx: ")
    done = vhdx.run("compare", "--json", pair[0], "none.vhdx")
    assert done.returncode == 2 and json.loads(done.stdout)["filename"] == "none.vhdx"
    vhdx.fails(2, "compare", "-f", "vhdx", *pair)


def test_as_qemu_img_does(vhdx, pair, peer):
    assert vhdx("compare", *pair) == peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", *pair)
