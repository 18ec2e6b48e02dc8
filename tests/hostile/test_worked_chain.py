"""The chain that docs/vhdx-format.md works out in appendix A.7, byte for byte."""
import json

import builder
from builder import FULLY_PRESENT, MIB, PARTIALLY_PRESENT, ZERO, bat_entry

SECTOR = 512
BLOCK = 2 * MIB
SIZE = 10 * MIB


def letters(letter, length=BLOCK):
    return letter * length


def write_parent(path):
    image = builder.Image(block_size=BLOCK, disk_size=SIZE)
    image.bat = {0: bat_entry(FULLY_PRESENT, 4 * MIB), 1: bat_entry(FULLY_PRESENT, 6 * MIB), 2: bat_entry(ZERO),
                 4: bat_entry(FULLY_PRESENT, 8 * MIB)}
    image.blocks = {4 * MIB: letters(b"0"), 6 * MIB: letters(b"1"), 8 * MIB: letters(b"4")}
    image.disk, image.length = {}, 10 * MIB
    image.write(path)
    assert image.bat == {0: 0x400006, 1: 0x600006, 2: 2, 4: 0x800006}


def write_child(path):
    """Its block 0 is full of junk where the bitmap says that the parent has it."""
    image = builder.Image(block_size=BLOCK, disk_size=SIZE)
    image.make_child([("parent_linkage", builder.PARENT_LINKAGE), ("relative_path", ".\\p.vhdx")])
    image.bat = {0: bat_entry(PARTIALLY_PRESENT, 5 * MIB), 2: bat_entry(FULLY_PRESENT, 7 * MIB), 4: bat_entry(ZERO),
                 2048: bat_entry(FULLY_PRESENT, 4 * MIB)}
    partial = bytearray(letters(b"x"))
    partial[SECTOR:2 * SECTOR] = letters(b"a", SECTOR)
    partial[8 * SECTOR:16 * SECTOR] = letters(b"b", 8 * SECTOR)
    image.blocks = {4 * MIB: b"\x02\xff", 5 * MIB: bytes(partial), 7 * MIB: letters(b"c")}
    image.disk, image.length = {}, 9 * MIB
    image.write(path)
    assert image.bat == {0: 0x500007, 2: 0x700006, 4: 2, 2048: 0x400006}


def expected():
    disk = bytearray(letters(b"0") + letters(b"1") + letters(b"c") + bytes(2 * BLOCK))
    disk[SECTOR:2 * SECTOR] = letters(b"a", SECTOR)
    disk[8 * SECTOR:16 * SECTOR] = letters(b"b", 8 * SECTOR)
    return bytes(disk)


def test_worked_chain(meter, tmp_path):
    write_parent(tmp_path / "p.vhdx")
    write_child(tmp_path / "child.avhdx")
    assert meter("convert", "-O", "raw", "child.avhdx", "child.raw").status == 0
    assert (tmp_path / "child.raw").read_bytes() == expected()
    assert meter("check", "--chain", "child.avhdx").status == 0

    extents = json.loads(meter("map", "--json", "child.avhdx").output)
    rows = [(e["start"], e["length"], e["depth"], e["zero"], e.get("offset")) for e in extents]
    assert rows == [
        (0, SECTOR, 1, False, 4 * MIB),
        (SECTOR, SECTOR, 0, False, 5 * MIB + SECTOR),
        (2 * SECTOR, 6 * SECTOR, 1, False, 4 * MIB + 2 * SECTOR),
        (8 * SECTOR, 8 * SECTOR, 0, False, 5 * MIB + 8 * SECTOR),
        (16 * SECTOR, 2 * BLOCK - 16 * SECTOR, 1, False, 4 * MIB + 16 * SECTOR),
        (2 * BLOCK, BLOCK, 0, False, 7 * MIB),
        (3 * BLOCK, BLOCK, 1, True, None),
        (4 * BLOCK, BLOCK, 0, True, None),
    ], rows
