"""vhdx salvage: damaged images, as a user finds them.  What comes back of which damage is src/ops/salvage_test.c's."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys

import pytest

from chains import Halted, assert_sound, contents, files, leave_dirty, write
from conftest import MIB

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "fs"))
from tables import wrap  # noqa: E402

KIB = 1024
HEADERS, REGIONS = (64 * KIB, 128 * KIB), (192 * KIB, 128 * KIB)


def place(vhdx, image, name):
    found = vhdx.json("info", "--json", image)[name]
    return found["offset"], found["length"]


def wipe(path, *ranges):
    with open(path, "r+b") as file:
        for offset, length in ranges:
            file.seek(offset)
            file.write(bytes(length))


@pytest.fixture
def image(vhdx, raw_disk):
    vhdx("convert", "-q", "-f", "raw", "--block-size", "1M", raw_disk, "good.vhdx")
    shutil.copyfile(raw_disk.parent / "good.vhdx", raw_disk.parent / "bad.vhdx")
    return raw_disk.parent / "bad.vhdx"


def salvage(vhdx, status, *arguments):
    """The document, of a run that ends with this status."""
    done = vhdx.run("salvage", "--json", *arguments)
    assert done.returncode == status, (arguments, done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_a_sound_image_comes_back_whole(vhdx, image, raw_disk):
    document = salvage(vhdx, 0, "bad.vhdx", "new.vhdx")
    assert document["recovered"]["bytes"] == document["virtual-size"] == raw_disk.stat().st_size
    assert contents(vhdx, "new.vhdx") == raw_disk.read_bytes()
    good, new = (vhdx.json("info", "--json", name) for name in ("good.vhdx", "new.vhdx"))
    for key in ("virtual-size", "disk-id", "cluster-size", "logical-sector-size"):
        assert good[key] == new[key]
    assert_sound(vhdx, "new.vhdx")
    salvage(vhdx, 0, "bad.vhdx", "new.vhd")
    assert contents(vhdx, "new.vhd") == raw_disk.read_bytes()


def test_guesses_are_said(vhdx, image, raw_disk):
    wipe(image, (0, MIB))
    before = image.read_bytes()
    text = vhdx.run("salvage", "--report", "ranges", "bad.vhdx", "new.raw")
    assert text.returncode == 3, text.stderr
    assert b"guessed" in text.stdout and b"found by its shape" in text.stdout
    assert (raw_disk.parent / "new.raw").read_bytes() == raw_disk.read_bytes()
    assert image.read_bytes() == before
    rows = [line.split("\t") for line in (raw_disk.parent / "ranges").read_text().splitlines()[1:]]
    assert sum(int(row[1]) for row in rows) == raw_disk.stat().st_size
    assert {row[2] for row in rows} == {"guessed"} and {row[3] for row in rows} == {"table-found"}

    assert vhdx.run("salvage", "--guess=none", "bad.vhdx", "none.raw").returncode == 1
    assert not (raw_disk.parent / "none.raw").exists()


def test_what_is_cut_off_is_lost(vhdx, image, raw_disk):
    os.truncate(image, image.stat().st_size - 2 * MIB)
    document = salvage(vhdx, 4, "bad.vhdx", "new.vhdx")
    assert document["lost"]["by-reason"] == {"past-end": document["lost"]["bytes"]}
    expected = bytearray(raw_disk.read_bytes())
    for row in document["ranges"]:
        if row["kind"] == "lost":
            expected[row["start"]:row["start"] + row["length"]] = bytes(row["length"])
    assert contents(vhdx, "new.vhdx") == expected
    assert_sound(vhdx, "new.vhdx")


def test_dry_run_writes_nothing(vhdx, image, tmp_path):
    wipe(image, place(vhdx, "good.vhdx", "metadata"))
    before = files(tmp_path)
    assert salvage(vhdx, 3, "--dry-run", "bad.vhdx")["cluster-size"] == MIB
    assert files(tmp_path) == before


def test_nothing_to_salvage(vhdx, tmp_path):
    (tmp_path / "junk").write_bytes(random.Random(3).randbytes(3 * MIB))
    before = files(tmp_path)
    assert "--source-size" in vhdx.fails(1, "salvage", "junk", "new.vhdx")
    assert salvage(vhdx, 1, "junk", "new.vhdx")["error"]["code"] == "NOT_VHDX"
    assert "none: cannot open: No such file" in vhdx.fails(1, "salvage", "none", "new.vhdx")
    assert "neither" in vhdx.fails(1, "salvage", ".", "new.vhdx")
    assert files(tmp_path) == before


def test_whoever_knows_better_may_say_so(vhdx, image, raw_disk):
    """Without metadata the disk ends with its last block, as far as anything tells."""
    wipe(image, place(vhdx, "good.vhdx", "metadata"))
    assert salvage(vhdx, 3, "-n", "bad.vhdx")["virtual-size"] == 25 * MIB
    size = raw_disk.stat().st_size
    said = salvage(vhdx, 3, "--source-size", str(size), "--source-block-size", "1M", "--source-sector", "512", "bad.vhdx",
                   "new.raw")
    assert said["virtual-size"] == size and set(said["guessed"]["by-reason"]) == {"sizes-given"}
    assert (raw_disk.parent / "new.raw").read_bytes() == raw_disk.read_bytes()
    assert "cannot be in a VHDX" in vhdx.fails(1, "salvage", "--source-size", "100T", "bad.vhdx", "none.raw")


@pytest.mark.parametrize("with_force", [False, True])
def test_existing_files(vhdx, image, tmp_path, with_force):
    for name in ("new.vhdx", "ranges"):
        (tmp_path / name).write_text("mine")
    if with_force:
        vhdx("salvage", "--force", "--report", "ranges", "bad.vhdx", "new.vhdx")
        assert_sound(vhdx, "new.vhdx")
        assert (tmp_path / "ranges").read_text().startswith("# vhdx salvage")
    else:
        assert "--force" in vhdx.fails(1, "salvage", "bad.vhdx", "new.vhdx")
        assert "ranges" in vhdx.fails(1, "salvage", "-n", "--report", "ranges", "bad.vhdx")
        assert (tmp_path / "new.vhdx").read_text() == (tmp_path / "ranges").read_text() == "mine"
    assert "bad.vhdx" in vhdx.fails(1, "salvage", "--force", "bad.vhdx", "bad.vhdx")


def test_a_child(vhdx, tmp_path):
    vhdx("create", "-q", "base.vhdx", "8M")
    write(vhdx, "base.vhdx", "b", 0, 8 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx")
    write(vhdx, "child.avhdx", "c", 2 * MIB + 64 * KIB, 128 * KIB)
    wipe(tmp_path / "child.avhdx", HEADERS)
    expected = b"b" * (2 * MIB + 64 * KIB) + b"c" * (128 * KIB) + b"b" * (6 * MIB - 192 * KIB)
    assert salvage(vhdx, 0, "child.avhdx", "new.vhdx")["type"] == "differencing"
    assert contents(vhdx, "new.vhdx") == expected

    os.rename(tmp_path / "base.vhdx", tmp_path / "elsewhere.vhdx")
    alone = salvage(vhdx, 4, "child.avhdx", "alone.vhdx")
    assert alone["lost"]["by-reason"] == {"in-parent": 8 * MIB - 128 * KIB}
    assert alone["recovered"]["bytes"] == 128 * KIB
    assert contents(vhdx, "alone.vhdx") == expected.replace(b"b", b"\0")

    salvage(vhdx, 0, "--parent", "elsewhere.vhdx", "child.avhdx", "named.vhdx")
    assert contents(vhdx, "named.vhdx") == expected
    write(vhdx, "elsewhere.vhdx", "x", 0, 4096)
    changed = salvage(vhdx, 3, "--parent", "elsewhere.vhdx", "child.avhdx", "changed.vhdx")
    assert changed["guessed"]["by-reason"] == {"parent-unproven": 8 * MIB - 128 * KIB}


def test_a_dirty_log_counts(vhdx, tmp_path):
    leave_dirty(vhdx, "dirty.vhdx")
    expected = contents(vhdx, "dirty.vhdx")
    wipe(tmp_path / "dirty.vhdx", REGIONS)
    salvage(vhdx, 3, "dirty.vhdx", "new.vhdx")
    assert contents(vhdx, "new.vhdx") == expected


def test_earlier_states(vhdx, tmp_path):
    vhdx("create", "-q", "--block-size", "1M", "a.vhdx", "16M")
    vhdx("bench", "-q", "-w", "-s", "1M", "-c", "12", "-d", "1", "--flush-interval", "1", "a.vhdx")
    write(vhdx, "a.vhdx", "2", 14 * MIB, MIB)  # a session that writes over the first entries only
    found = salvage(vhdx, 0, "--old-generation", "a.vhdx")["generations"]
    assert found and all(state["pages"] > 0 for state in found)
    assert b"written over" in vhdx("salvage", "--old-generation", "a.vhdx")
    old = salvage(vhdx, 3, f"--old-generation={found[0]['number']}", "a.vhdx", "old.raw")
    assert set(old["guessed"]["by-reason"]) == {"old-generation"} and old["recovered"]["bytes"] == 0
    assert (tmp_path / "old.raw").read_bytes() != contents(vhdx, "a.vhdx")
    zero = [row["start"] // MIB for row in old["ranges"] if row["zero"]]
    assert zero and max(zero) >= 12  # what the last session wrote was not there yet
    assert "no earlier state 200" in vhdx.fails(1, "salvage", "--old-generation=200", "a.vhdx", "x.raw")


@pytest.mark.skipif(shutil.which("mkfs.ext4", path="/usr/sbin:/sbin:/usr/bin") is None, reason="no mkfs.ext4")
def test_a_file_system_of_which_only_payload_is_left(vhdx, tmp_path):
    """A fixed disk with a GPT and ext4: its partition tables at both ends put it together again."""
    volume, disk = tmp_path / "volume", tmp_path / "disk.raw"
    with open(volume, "wb") as file:
        file.truncate(9 * MIB)
    subprocess.run(["/sbin/mkfs.ext4", "-q", volume], check=True)
    wrap(volume, disk, "GPT")
    vhdx("convert", "-q", "-f", "raw", "--type", "fixed", "disk.raw", "fixed.vhdx")
    wipe(tmp_path / "fixed.vhdx", (0, 2 * MIB), place(vhdx, "fixed.vhdx", "bat"), place(vhdx, "fixed.vhdx", "metadata"))
    document = salvage(vhdx, 3, "fixed.vhdx", "new.raw")
    assert document["virtual-size"] == disk.stat().st_size and not document["cluster-size-known"]
    assert (tmp_path / "new.raw").read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(vhdx, tmp_path, number):
    vhdx("create", "-q", "a.vhdx", "32M")
    write(vhdx, "a.vhdx", "a", 0, 32 * MIB)
    Halted(vhdx, "salvage", "a.vhdx", "new.vhdx").end_by(number)
    assert os.listdir(tmp_path) == ["a.vhdx"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a.vhdx"], "something is missing"),
        (["a.vhdx", "b.vhdx", "c"], "one argument too many"),
        (["a.vhdx", "b.disk"], "or raw is needed"),
        (["a.vhdx", "-"], "name files"),
        (["-", "b.vhdx"], "name files"),
        (["--guess=wild", "a.vhdx", "b.vhdx"], "none, strong or all"),
        (["--type", "differencing", "a.vhdx", "b.vhdx"], "stands alone"),
        (["--source-sector", "1024", "a.vhdx", "b.vhdx"], "512 or 4096"),
        (["--source-block-size", "3M", "a.vhdx", "b.vhdx"], "a power of two"),
        (["--old-generation=0", "a.vhdx", "b.vhdx"], "not a number from 1"),
    ],
)
def test_bad_usage(vhdx, arguments, said):
    assert said in vhdx.fails(2, "salvage", *arguments)
