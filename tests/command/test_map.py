"""vhdx map."""
import json
import os

from conftest import MIB


def test_an_empty_disk_is_one_extent(vhdx):
    vhdx("create", "a.vhdx", "64T")
    assert vhdx.json("map", "--json", "a.vhdx") \
        == [{"start": 0, "length": 64 << 40, "depth": 0, "present": False, "zero": True, "data": False}]


def test_extents_cover_the_disk_and_point_at_the_bytes(vhdx, tmp_path, raw_disk):
    vhdx("convert", "-O", "vhdx", "--block-size", "1M", raw_disk, "a.vhdx")
    raw, image = raw_disk.read_bytes(), (tmp_path / "a.vhdx").read_bytes()
    extents = vhdx.json("map", "--output=json", "a.vhdx")
    position = 0
    for extent in extents:
        start, length = extent["start"], extent["length"]
        assert start == position and length > 0 and extent["depth"] == 0
        position += length
        piece = raw[start:start + length]
        if extent["data"]:
            assert extent["present"] and image[extent["offset"]:extent["offset"] + length] == piece
        else:
            assert extent["zero"] and not any(piece)
    assert position == len(raw)
    assert sum(e["length"] for e in extents if e["data"]) <= 6 * MIB


def test_human_table_is_in_hex(vhdx, raw_disk):
    vhdx("convert", "--block-size", "1M", raw_disk, "a.vhdx")
    lines = vhdx("map", "a.vhdx").decode().splitlines()
    assert lines[0].split() == ["Offset", "Length", "Kind", "Mapped", "to", "File"]
    first = lines[1].split()
    assert first[:3] == ["0x0", "0x100000", "data"] and first[4] == "a.vhdx"
    assert lines[2].split()[:1] == ["0x100000"] and lines[2].split()[2] in ("unallocated", "zero")


def test_raw_shows_the_holes_of_the_host(vhdx, raw_disk):
    extents = vhdx.json("map", "--json", "-f", "raw", raw_disk)
    assert sum(e["length"] for e in extents) == os.path.getsize(raw_disk)
    assert any(e["data"] for e in extents) and any(e["zero"] for e in extents)


def test_failure_is_a_document(vhdx):
    done = vhdx.run("map", "--json", "none.vhdx")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "NOT_FOUND"


def test_many_extents_are_joined_and_one_a_line(vhdx, tmp_path):
    """More extents than fit one call of the library."""
    with open(tmp_path / "x.raw", "wb") as file:
        file.truncate(2048 * MIB)
        for block in range(0, 2048, 2):
            file.seek(block * MIB)
            file.write(b"x")
    vhdx("convert", "--block-size", "1M", "x.raw", "a.vhdx")
    output = vhdx("map", "--json", "a.vhdx")
    extents = json.loads(output)
    assert len(extents) == 2048 and sum(e["length"] for e in extents) == 2048 * MIB
    assert output.count(b"\n") == 2048 + 2
