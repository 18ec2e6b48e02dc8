"""vhdx compact."""
import hashlib
import json
import os
import shutil
import signal

import pytest

from chains import Halted, contents, contents_for_7zip, write
from conftest import MIB, allocated
from file_systems import KINDS, filled, guest, run  # noqa: F401 (fixtures)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


SHAPES = [(kind, None, 512) for kind in KINDS] + [
    (kind, table, sector) for kind in ("ext4-4k", "fat32", "exfat", "ntfs")
    for table, sector in (("MBR", 512), ("GPT", 512), ("GPT", 4096))]


@pytest.mark.parametrize("kind,table,sector", SHAPES)
def test_as_small_as_can_be_and_every_file_as_it_was(vhdx, guest, peer, kind, table, sector):  # noqa: F811
    inside = guest(kind, table, sector)
    image, smallest = inside.image("disk.vhdx"), inside.smallest("smallest.vhdx")
    before = image.stat().st_size
    row = vhdx.json("compact", "--json", "disk.vhdx")
    volume, = row["volumes"]
    assert (volume["verdict"], volume["free-bytes"]) == ("readable", inside.maker.free_bytes())
    assert row["partition-table"] == (table or "none")
    assert (row["file-size-before"], row["file-size-after"]) == (before, image.stat().st_size)
    assert image.stat().st_size <= 1.03 * inside.smallest_size() < 0.5 * before
    assert allocated(image) <= 1.03 * allocated(smallest) + 64 * 1024
    vhdx("check", "disk.vhdx")
    if sector == 512:
        peer("qemu-img", "check", "disk.vhdx")
    inside.assert_files_are_intact_in("disk.vhdx")


def test_what_it_says(vhdx, guest, tmp_path):  # noqa: F811
    image = guest("ext4-4k", "GPT").image("disk.vhdx")
    before = digest(image)
    said = vhdx("compact", "--dry-run", "disk.vhdx").decode().splitlines()
    assert said[0] == "disk.vhdx:" and said[1].startswith('  partition 1, ext4 "a label": ')
    assert said[2].startswith("disk.vhdx: would shrink from ") and "Nothing was written" in said[3]
    predicted = vhdx.json("compact", "-n", "--json", "disk.vhdx")
    assert digest(image) == before and predicted["dry-run"]

    done = vhdx.json("compact", "--json", "disk.vhdx")
    for key in ("file-size-before", "file-size-after", "bytes-released", "blocks-freed", "bytes-moved", "volumes"):
        assert done[key] == predicted[key], key
    assert "disk.vhdx: nothing to give back" in vhdx("compact", "disk.vhdx").decode()
    assert vhdx("compact", "-q", "disk.vhdx") == b""


def test_several_files_a_row_each_and_the_worst_status(vhdx, guest, tmp_path):  # noqa: F811
    guest("fat32").image("a.vhdx")
    shutil.copy(tmp_path / "a.vhdx", tmp_path / "b.vhdx")
    (tmp_path / "text").write_text("no image\n" * 100)
    for jobs in ("1", "3"):
        done = vhdx.run("compact", "--json", "--jobs", jobs, "a.vhdx", "none.vhdx", "text", "b.vhdx")
        rows = json.loads(done.stdout)
        assert done.returncode == 1
        assert [row["filename"] for row in rows] == ["a.vhdx", "none.vhdx", "text", "b.vhdx"]
        assert [row.get("error", {}).get("code") for row in rows] == [None, "NOT_FOUND", "NOT_VHDX", None]
    assert (tmp_path / "a.vhdx").stat().st_size == (tmp_path / "b.vhdx").stat().st_size == rows[0]["file-size-after"]
    vhdx("compact", "--jobs", "2", "a.vhdx", "b.vhdx")


REFUSED = {
    "journal needs recovery": ("ext4-4k", lambda maker: maker.debugfs("feature needs_recovery"), "e2fsck -f"),
    "unknown feature": ("ext2", lambda maker: maker.debugfs("feature FEATURE_C20"), "libvhdx"),
    "NTFS dirty": ("ntfs", lambda maker: maker.set_volume_flags(1), "chkdsk"),
    "NTFS hibernated": ("ntfs", lambda maker: maker.hibernate(), "shutdown /s"),
}


@pytest.mark.parametrize("state", REFUSED)
@pytest.mark.parametrize("verb", ["compact", "trim"])
def test_refused_with_the_cure_and_nothing_is_changed(vhdx, guest, verb, state):  # noqa: F811
    kind, change, cure = REFUSED[state]
    inside = guest(kind, "GPT")
    change(inside.maker)
    image = inside.image("disk.vhdx")
    before = digest(image)
    text = vhdx.fails(1, verb, "disk.vhdx")
    assert text.startswith("vhdx: disk.vhdx: partition 1 (") and cure in text and "Nothing was changed" in text
    assert ("--no-fs" in text) == (verb == "compact")
    done = vhdx.run(verb, "--json", "-n", "disk.vhdx")
    row = json.loads(done.stdout)
    assert done.returncode == 1 and row["error"]["code"] == "BAD_VOLUME"
    assert row["volumes"][0]["verdict"] == "refused" and cure in row["volumes"][0]["cure"] + row["volumes"][0]["reason"]
    assert digest(image) == before


def test_without_file_systems_what_a_refused_one_holds_stays(vhdx, guest):  # noqa: F811
    inside = guest("ext4-4k")
    inside.maker.debugfs("feature needs_recovery")
    image = inside.image("disk.vhdx")
    disk = contents(vhdx, "disk.vhdx")
    row = vhdx.json("compact", "--json", "--no-fs", "disk.vhdx")
    assert "volumes" not in row and row["guest-bytes-free"] == 0
    assert contents(vhdx, "disk.vhdx") == disk and image.stat().st_size == row["file-size-after"]


def test_a_module_that_is_missing_is_said(vhdx, guest, tmp_path):  # noqa: F811
    image = guest("ntfs").image("disk.vhdx")
    before = digest(image)
    lacking = {**os.environ, "VHDX_MODULE_PATH": str(tmp_path)}
    text = vhdx.fails(1, "compact", "disk.vhdx", env=lacking)
    assert "no reader for NTFS is installed" in text and "libntfs-3g" in text and "--no-fs" in text
    assert digest(image) == before
    vhdx("compact", "--no-fs", "disk.vhdx", env=lacking)


def test_what_nobody_reads_is_left_alone_and_said(vhdx, guest, tmp_path):  # noqa: F811
    disk = tmp_path / "disk.raw"
    disk.write_bytes((b"XFSB" + os.urandom(MIB - 4)) * 3)
    vhdx("convert", "-q", "-f", "raw", "disk.raw", "disk.vhdx")
    text = vhdx("compact", "disk.vhdx").decode()
    assert "the whole disk, XFS: left alone, " in text and "fstrim" in text and "vhdx serve" in text
    assert contents(vhdx, "disk.vhdx") == disk.read_bytes()


def make_full(vhdx):
    """32 MiB; every second block is zeros, written as such."""
    vhdx("create", "-q", "--block-size", "1M", "disk.vhdx", "32M")
    for first in (1, 0):
        vhdx("bench", "-q", "-w", "--pattern", str(1 - first), "-c", "16", "-d", "1", "-s", "1M", "-S", "2M", "-o",
             str(first * MIB), "disk.vhdx")


def test_zeroes(vhdx, tmp_path):
    make_full(vhdx)
    disk, image = contents(vhdx, "disk.vhdx"), tmp_path / "disk.vhdx"
    assert vhdx.json("compact", "--json", "disk.vhdx")["blocks-freed"] == 0
    before = vhdx.json("info", "--json", "disk.vhdx")
    row = vhdx.json("compact", "--json", "--zeroes", "disk.vhdx")
    assert row["blocks-freed"] == 16 and image.stat().st_size == row["file-size-after"] <= 21 * MIB
    assert contents(vhdx, "disk.vhdx") == disk
    after = vhdx.json("info", "--json", "disk.vhdx")
    assert after["data-write-guid"] == before["data-write-guid"]  # children stay valid
    vhdx("check", "disk.vhdx")


def test_fixed_images_get_holes_only_when_told(vhdx, guest, tmp_path):  # noqa: F811
    inside = guest("fat16")
    image = inside.image("disk.vhdx", "--type", "fixed")
    size, space = image.stat().st_size, allocated(image)
    assert "--sparse makes holes" in vhdx("compact", "--zeroes", "disk.vhdx").decode()
    assert (image.stat().st_size, allocated(image)) == (size, space)
    assert "--sparse" not in vhdx("compact", "--sparse", "disk.vhdx").decode()
    assert image.stat().st_size == size and allocated(image) < space / 2
    inside.assert_files_are_intact_in("disk.vhdx")


def test_children_refuse_and_without_file_systems_stay_valid(vhdx, guest, tmp_path):  # noqa: F811
    inside = guest("ext4-4k")
    image = inside.image("disk.vhdx")
    (tmp_path / "more").mkdir()
    vhdx("create", "-q", "--parent", "disk.vhdx", "more/child.avhdx")
    write(vhdx, "more/child.avhdx", "c", 70 * MIB)
    before, disk, child = digest(image), contents(vhdx, "disk.vhdx"), contents(vhdx, "more/child.avhdx")
    for verb in ("compact", "trim"):
        text = vhdx.fails(1, verb, "--also", "more", "disk.vhdx")
        assert "child.avhdx" in text and "Nothing was changed" in text and "--orphan-children" in text
        assert "child.avhdx" in vhdx.fails(1, verb, "-n", "--also", "more", "disk.vhdx")
    assert digest(image) == before
    vhdx("compact", "-q", "--no-fs", "--zeroes", "--also", "more", "disk.vhdx")
    assert contents(vhdx, "disk.vhdx") == disk and contents(vhdx, "more/child.avhdx") == child
    assert "DataWriteGuid" not in vhdx("check", "--chain", "more/child.avhdx").decode()
    vhdx("compact", "-q", "--orphan-children", "--also", "more", "disk.vhdx")
    assert "DataWriteGuid" in vhdx.fails(1, "convert", "-O", "raw", "more/child.avhdx", "-")
    inside.assert_files_are_intact_in("disk.vhdx")


def test_moved_blocks_of_a_parent_read_the_same_through_its_child(vhdx, peer, tmp_path):
    make_full(vhdx)
    vhdx("create", "-q", "--parent", "disk.vhdx", "child.avhdx")
    write(vhdx, "child.avhdx", "c", 5 * MIB + 4096)
    child = contents(vhdx, "child.avhdx")
    row = vhdx.json("compact", "--json", "--no-fs", "--zeroes", "disk.vhdx")
    assert row["blocks-moved"] > 0
    assert contents(vhdx, "child.avhdx") == child == contents_for_7zip(peer, tmp_path, "child.avhdx")
    vhdx("check", "--chain", "child.avhdx")


def test_a_child_is_read_through_its_parents(vhdx, guest, tmp_path):  # noqa: F811
    """Its file system is only whole with the parent's blocks; what is freed hides the parent, and does not uncover it."""
    inside = guest("ext4-4k")
    inside.image("base.vhdx")
    vhdx("create", "-q", "--parent", "base.vhdx", "child.avhdx")
    base = digest(tmp_path / "base.vhdx")
    write(vhdx, "child.avhdx", "j", 78 * MIB, MIB)  # free space of the file system
    assert "parent" in vhdx.fails(1, "compact", "--parents=none", "child.avhdx")
    row = vhdx.json("compact", "--json", "child.avhdx")
    assert row["blocks-freed"] == 1 and row["volumes"][0]["kind"] == "ext4"
    assert contents(vhdx, "child.avhdx")[78 * MIB:79 * MIB] == bytes(MIB)
    assert digest(tmp_path / "base.vhdx") == base
    inside.assert_files_are_intact_in("child.avhdx")


def test_interrupted_and_called_again(vhdx, tmp_path):
    for number in (signal.SIGINT, signal.SIGKILL):
        vhdx("create", "-q", "--force", "--block-size", "1M", "disk.vhdx", "128M")
        for first in (0, 1):  # those that go lie in front
            vhdx("bench", "-q", "-w", "--pattern", str(first), "-c", "64", "-d", "1", "-s", "1M", "-S", "2M", "-o",
                 str(first * MIB), "disk.vhdx")
        disk = contents(vhdx, "disk.vhdx")
        _, said = Halted(vhdx, "compact", "--no-fs", "--zeroes", "disk.vhdx").end_by(number)
        if number == signal.SIGINT:
            assert "the same command again goes on" in said
            assert vhdx.run("info", "--is", "dirty", "disk.vhdx").returncode == 2
        assert contents(vhdx, "disk.vhdx") == disk
        vhdx("compact", "-q", "--no-fs", "--zeroes", "disk.vhdx")
        assert contents(vhdx, "disk.vhdx") == disk
        assert (tmp_path / "disk.vhdx").stat().st_size <= 69 * MIB
        vhdx("check", "disk.vhdx")


def test_a_stop_begins_no_other_file(vhdx, tmp_path):
    make_full(vhdx)
    shutil.copy(tmp_path / "disk.vhdx", tmp_path / "other.vhdx")
    before = digest(tmp_path / "other.vhdx")
    said = Halted(vhdx, "compact", "--json", "--no-fs", "--zeroes", "disk.vhdx", "other.vhdx").end_by(signal.SIGINT)[0]
    rows = json.loads(said)
    assert [row["error"]["code"] for row in rows] == ["CANCELLED", "CANCELLED"]
    assert rows[1]["error"]["message"] == "not begun"
    assert digest(tmp_path / "other.vhdx") == before


def test_in_use(vhdx, tmp_path):
    make_full(vhdx)
    reader = Halted(vhdx, "convert", "-O", "raw", "disk.vhdx", "copy.raw")
    assert "close the other program" in vhdx.fails(1, "compact", "--no-fs", "disk.vhdx")
    reader.end_by(signal.SIGTERM)
    vhdx("compact", "-q", "--no-fs", "disk.vhdx")
