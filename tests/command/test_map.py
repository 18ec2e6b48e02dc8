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


def test_depth_over_a_chain(vhdx, tmp_path):
    """Each range at the layer that decides it, and its bytes there; alone, the child leaves the rest to its parent."""
    vhdx("create", "base.vhdx", "16M")
    vhdx("bench", "-w", "-c", "1", "-s", str(8 * MIB), "--pattern", "1", "base.vhdx")
    for child, parent, offset, pattern in (("a.avhdx", "base.vhdx", 2 * MIB, 2), ("b.avhdx", "a.avhdx", 5 * MIB, 3)):
        vhdx("create", "-q", "--parent", parent, child)
        vhdx("bench", "-w", "-c", "1", "-s", "4096", "-o", str(offset), "--pattern", str(pattern), child)
    extents = vhdx.json("map", "--json", "b.avhdx")
    names = ["b.avhdx", "a.avhdx", "base.vhdx"]
    found = [(e["start"], e["length"], e["depth"]) for e in extents if e["data"]]
    assert (2 * MIB, 4096, 1) in found and (5 * MIB, 4096, 0) in found and found[0] == (0, 2 * MIB, 2)
    assert sum(length for _, length, _ in found) == 8 * MIB
    assert sum(e["length"] for e in extents) == 16 * MIB
    for extent in extents:
        if extent["data"]:
            with open(tmp_path / names[extent["depth"]], "rb") as file:
                file.seek(extent["offset"])
                assert set(file.read(extent["length"])) == {3 - extent["depth"]}
    assert b"a.avhdx" in vhdx("map", "b.avhdx")
    alone = vhdx("map", "--parents=none", "b.avhdx")
    assert b" parent " in alone and b"a.avhdx" not in alone
