"""vhdx measure: every number is held against what the real verbs then leave."""
import json
import os
import shutil

import pytest

from chains import files, leave_dirty, make_chain, write
from conftest import MIB
from file_systems import filled, guest, run  # noqa: F401 (fixtures)


def measure(vhdx, *arguments):
    return vhdx.json("measure", "--json", *arguments)


def assert_as_converted(vhdx, row, source, *options, copy_options=()):
    """Convert to each type with the same options and compare lengths."""
    directory = vhdx.directory
    for name, more in (("dynamic", ["--type=dynamic"]), ("fixed", ["--type=fixed", "--preallocate=off"]), ("raw", [])):
        target = "out.raw" if name == "raw" else "out.vhdx"
        shaping = [] if name == "raw" else list(options)
        vhdx("convert", "-q", *copy_options, *shaping, *more, source, target)
        assert os.path.getsize(directory / target) == row["convert"][name], name
        os.remove(directory / target)


def assert_as_compacted(vhdx, row, image):
    for way in row["compact"]:
        shutil.copy(vhdx.directory / image, vhdx.directory / "copy.vhdx")
        verb, *options = way["command"].split()
        if "error" in way:
            vhdx.fails(1, verb, *options, "copy.vhdx")
        else:
            vhdx(verb, "-q", *options, "copy.vhdx")
            assert os.path.getsize(vhdx.directory / "copy.vhdx") == way["file-size"], way
        os.remove(vhdx.directory / "copy.vhdx")


@pytest.mark.parametrize("options", [[], ["--block-size=1M", "--logical-sector=4096"], ["--block-size=16M", "--log-size=2M"],
                                     ["-o", "block_size=4M"]])
def test_raw(vhdx, raw_disk, options):
    row = measure(vhdx, *options, "disk.raw")
    assert (row["format"], row["virtual-size"], row["file-size"]) == ("raw", 24 * MIB + 1536, 24 * MIB + 1536)
    assert "compact" not in row
    assert_as_converted(vhdx, row, "disk.raw", *options)


def test_zeros_as_data(vhdx, raw_disk):
    row, less = measure(vhdx, "--no-zero-detect", "-f", "raw", "disk.raw"), measure(vhdx, "disk.raw")
    assert_as_converted(vhdx, row, "disk.raw", copy_options=["--no-zero-detect", "-f", "raw"])
    assert row["data-size"] >= less["data-size"] + MIB and row["convert"]["dynamic"] > less["convert"]["dynamic"]


def test_an_image(vhdx, tmp_path):
    """Blocks of data and of zeros, some given up, so that all three ways of compacting differ from the file."""
    vhdx("create", "-q", "--logical-sector", "4096", "--block-size", "1M", "a.vhdx", "40M")
    write(vhdx, "a.vhdx", "a", 0, 8 * MIB)
    write(vhdx, "a.vhdx", "\0", 10 * MIB, 2 * MIB)
    write(vhdx, "a.vhdx", "b", 39 * MIB, MIB)
    before = files(tmp_path)
    row = measure(vhdx, "a.vhdx")
    assert files(tmp_path) == before
    assert row["format"] == "vhdx" and row["file-size"] == len(before["a.vhdx"])
    assert [way["command"] for way in row["compact"]] == ["compact --no-fs", "compact", "compact --zeroes"]
    assert row["compact"][2]["file-size"] < row["compact"][0]["file-size"]
    assert_as_converted(vhdx, row, "a.vhdx")
    assert_as_compacted(vhdx, row, "a.vhdx")


def test_a_chain(vhdx):
    make_chain(vhdx)
    row = measure(vhdx, "top.avhdx")
    assert_as_converted(vhdx, row, "top.avhdx")
    vhdx("measure", "middle.avhdx")
    row = measure(vhdx, "base.vhdx")
    assert row["compact"][1]["error"]["code"] == "HAS_CHILDREN" and "file-size" in row["compact"][0]
    assert row["compact"][2]["command"] == "compact --no-fs --zeroes"


def test_a_parent_that_is_gone(vhdx, tmp_path):
    make_chain(vhdx)
    os.remove(tmp_path / "base.vhdx")
    assert "parent" in vhdx.fails(1, "measure", "top.avhdx")


def test_a_file_system(vhdx, guest):  # noqa: F811
    guest("ext4-4k", "GPT").image("disk.vhdx")
    row = measure(vhdx, "disk.vhdx")
    assert row["compact"][1]["file-size"] < row["compact"][0]["file-size"]
    assert_as_compacted(vhdx, row, "disk.vhdx")
    assert_as_converted(vhdx, row, "disk.vhdx")


def test_a_refused_file_system(vhdx, guest):  # noqa: F811
    inside = guest("ext4-4k")
    inside.maker.debugfs("feature needs_recovery")
    inside.image("disk.vhdx")
    row = measure(vhdx, "disk.vhdx")
    assert row["compact"][1]["error"]["code"] == "BAD_VOLUME"
    assert row["compact"][2]["command"] == "compact --no-fs --zeroes"
    assert_as_compacted(vhdx, row, "disk.vhdx")
    assert "compact                      refused: " in vhdx("measure", "disk.vhdx").decode()


def test_a_dirty_image(vhdx, tmp_path):
    leave_dirty(vhdx, "a.vhdx")
    before = files(tmp_path)
    row = measure(vhdx, "a.vhdx")
    assert files(tmp_path) == before
    assert_as_converted(vhdx, row, "a.vhdx")
    assert_as_compacted(vhdx, row, "a.vhdx")


def test_for_people(vhdx, raw_disk):
    vhdx("create", "-q", "a.vhdx", "1G")
    lines = vhdx("measure", "a.vhdx", "disk.raw").decode().splitlines()
    assert lines[0] == "a.vhdx: 4 MiB (4194304 bytes), a disk of 1 GiB with 0 B of data"
    assert [line.split("  ")[1] for line in lines[1:8]] == [
        "convert --type=dynamic", "convert --type=fixed", "convert -O raw", "convert -O vhd", "compact --no-fs", "compact",
        "compact --zeroes"]
    assert lines[1].endswith("4 MiB (4194304 bytes)") and lines[3].endswith("1 GiB (1073741824 bytes)")
    assert lines[8].startswith("disk.raw: ") and len(lines) == 13


def test_several_files_a_row_each_and_the_worst_status(vhdx, raw_disk):
    vhdx("create", "-q", "a.vhdx", "1G")
    for jobs in ("1", "3"):
        done = vhdx.run("measure", "--json", "--jobs", jobs, "a.vhdx", "none.vhdx", "disk.raw")
        rows = json.loads(done.stdout)
        assert done.returncode == 1 and b"none.vhdx" in done.stderr
        assert [row["filename"] for row in rows] == ["a.vhdx", "none.vhdx", "disk.raw"]
        assert rows[1]["error"]["code"] == "NOT_FOUND"


def test_not_an_image(vhdx, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"text" * 1000)
    assert "vhdx: a.raw: " in vhdx.fails(1, "measure", "-f", "vhdx", "a.raw")
    assert vhdx.json("measure", "--json", "a.raw")["convert"]["raw"] == 4000


@pytest.mark.parametrize("arguments", [[], ["--some"], ["--type=fixed", "a.vhdx"], ["--preallocate=full", "a.vhdx"], ["-"]])
def test_usage(vhdx, arguments):
    assert "measure: " in vhdx.fails(2, "measure", *arguments)
