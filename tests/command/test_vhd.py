"""VHD, the format before VHDX: fixed ones are written, dynamic ones read."""
import os
import struct

import pytest

from conftest import MIB, allocated

EPOCH_2000 = 946684800


def be(data, offset, length):
    return int.from_bytes(data[offset:offset + length], "big")


def checksum(data, at):
    return ~(sum(data) - sum(data[at:at + 4])) & 0xffffffff


def seal(data, at):
    data[at:at + 4] = struct.pack(">I", checksum(data, at))


def dynamic(blocks, disk_size, block_size=2 * MIB, kind=3):
    """A dynamic VHD: {block index: (bitmap, data)}."""
    footer = bytearray(512)
    struct.pack_into(">8sIIQI4sI4sQQHBBI", footer, 0, b"conectix", 2, 0x10000, 512, 0, b"test", 1, b"test", disk_size,
                     disk_size, 0, 0, 0, kind)
    seal(footer, 64)
    header = bytearray(1024)
    count = -(-disk_size // block_size)
    struct.pack_into(">8sQQIII", header, 0, b"cxsparse", 2**64 - 1, 1536, 0x10000, count, block_size)
    seal(header, 36)
    table = bytearray(b"\xff" * (-(-count // 128) * 512))
    body = b""
    for index, (bitmap, data) in blocks.items():
        struct.pack_into(">I", table, index * 4, (1536 + len(table) + len(body)) // 512)
        body += bitmap + data.ljust(block_size, b"\0")
    return bytes(footer + header + table + body + footer)


def test_a_fixed_vhd_is_the_disk_and_a_footer(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhd")
    data = (tmp_path / "a.vhd").read_bytes()
    footer = data[-512:]
    assert data[:-512] == raw_disk.read_bytes()
    assert footer[:8] == b"conectix" and be(footer, 64, 4) == checksum(footer, 64)
    assert (be(footer, 8, 4), be(footer, 12, 4), be(footer, 16, 8)) == (2, 0x10000, 2**64 - 1)
    assert be(footer, 40, 8) == be(footer, 48, 8) == 24 * MIB + 1536 and be(footer, 60, 4) == 2
    assert (be(footer, 56, 2), footer[58], footer[59]) == (722, 4, 17)
    assert abs(be(footer, 24, 4) + EPOCH_2000 - os.stat(tmp_path / "a.vhd").st_mtime) < 60
    assert any(footer[68:84]) and not any(footer[84:])

    vhdx("compare", "--strict", raw_disk, "a.vhd")
    vhdx("convert", "a.vhd", "back.vhdx")
    vhdx("compare", "--strict", "-f", "vhd", "-F", "vhdx", "a.vhd", "back.vhdx")
    assert sorted(os.listdir(tmp_path)) == ["a.vhd", "back.vhdx", "disk.raw"]


@pytest.mark.parametrize("size, larger", [(1, MIB), (MIB, MIB), (MIB + 512, 2 * MIB), (24 * MIB + 1536, 25 * MIB)])
def test_what_azure_wants(vhdx, tmp_path, size, larger):
    (tmp_path / "disk.raw").write_bytes(b"\xaa" * size)
    vhdx("convert", "--for", "azure", "disk.raw", "a.vhd")
    assert os.stat(tmp_path / "a.vhd").st_size == larger + 512
    assert vhdx.json("info", "--json", "a.vhd")["virtual-size"] == larger
    vhdx("compare", "disk.raw", "a.vhd")
    piped = vhdx("convert", "--for=azure", "disk.raw", "-")
    (tmp_path / "piped.vhd").write_bytes(piped)
    vhdx("compare", "--strict", "a.vhd", "piped.vhd")


def test_without_azure_it_is_whole_sectors(vhdx, raw_disk, tmp_path):
    os.truncate(raw_disk, 1000)
    vhdx("convert", "-O", "vhd", raw_disk, "a")
    assert os.stat(tmp_path / "a").st_size == 1024 + 512
    assert len(vhdx("convert", "-O", "vpc", raw_disk, "-")) == 1536  # the name that QEMU has for it
    vhdx("convert", "--size", "1000", "-", "b.vhd", input=raw_disk.read_bytes())
    vhdx("compare", "--strict", "a", "b.vhd")


def test_measured_beforehand(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhd")
    assert vhdx.json("measure", "--json", raw_disk)["convert"]["vhd"] == os.stat(tmp_path / "a.vhd").st_size
    assert "convert -O vhd" in vhdx("measure", "a.vhd").decode()


def test_info_and_map(vhdx, raw_disk, tmp_path):
    vhdx("convert", "--preallocate=off", "--disk-id", "00112233-4455-6677-8899-aabbccddeeff", raw_disk, "a.vhd")
    info = vhdx.json("info", "--json", "a.vhd")
    assert (info["format"], info["type"], info["virtual-size"]) == ("vhd", "fixed", 24 * MIB + 1536)
    assert info["disk-id"] == "00112233-4455-6677-8899-aabbccddeeff"
    assert (tmp_path / "a.vhd").read_bytes()[-512 + 68:][:4] == b"\x00\x11\x22\x33"
    assert "file format: vhd" in vhdx("info", "a.vhd").decode()
    assert vhdx.run("info", "--is", "fixed", "a.vhd").returncode == 0
    kinds = {extent["data"] for extent in vhdx.json("map", "--json", "a.vhd")}
    assert kinds == {True, False} and allocated(tmp_path / "a.vhd") < 8 * MIB


def test_a_dynamic_vhd_is_read_by_its_bits(vhdx, tmp_path):
    bits = bytearray(512)
    bits[0] = 0b10100000  # sectors 0 and 2; sector 1 has bytes but no bit
    sectors = b"A" * 512 + b"B" * 512 + b"C" * 512
    (tmp_path / "a.vhd").write_bytes(dynamic({1: (bytes(bits), sectors)}, 5 * MIB))
    expected = bytearray(5 * MIB)
    expected[2 * MIB:2 * MIB + 1536] = b"A" * 512 + bytes(512) + b"C" * 512
    vhdx("convert", "a.vhd", "a.raw")
    assert (tmp_path / "a.raw").read_bytes() == expected
    vhdx("convert", "a.vhd", "a.vhdx")
    vhdx("compare", "--strict", "a.vhdx", "a.raw")
    extents = vhdx.json("map", "--json", "a.vhd")
    assert [(e["start"], e["length"]) for e in extents if e["data"]] == [(2 * MIB, 512), (2 * MIB + 1024, 512)]
    info = vhdx.json("info", "--json", "a.vhd")
    assert (info["type"], info["cluster-size"], info["block-count"]) == ("dynamic", 2 * MIB, 3)


def test_a_dynamic_vhd_is_not_written(vhdx, tmp_path):
    (tmp_path / "a.vhd").write_bytes(before := dynamic({}, 5 * MIB))
    assert "convert it" in vhdx.fails(1, "bench", "-w", "-c", "1", "a.vhd")
    assert (tmp_path / "a.vhd").read_bytes() == before


def test_a_fixed_vhd_is_written_but_for_its_footer(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhd")
    footer = (tmp_path / "a.vhd").read_bytes()[-512:]
    vhdx("bench", "-w", "-q", "-c", "400", "-s", "64K", "--pattern", "7", "a.vhd")
    data = (tmp_path / "a.vhd").read_bytes()
    assert data[-512:] == footer and data[:24 * MIB] == b"\x07" * (24 * MIB)


def test_what_is_refused(vhdx, raw_disk, tmp_path):
    (tmp_path / "child.vhd").write_bytes(dynamic({}, 5 * MIB, kind=4))
    message = vhdx.fails(1, "convert", "child.vhd", "a.vhdx")
    assert "differencing VHD" in message and "Convert-VHD" in message
    vhdx("create", "--logical-sector", "4096", "4k.vhdx", "8M")
    assert "sectors of 4096 bytes" in vhdx.fails(1, "convert", "4k.vhdx", "a.vhd")
    vhdx("convert", "--logical-sector", "512", "4k.vhdx", "a.vhd")
    vhdx("create", "large.vhdx", "2041G")
    assert "2040 GiB" in vhdx.fails(1, "convert", "large.vhdx", "b.vhd")
    for options in (["--type=dynamic"], ["--block-size=1M"], ["--log-size=2M"], ["--logical-sector=4096"]):
        vhdx.fails(2, "convert", *options, raw_disk, "b.vhd")
    assert "--for takes azure" in vhdx.fails(2, "convert", "--for", "aws", raw_disk, "b.vhd")
    assert "fixed VHDs" in vhdx.fails(2, "convert", "--for", "azure", "-O", "vhdx", raw_disk, "b.vhd")
    vhdx.fails(2, "convert", "--in-place", "--type=fixed", "-f", "vhd", "a.vhd")
    vhdx.fails(1, "check", "a.vhd")
    assert "no \"conectix\"" in vhdx.fails(1, "info", "-f", "vhd", raw_disk)
    assert not (tmp_path / "b.vhd").exists() and not list(tmp_path.glob(".*"))


def test_damage_ends_where_it_lies(vhdx, tmp_path):
    image = bytearray(dynamic({0: (b"\xff" * 512, b"x" * MIB), 1: (b"\xff" * 512, b"y" * MIB)}, 4 * MIB))
    struct.pack_into(">I", image, 1536, 0xfffffffe)
    (tmp_path / "a.vhd").write_bytes(image)
    message = vhdx.fails(1, "convert", "a.vhd", "a.raw")
    assert "block 0" in message and "cannot be read" in message
    image[600] ^= 1
    (tmp_path / "a.vhd").write_bytes(image)
    assert "VHD header: checksum" in vhdx.fails(1, "info", "a.vhd")
