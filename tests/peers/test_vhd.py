"""VHDs: QEMU and libvhdi read ours, and we read QEMU's."""
import pytest

from conftest import GIB, MIB

SHAPES = ["subformat=dynamic", "subformat=fixed", "subformat=dynamic,force_size=on", "subformat=fixed,force_size=on"]


@pytest.mark.parametrize("options", SHAPES)
def test_theirs(vhdx, peers, ext4_disk, options):
    peers.peer("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", options, ext4_disk.path, "a.vhd")
    vhdx("compare", *(["--strict"] if "force" in options else []), ext4_disk.path, "a.vhd")
    vhdx("convert", "a.vhd", "a.vhdx")
    peers.assert_same_for_qemu(ext4_disk.path, "a.vhdx")


def test_theirs_of_many_blocks(vhdx, peers, sparse_disk):
    """The size that QEMU rounds up to whole cylinders is what its footer says."""
    peers.peer("qemu-img", "convert", "-f", "raw", "-O", "vpc", sparse_disk.path, "a.vhd")
    vhdx("compare", sparse_disk.path, "a.vhd")
    data = [extent for extent in vhdx.json("map", "--json", "a.vhd") if extent["data"]]
    assert 4 * 2 * MIB <= sum(extent["length"] for extent in data) <= 8 * 2 * MIB
    vhdx("convert", "a.vhd", "a.raw")
    peers.peer("qemu-img", "compare", "-f", "vpc", "-F", "raw", "a.vhd", "a.raw")


@pytest.mark.parametrize("azure", [False, True])
def test_ours(vhdx, peers, ext4_disk, tmp_path, azure):
    with open(ext4_disk.path, "rb") as file:
        (tmp_path / "odd.raw").write_bytes(file.read(5 * MIB + 512 * 7))
    vhdx("convert", *(["--for=azure"] if azure else []), "odd.raw", "a.vhd")
    size = 6 * MIB if azure else 5 * MIB + 512 * 7
    shown = peers.peer("qemu-img", "info", "-f", "vpc", "--output=json", "a.vhd")
    assert f'"virtual-size": {size}'.encode() in shown
    peers.peer("qemu-img", "compare", "-f", "raw", "-F", "vpc", "odd.raw", "a.vhd")
    if not azure:
        peers.peer("qemu-img", "compare", "-s", "-f", "raw", "-F", "vpc", "odd.raw", "a.vhd")
    peers.assert_opened_by_libvhdi(size, "a.vhd")


@pytest.mark.parametrize("size", [10 * MIB, 40 * MIB, GIB, 31 * GIB, 127 * GIB])
def test_the_geometry_is_theirs(vhdx, peers, tmp_path, size):
    """QEMU rounds the size to the geometry it computes; for that size ours is the same."""
    peers.peer("qemu-img", "create", "-f", "vpc", "-o", "subformat=dynamic", "a.vhd", str(size))
    vhdx("convert", "--preallocate=off", "a.vhd", "b.vhd")
    with open(tmp_path / "a.vhd", "rb") as theirs, open(tmp_path / "b.vhd", "rb") as ours:
        ours.seek(-512, 2)
        assert theirs.read(512)[56:60] == ours.read(512)[56:60]
