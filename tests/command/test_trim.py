"""vhdx trim.  What is refused it shares with compact; test_compact.py tests both."""
import json
import os
import pathlib

import pytest

from chains import contents
from conftest import MIB, allocated
from file_systems import filled, guest  # noqa: F401 (fixtures)


@pytest.mark.parametrize("kind", ["ext4-4k", "ntfs", "exfat"])
def test_free_space_becomes_holes_and_nothing_moves(vhdx, guest, peer, kind):  # noqa: F811
    inside = guest(kind, "MBR")
    image, smallest = inside.image("disk.vhdx"), inside.smallest("smallest.vhdx")
    size = image.stat().st_size
    before = image.read_bytes()
    row = vhdx.json("trim", "--json", "-n", "disk.vhdx")
    assert image.read_bytes() == before
    done = vhdx.json("trim", "--json", "disk.vhdx")
    for key in ("file-size-after", "bytes-released", "blocks-freed", "bytes-moved"):
        assert done[key] == row[key], key
    assert done["bytes-moved"] == 0 and done["file-size-after"] == image.stat().st_size <= size
    assert allocated(image) <= 1.03 * allocated(smallest) + 64 * 1024
    assert vhdx.run("check", "-q", "disk.vhdx").returncode in (0, 3)  # there is room for blocks to come
    peer("qemu-img", "check", "disk.vhdx")
    inside.assert_files_are_intact_in("disk.vhdx")
    assert "nothing to give back" in vhdx("trim", "disk.vhdx").decode()


def test_only_free_space_changes(vhdx, guest, tmp_path):  # noqa: F811
    """Zeros that are no file system's stay what they are: that is compact's --zeroes."""
    (tmp_path / "disk.raw").write_bytes(b"x" * MIB + bytes(MIB))
    vhdx("convert", "-q", "-f", "raw", "--block-size", "1M", "--type", "dynamic", "disk.raw", "disk.vhdx")
    before = (tmp_path / "disk.vhdx").read_bytes()
    text = vhdx("trim", "disk.vhdx").decode()
    assert "the whole disk, unknown: left alone" in text and "nothing to give back" in text
    assert (tmp_path / "disk.vhdx").read_bytes() == before


def test_fixed(vhdx, guest):  # noqa: F811
    inside = guest("fat32")
    image = inside.image("disk.vhdx", "--type", "fixed")
    space = allocated(image)
    assert "--sparse makes holes" in vhdx("trim", "disk.vhdx").decode() and allocated(image) == space
    vhdx("trim", "-q", "--sparse", "disk.vhdx")
    assert allocated(image) < space / 2
    inside.assert_files_are_intact_in("disk.vhdx")


def test_missing_and_foreign_files(vhdx, tmp_path):
    (tmp_path / "text").write_text("no image\n" * 100)
    done = vhdx.run("trim", "--json", "none", "text")
    assert done.returncode == 1
    assert [row["error"]["code"] for row in json.loads(done.stdout)] == ["NOT_FOUND", "NOT_VHDX"]
