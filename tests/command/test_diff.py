"""vhdx diff: changed ranges of disks and of chains; and --to, a child that reads as another disk."""
import json
import os
import shutil

import pytest

from conftest import MIB


def write(vhdx, path, offset, length, pattern):
    vhdx("bench", "-w", "-c", "1", "-s", str(length), "-o", str(offset), "--pattern", str(pattern), path)


@pytest.fixture
def chain(vhdx):
    """Two points in time of one disk: monday.avhdx, and tuesday.avhdx above it."""
    vhdx("create", "base.vhdx", "16M")
    write(vhdx, "base.vhdx", 0, 8 * MIB, 1)
    vhdx("create", "-q", "--parent", "base.vhdx", "monday.avhdx")
    write(vhdx, "monday.avhdx", 1 * MIB, 4096, 2)
    vhdx("create", "-q", "--parent", "monday.avhdx", "tuesday.avhdx")
    write(vhdx, "tuesday.avhdx", 5 * MIB, 1024, 3)
    write(vhdx, "tuesday.avhdx", 10 * MIB, 2 * MIB, 4)


@pytest.fixture
def changed(vhdx, tmp_path, raw_disk):
    """A raw disk, and the same after a day: something new, something zeroed, and the disk has grown."""
    path = tmp_path / "later.raw"
    shutil.copy(raw_disk, path)
    with open(path, "r+b") as file:
        file.seek(5 * MIB + 4096)
        file.write(b"new" * 1000)
        file.seek(8 * MIB)
        file.write(bytes(MIB))
        file.truncate(26 * MIB + 1000)
        file.seek(26 * MIB)
        file.write(b"end")
    return path


def ranges(vhdx, *arguments, status=1):
    done = vhdx.run("diff", "--json", *arguments)
    assert done.returncode == status, done.stderr
    return [(r["start"], r["length"], r["zero"]) for r in json.loads(done.stdout)]


def test_points_of_a_chain(vhdx, chain):
    assert ranges(vhdx, "monday.avhdx", "tuesday.avhdx") == [(5 * MIB, 1024, False), (10 * MIB, 2 * MIB, False)]
    assert ranges(vhdx, "tuesday.avhdx", "monday.avhdx") == [(5 * MIB, 1024, False), (10 * MIB, 2 * MIB, True)]
    assert ranges(vhdx, "base.vhdx", "monday.avhdx") == [(1 * MIB, 4096, False)]
    assert ranges(vhdx, "monday.avhdx", "monday.avhdx", status=0) == []


def test_what_people_see(vhdx, chain):
    done = vhdx.run("diff", "monday.avhdx", "tuesday.avhdx")
    assert done.returncode == 1 and done.stderr == b""
    assert done.stdout.decode().splitlines() == [
        "Offset            Length            In B",
        "0x500000          0x400             data",
        "0xa00000          0x200000          data",
        "2 ranges, 2 MiB (2098176 bytes)",
    ]
    assert vhdx("diff", "base.vhdx", "base.vhdx") == b"The disks are the same.\n"
    assert vhdx.run("diff", "-q", "monday.avhdx", "tuesday.avhdx").stdout == b""


def test_disks_that_share_nothing_are_compared_by_contents(vhdx, raw_disk, changed):
    vhdx("convert", raw_disk, "a.vhdx")
    expected = [(5 * MIB + 4096, 4096, False), (8 * MIB, MIB, True), (26 * MIB, 1000, False)]
    # A VHDX from a raw disk ends with a whole sector, which reads as zeros
    assert ranges(vhdx, "a.vhdx", changed) == expected
    assert ranges(vhdx, "-f", "raw", "-F", "raw", raw_disk, changed) == expected
    assert ranges(vhdx, raw_disk, "a.vhdx", status=0) == []


def test_an_incremental_backup(vhdx, tmp_path, raw_disk, changed):
    vhdx("convert", raw_disk, "full.vhdx")
    said = vhdx("diff", "--to", "day1.vhdx", "full.vhdx", changed).decode()
    assert said.startswith("Created day1.vhdx: 3 ranges, ") and said.endswith("a child of full.vhdx\n")
    assert vhdx.run("compare", "-F", "raw", "day1.vhdx", changed).returncode == 0
    vhdx("check", "day1.vhdx")
    assert vhdx.json("info", "--json", "day1.vhdx")["type"] == "differencing"
    assert os.stat(tmp_path / "day1.vhdx").st_blocks * 512 < 6 * MIB
    assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name) == []


def test_a_backup_of_a_chain_onto_a_chain(vhdx, chain, tmp_path):
    """A is a child itself; and its folder is not the one of the backup."""
    (tmp_path / "backup").mkdir()
    document = vhdx.json("diff", "--json", "--to", "backup/tue.vhdx", "monday.avhdx", "tuesday.avhdx")
    assert document["filename"] == "backup/tue.vhdx" and document["backing-filename"] == "monday.avhdx"
    assert document["ranges"] == 2 and document["bytes"] == 2 * MIB + 1024
    assert vhdx.run("compare", "backup/tue.vhdx", "tuesday.avhdx").returncode == 0
    assert vhdx.run("diff", "backup/tue.vhdx", "tuesday.avhdx").returncode == 1  # by tables: written, though equal
    vhdx("diff", "-q", "--to", "back.vhdx", "tuesday.avhdx", "monday.avhdx")  # and back in time: zeros
    assert vhdx.run("compare", "back.vhdx", "monday.avhdx").returncode == 0


def test_nothing_differs(vhdx, chain):
    assert vhdx("diff", "--to", "same.vhdx", "base.vhdx", "base.vhdx").startswith(b"Created same.vhdx: 0 ranges")
    assert vhdx.run("compare", "same.vhdx", "base.vhdx").returncode == 0


def test_what_is_there_is_not_written_over(vhdx, chain, tmp_path):
    vhdx("create", "x.vhdx", "16M")
    before = (tmp_path / "x.vhdx").read_bytes()
    assert "exists already" in vhdx.fails(2, "diff", "--to", "x.vhdx", "monday.avhdx", "tuesday.avhdx")
    assert (tmp_path / "x.vhdx").read_bytes() == before
    vhdx("diff", "--force", "--to", "x.vhdx", "monday.avhdx", "tuesday.avhdx")
    assert vhdx.run("compare", "x.vhdx", "tuesday.avhdx").returncode == 0
    for name in ("monday.avhdx", "tuesday.avhdx", "base.vhdx"):
        before = (tmp_path / name).read_bytes()
        said = vhdx.fails(2, "diff", "--force", "--to", name, "monday.avhdx", "tuesday.avhdx")
        assert "the target must be another file" in said and (tmp_path / name).read_bytes() == before


def test_failure_leaves_nothing(vhdx, chain, tmp_path):
    """B has a block that cannot be read: its BAT entry points past the end of the file."""
    names = sorted(p.name for p in tmp_path.iterdir())
    info = vhdx.json("info", "--json", "tuesday.avhdx")
    with open(tmp_path / "tuesday.avhdx", "r+b") as file:
        file.seek(info["bat"]["offset"] + 8 * 5)
        file.write((0x7f00000 | 6).to_bytes(8, "little"))
    said = vhdx.fails(2, "diff", "--to", "new.vhdx", "monday.avhdx", "tuesday.avhdx")
    assert "BAT" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == names


def test_refusals(vhdx, chain, raw_disk):
    assert "only a VHDX can have children" in vhdx.fails(2, "diff", "--to", "n.vhdx", raw_disk, "base.vhdx")
    vhdx("create", "small.vhdx", "4M")
    assert "cannot be smaller" in vhdx.fails(2, "diff", "--to", "n.vhdx", "base.vhdx", "small.vhdx")
    for option in ("-U", "--ignore-log"):
        assert "as it is" in vhdx.fails(2, "diff", option, "--to", "n.vhdx", "base.vhdx", "monday.avhdx")
    assert "--to" in vhdx.fails(2, "diff", "--force", "base.vhdx", "monday.avhdx")
    vhdx.fails(2, "diff", "base.vhdx")


def test_errors_are_not_differences(vhdx, chain, raw_disk):
    assert vhdx.fails(2, "diff", "none.vhdx", "base.vhdx").startswith("vhdx: none.vhdx: ")
    assert vhdx.fails(2, "diff", "base.vhdx", "none.vhdx").startswith("vhdx: none.vhdx: ")
    done = vhdx.run("diff", "--json", "base.vhdx", "none.vhdx")
    assert done.returncode == 2 and json.loads(done.stdout)["filename"] == "none.vhdx"
    assert "signature" in vhdx.fails(2, "diff", "-f", "vhdx", raw_disk, "base.vhdx")
    vhdx.fails(2, "diff", "--parents=none", "monday.avhdx", "tuesday.avhdx")
