"""Block devices as sources.  As a target one is in test_convert.py, and over NBD in test_remote.py."""
import pytest

from conftest import MIB


@pytest.fixture
def device(peer, tmp_path):
    """A loop device of 32 MiB with old contents."""
    (tmp_path / "backing").write_bytes(b"\xff" * 32 * MIB)
    name = peer("losetup", "-f", "--show", tmp_path / "backing", status=None).decode().strip()
    if not name.startswith("/dev/"):
        pytest.skip("no loop device can be had")
    yield name
    peer("losetup", "-d", name)


def fill(device, data):
    with open(device, "r+b") as file:
        file.write(data)


def test_a_raw_disk_on_a_device(vhdx, peer, device, raw_disk):
    fill(device, raw_disk.read_bytes())
    vhdx("convert", device, "a.vhdx")
    vhdx("compare", "--strict", device, "a.vhdx")
    assert b"identical" in peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", device, "a.vhdx")
    assert vhdx.json("measure", "--json", device)["virtual-size"] == 32 * MIB
    assert sum(extent["length"] for extent in vhdx.json("map", "--json", "-f", "raw", device)) == 32 * MIB


def test_an_image_on_a_device(vhdx, device, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    fill(device, (tmp_path / "a.vhdx").read_bytes())
    vhdx("compare", "--strict", device, raw_disk)
    assert vhdx.json("info", "--json", device)["file-size"] == 32 * MIB
    vhdx("bench", "-w", "-q", "-c", "1", "-s", "4K", "--pattern", "9", device)  # of a block that is there
    assert vhdx("convert", "-O", "raw", device, "-")[:4096] == b"\x09" * 4096


def test_a_vhd_ends_with_the_device(vhdx, device, tmp_path):
    (tmp_path / "disk.raw").write_bytes(b"x" * (32 * MIB - 512))
    vhdx("convert", "disk.raw", "a.vhd")
    fill(device, (tmp_path / "a.vhd").read_bytes())
    vhdx("compare", "--strict", device, "disk.raw")
    assert "block device" in vhdx.fails(1, "convert", "--force", "-O", "vhd", "disk.raw", device)


def test_from_device_to_a_server_and_back(vhdx, peer, device, raw_disk):
    """Devices and servers are treated alike: what lies there goes, what is zero is zeroed."""
    peer("nbdkit", "--version")
    words = ["[", "nbdkit", "file", device, "]"]
    assert "holds data" in vhdx.fails(1, "convert", raw_disk, *words)
    vhdx("convert", "--force", raw_disk, *words)
    data = raw_disk.read_bytes()
    with open(device, "rb") as file:
        assert file.read(len(data)) == data and file.read(512) == b"\xff" * 512
