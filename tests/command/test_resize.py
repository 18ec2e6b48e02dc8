"""vhdx resize: what a disk reads as, what is refused, and what the tools of partitions and file systems say after it."""
import json
import os
import shutil
import signal
import subprocess

import pytest

from chains import Halted, assert_sound, contents, files, write
from conftest import MIB
from test_replay import dirty  # noqa: F401 (a fixture)


def make(vhdx, *options, size=10 * MIB + 512, name="a.vhdx"):
    """A disk with data at its beginning, in the middle and at its end; returns what it reads as."""
    vhdx("create", "-q", "--block-size", "1M", *options, name, str(size))
    write(vhdx, name, "a", 0, 100_000)
    write(vhdx, name, "b", 4 * MIB - 512, MIB)
    write(vhdx, name, "e", size - 512, 512)
    return contents(vhdx, name)


def size_of(vhdx, name="a.vhdx"):
    return vhdx.json("info", "--json", name)["virtual-size"]


def assert_nothing_but_lost_space(vhdx, name="a.vhdx"):
    """What was cut off or moved leaves holes in the file until it is compacted."""
    assert vhdx.run("check", name).returncode in (0, 3)


def assert_qemu_agrees(peer, name, size, type="dynamic"):
    assert json.loads(peer("qemu-img", "info", "--output=json", name))["virtual-size"] == size
    if type == "dynamic":
        assert b"No errors" in peer("qemu-img", "check", name)


# --- sizes and types ---


@pytest.mark.parametrize("type", ["dynamic", "fixed"])
def test_larger_and_smaller(vhdx, peer, type):
    before = make(vhdx, "--type", type)
    assert b"grew from 10 MiB (10486272 bytes) to 20 MiB" in vhdx("resize", "a.vhdx", "20M")
    assert contents(vhdx, "a.vhdx") == before + bytes(20 * MIB - len(before))
    assert_sound(vhdx, "a.vhdx")
    assert_qemu_agrees(peer, "a.vhdx", 20 * MIB, type)
    file_size = os.stat(vhdx.directory / "a.vhdx").st_size
    assert b"shrank" in vhdx("resize", "--shrink", "--force", "a.vhdx", "4M")
    assert contents(vhdx, "a.vhdx") == before[:4 * MIB]
    assert os.stat(vhdx.directory / "a.vhdx").st_size < file_size
    assert_sound(vhdx, "a.vhdx")
    assert_qemu_agrees(peer, "a.vhdx", 4 * MIB, type)
    vhdx("resize", "a.vhdx", "20M")  # nothing that was cut comes back
    assert contents(vhdx, "a.vhdx") == before[:4 * MIB] + bytes(16 * MIB)
    assert vhdx.json("info", "--json", "a.vhdx")["type"] == type


def test_sizes_and_where_they_stand(vhdx):
    make(vhdx, size=10 * MIB)
    for arguments, size in ((["a.vhdx", "+1M"], 11), (["-q", "a.vhdx", "+0"], 11), (["a.vhdx", "12582912"], 12),
                            (["--shrink", "--force", "a.vhdx", "-1M"], 11), (["a.vhdx", "-1048576", "--shrink"], 10),
                            (["--shrink", "--force", "-1M", "a.vhdx"], 9), (["a.vhdx", "1g"], 1024)):
        vhdx("resize", *arguments)
        assert size_of(vhdx) == size * MIB
    assert vhdx("resize", "a.vhdx", "1G") == b"a.vhdx: the disk has 1 GiB (1073741824 bytes) already\n"


def test_images_of_qemu(vhdx, peer, raw_disk):
    """QEMU may end the file within the last block, and gives fixed images blocks that are not there."""
    before = raw_disk.read_bytes()
    for subformat in "dynamic", "fixed":
        peer("qemu-img", "convert", "-O", "vhdx", "-o", f"subformat={subformat},block_size=8M", "disk.raw", "q.vhdx")
        vhdx("resize", "q.vhdx", "70M")
        assert contents(vhdx, "q.vhdx") == before + bytes(70 * MIB - len(before))
        vhdx("resize", "--shrink", "q.vhdx", "25M")
        assert contents(vhdx, "q.vhdx") == before + bytes(25 * MIB - len(before))
        assert_nothing_but_lost_space(vhdx, "q.vhdx")  # QEMU leaves gaps, too
        os.unlink(vhdx.directory / "q.vhdx")


def test_a_table_that_must_move(vhdx, peer):
    before = make(vhdx, size=10 * MIB)
    document = vhdx.json("resize", "--json", "--dry-run", "a.vhdx", "1T")
    assert document["table-moved"] is True and document["new-size"] == 1 << 40 and size_of(vhdx) == 10 * MIB
    document = vhdx.json("resize", "--json", "a.vhdx", "1T")
    assert document["table-moved"] is True and document["gpt"] == "none"
    assert_nothing_but_lost_space(vhdx)
    assert_qemu_agrees(peer, "a.vhdx", 1 << 40)
    vhdx("resize", "--shrink", "a.vhdx", "10M")
    assert contents(vhdx, "a.vhdx") == before


# --- chains ---


def test_a_child_shows_nothing_of_a_longer_parent(vhdx):
    make(vhdx, size=10 * MIB, name="base.vhdx")
    whole = contents(vhdx, "base.vhdx")
    for moved_away in False, True:
        vhdx("create", "-q", "-b", "base.vhdx", "top.avhdx")
        vhdx("resize", "--shrink", "--force", "top.avhdx", str(4 * MIB - 4096))
        assert contents(vhdx, "top.avhdx") == whole[:4 * MIB - 4096]
        if moved_away:
            os.rename(vhdx.directory / "base.vhdx", vhdx.directory / "elsewhere.vhdx")
        vhdx("resize", "top.avhdx", "20M")
        if moved_away:
            os.rename(vhdx.directory / "elsewhere.vhdx", vhdx.directory / "base.vhdx")
        assert contents(vhdx, "top.avhdx") == whole[:4 * MIB - 4096] + bytes(16 * MIB + 4096)
        assert_sound(vhdx, "top.avhdx")
        os.unlink(vhdx.directory / "top.avhdx")
    assert contents(vhdx, "base.vhdx") == whole


def test_parents_are_refused(vhdx, tmp_path):
    make(vhdx, name="base.vhdx")
    vhdx("create", "-q", "-b", "base.vhdx", "top.avhdx")
    before = files(tmp_path)
    for size in "+1M", "min":
        said = vhdx.fails(1, "resize", "--shrink", "--force", "base.vhdx", size)
        assert "base.vhdx: " in said and "top.avhdx depends on it" in said and "Help: resize the child" in said
    assert files(tmp_path) == before
    (tmp_path / "more").mkdir()
    os.rename(tmp_path / "top.avhdx", tmp_path / "more" / "top.avhdx")
    assert "depends on it" in vhdx.fails(1, "resize", "--also", "more", "base.vhdx", "+1M")
    assert files(tmp_path)["base.vhdx"] == before["base.vhdx"]
    vhdx("resize", "base.vhdx", "+1M")


def test_a_child_whose_parent_is_gone_does_not_shrink_unseen(vhdx, tmp_path):
    make(vhdx, name="base.vhdx")
    vhdx("create", "-q", "-b", "base.vhdx", "top.avhdx")
    os.unlink(tmp_path / "base.vhdx")
    vhdx("resize", "top.avhdx", "+1M")
    before = files(tmp_path)
    for size in "-1M", "5M", "min":
        assert "parent" in vhdx.fails(1, "resize", "--shrink", "top.avhdx", size)
    assert files(tmp_path) == before
    vhdx("resize", "--shrink", "--force", "top.avhdx", "-1M")


# --- what is not cut ---


@pytest.fixture
def gpt(vhdx, peer, tmp_path):
    """A disk of 40 MiB with partitions up to 11 MiB and something in each."""
    os.truncate(os.open(tmp_path / "a.raw", os.O_CREAT | os.O_WRONLY), 40 * MIB)
    peer("sgdisk", "-n", "1:2048:+4M", "-n", "3:0:+6M", "-c", "1:one", "a.raw")
    vhdx("convert", "-q", "-O", "vhdx", "a.raw", "a.vhdx")
    write(vhdx, "a.vhdx", "1", MIB, MIB)
    write(vhdx, "a.vhdx", "3", 10 * MIB, MIB)
    return contents(vhdx, "a.vhdx")[MIB:11 * MIB]


def assert_gpt(vhdx, peer, partitions):
    """Real tools find nothing wrong, and the partitions are as they were."""
    raw = contents(vhdx, "a.vhdx")
    (vhdx.directory / "now.raw").write_bytes(raw)
    said = peer("sgdisk", "-v", "now.raw")
    assert b"No problems found" in said and b"Caution" not in said and b"Warning" not in said
    peer("sfdisk", "--verify", "now.raw")
    assert raw[MIB:11 * MIB] == partitions


def test_the_backup_gpt_moves_when_asked(vhdx, peer, gpt):
    said = vhdx("resize", "a.vhdx", "+8M").decode()
    assert said.endswith("The backup GPT is not at the end of the disk: vhdx resize --fix-gpt a.vhdx +0 puts it there.\n")
    (vhdx.directory / "now.raw").write_bytes(contents(vhdx, "a.vhdx"))
    assert b"No problems found" not in peer("sgdisk", "-v", "now.raw", status=None)
    assert vhdx.json("resize", "--json", "--fix-gpt", "a.vhdx", "+0")["gpt"] == "moved"
    assert_gpt(vhdx, peer, gpt)
    before = files(vhdx.directory)["a.vhdx"]
    assert vhdx.json("resize", "--json", "--fix-gpt", "a.vhdx", "+0")["gpt"] == "fits"
    assert files(vhdx.directory)["a.vhdx"] == before  # a table that fits is not written
    assert b"backup GPT was moved" in vhdx("resize", "--fix-gpt", "a.vhdx", "+30M")
    assert_gpt(vhdx, peer, gpt)


def test_min_is_the_partitions_and_the_backup_gpt(vhdx, peer, gpt):
    document = vhdx.json("resize", "--json", "--dry-run", "--shrink", "--fix-gpt", "a.vhdx", "min")
    assert document["new-size"] == 12 * MIB and document["dry-run"] is True and size_of(vhdx) == 40 * MIB
    vhdx("resize", "--shrink", "--fix-gpt", "a.vhdx", "min")
    assert size_of(vhdx) == 12 * MIB
    assert_gpt(vhdx, peer, gpt)
    assert_nothing_but_lost_space(vhdx)
    vhdx("resize", "--shrink", "--fix-gpt", "a.vhdx", str(11 * MIB + 33 * 512))  # no sector to spare
    assert_gpt(vhdx, peer, gpt)
    assert "needs room for its second copy" in vhdx.fails(1, "resize", "--shrink", "--fix-gpt", "a.vhdx", "-512")


def test_partitions_are_not_cut(vhdx, gpt, tmp_path):
    before = files(tmp_path)
    said = vhdx.fails(1, "resize", "--shrink", "--fix-gpt", "a.vhdx", "10M")
    assert "partition 3 ends at 11 MiB (11534336 bytes): a disk of 10 MiB" in said
    assert "Nothing was changed" in said and "--force" in said
    assert "--shrink" in vhdx.fails(1, "resize", "a.vhdx", "20M")
    said = vhdx.fails(1, "resize", "--shrink", "a.vhdx", "20M")
    assert "--fix-gpt moves it" in said
    assert "does not fit: partition 3" in vhdx.fails(1, "resize", "--shrink", "--force", "--fix-gpt", "a.vhdx", "10M")
    assert files(tmp_path) == before
    assert "goes with the end" in vhdx("resize", "--shrink", "--force", "a.vhdx", "10M").decode()
    assert contents(vhdx, "a.vhdx")[MIB:10 * MIB] == gpt[:9 * MIB]


def test_data_outside_of_partitions_is_not_cut(vhdx, gpt, tmp_path):
    write(vhdx, "a.vhdx", "x", 30 * MIB + 512, 512)
    before = files(tmp_path)
    for size in "20M", "min":
        said = vhdx.fails(1, "resize", "--shrink", "--fix-gpt", "a.vhdx", size)
        assert "data outside of any partition or file system, at 30 MiB (31457792 bytes)" in said
    assert files(tmp_path) == before
    vhdx("resize", "--shrink", "--fix-gpt", "a.vhdx", "32M")
    vhdx("resize", "--shrink", "--fix-gpt", "--force", "a.vhdx", "20M")


def test_a_damaged_table_tells_nothing(vhdx, gpt, tmp_path):
    write(vhdx, "a.vhdx", "x", 512 + 60, 1)
    before = files(tmp_path)
    for options, size in ((["--shrink"], "20M"), (["--shrink"], "min"), (["--fix-gpt"], "+1M")):
        said = vhdx.fails(1, "resize", *options, "a.vhdx", size)
        assert "first copy of the GPT is damaged" in said and "repair the table" in said
    assert files(tmp_path) == before


def test_mbr(vhdx, peer, tmp_path):
    os.truncate(os.open(tmp_path / "a.raw", os.O_CREAT | os.O_WRONLY), 30 * MIB)
    if shutil.which("sfdisk") is None:
        pytest.skip("sfdisk is not installed")
    subprocess.run(["sfdisk", "-q", "a.raw"], input=b"label: dos\n2048,20480,83\n22528,,5\n24576,20480,83\n", cwd=tmp_path,
                   check=True)
    vhdx("convert", "-q", "-O", "vhdx", "a.raw", "a.vhdx")
    assert "partition 5 ends at" in vhdx.fails(1, "resize", "--shrink", "a.vhdx", "20M")
    vhdx("resize", "a.vhdx", "+5M")
    vhdx("convert", "-q", "a.vhdx", "now.raw")
    peer("sfdisk", "--verify", "now.raw")


@pytest.mark.parametrize("maker, checker", [
    (["mkfs.ext4", "-q", "-F"], ["e2fsck", "-fn"]),
    (["mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^64bit"], ["e2fsck", "-fn"]),
    (["mkfs.ntfs", "-q", "-F"], ["ntfsresize", "-i", "-f"]),
    (["mkfs.fat"], ["fsck.fat", "-n"]),
    (["mkfs.exfat"], ["fsck.exfat", "-n"]),
], ids=["ext4", "ext4-1k", "ntfs", "fat", "exfat"])
def test_file_systems_without_partitions_are_not_cut(vhdx, peer, tmp_path, maker, checker):
    """The file system is made for less than the disk, as after resize2fs."""
    os.truncate(os.open(tmp_path / "a.raw", os.O_CREAT | os.O_WRONLY), 8 * MIB)
    peer(*maker, "a.raw")
    os.truncate(tmp_path / "a.raw", 20 * MIB)
    vhdx("convert", "-q", "-O", "vhdx", "a.raw", "a.vhdx")
    assert " takes " in vhdx.fails(1, "resize", "--shrink", "a.vhdx", "7M")
    vhdx("resize", "--shrink", "a.vhdx", "min")
    assert size_of(vhdx) == 8 * MIB
    vhdx("convert", "-q", "a.vhdx", "now.raw")
    peer(*checker, "now.raw")
    vhdx("resize", "--shrink", "--force", "a.vhdx", "7M")


def test_an_unknown_disk_is_cut_where_it_is_empty(vhdx):
    make(vhdx, size=10 * MIB)
    assert "data outside" in vhdx.fails(1, "resize", "--shrink", "a.vhdx", "9M")
    vhdx("resize", "a.vhdx", "20M")
    assert "data outside" in vhdx.fails(1, "resize", "--shrink", "a.vhdx", str(10 * MIB - 512))
    vhdx("resize", "--shrink", "a.vhdx", "10M")


# --- the rest ---


def test_a_dry_run_writes_nothing(vhdx, tmp_path):
    make(vhdx)
    before = files(tmp_path)
    assert b"would grow" in vhdx("resize", "-n", "a.vhdx", "1T")
    said = vhdx("resize", "--dry-run", "--shrink", "--force", "a.vhdx", "1M").decode()
    assert "would shrink" in said and "Nothing was written" in said
    assert files(tmp_path) == before


def test_a_log_is_replayed_first(vhdx, dirty):  # noqa: F811
    vhdx("convert", "-q", "a.vhdx", "before.vhdx")
    vhdx("resize", "before.vhdx", "+1M")
    vhdx("resize", "a.vhdx", "+1M")
    vhdx("compare", "a.vhdx", "before.vhdx")
    assert vhdx.run("info", "--is", "dirty", "a.vhdx").returncode != 0
    assert_sound(vhdx, "a.vhdx")


def test_somebody_has_it_open(vhdx, peer, tmp_path):
    make(vhdx)
    reader = Halted(vhdx, "convert", "-O", "raw", "a.vhdx", "b.raw")
    before = files(tmp_path)["a.vhdx"]
    assert "close the other program" in vhdx.fails(1, "resize", "a.vhdx", "+1M")
    assert files(tmp_path)["a.vhdx"] == before
    reader.process.kill()
    reader.process.wait()
    vhdx("resize", "a.vhdx", "+1M")


@pytest.mark.parametrize("name, number", [("SIGINT", signal.SIGINT), ("SIGTERM", signal.SIGTERM)])
def test_a_signal_leaves_the_size(vhdx, name, number):
    before = make(vhdx, "--type", "fixed")
    length = os.stat(vhdx.directory / "a.vhdx").st_size
    _, said = Halted(vhdx, "resize", "a.vhdx", "+150M").end_by(number)
    assert "has the size it had" in said
    assert contents(vhdx, "a.vhdx") == before
    assert os.stat(vhdx.directory / "a.vhdx").st_size == length
    assert_sound(vhdx, "a.vhdx")
    vhdx("resize", "a.vhdx", "+1M")
    assert contents(vhdx, "a.vhdx") == before + bytes(MIB)


def test_failures_as_json(vhdx, tmp_path):
    make(vhdx)
    done = vhdx.run("resize", "--json", "--shrink", "a.vhdx", "1M")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["error"]["code"] == "RANGE" and document["filename"] == "a.vhdx"
    assert json.loads(vhdx.run("resize", "--json", "none.vhdx", "1M").stdout)["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("arguments, said", [
    (["a.vhdx", "+100"], "a.vhdx: a disk of 10486372 bytes: the size must be a multiple of its sectors of 512"),
    (["--shrink", "--force", "a.vhdx", "0"], "multiple of its sectors"),
    (["--shrink", "a.vhdx", "-20M"], "nothing would be left"),
    (["a.vhdx", "65T"], "64 TiB"),
    (["a.vhdx", "+16777215T"], "64 TiB"),
    (["none.vhdx", "1G"], "none.vhdx: "),
    (["raw.raw", "1G"], "raw.raw: "),
])
def test_what_cannot_be_done(vhdx, tmp_path, arguments, said):
    make(vhdx)
    (tmp_path / "raw.raw").write_bytes(bytes(MIB))
    before = files(tmp_path)
    assert said in vhdx.fails(1, "resize", *arguments)
    assert files(tmp_path) == before


@pytest.mark.parametrize("arguments", [
    ["a.vhdx"], [], ["a.vhdx", "1Q"], ["a.vhdx", "maximum"], ["a.vhdx", "++1"], ["a.vhdx", ""], ["--shrnk", "a.vhdx", "1M"],
    ["a.vhdx", "1M", "2M"], ["a.vhdx", "1M", "-2M"], ["a.vhdx", "-1M", "-2M"],
])
def test_wrong_usage(vhdx, arguments):
    make(vhdx)
    assert "Try 'vhdx resize --help'" in vhdx.fails(2, "resize", *arguments)
    assert size_of(vhdx) == 10 * MIB + 512
