"""vhdx check -r: what is broken is mended, others accept the result, and there is a way back."""
import hashlib
import json
import os
import subprocess

import pytest

from conftest import MIB
from damage import Image

def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def image(vhdx, tmp_path, raw_disk):
    os.truncate(raw_disk, 25 * MIB)  # 7-Zip takes no disk that ends in the midst of a cluster
    vhdx("convert", "--block-size", "1M", raw_disk, "a.vhdx")
    return Image(vhdx, tmp_path / "a.vhdx")


def wipe_headers(image):
    image.write(0x10000, bytes(4096))
    image.write(0x20000, bytes(4096))


def differing_tables(image):
    image.write(0x40000 + 0x8000, b"\1")
    image.seal(0x40000, 65536)


def as_killed_qemu(image):
    image.change_headers(48, bytes(range(16)))


def state_7(image):
    image.set_entry(image.first_present(), image.entry(image.first_present()) | 1)


def shared_with_absent(image):
    """An absent block says it lies where another does: it reads those bytes, before and after."""
    absent = next(i for i in range(25) if image.entry(i) == 0)
    image.set_entry(absent, image.entry(image.first_present()))


def no_log(image):
    image.change_headers(68, bytes(12))


def not_required(image):
    for at in (0x30000, 0x40000):
        image.write(at + 16 + 28, bytes(4))
        image.seal(at, 65536)


def block_size(image):
    image.write(image.metadata + 0x10000, (3 * MIB).to_bytes(4, "little"))


def physical_size(image):
    image.write(image.metadata + 0x10014, (1024).to_bytes(4, "little"))


def lost_space(image):
    os.truncate(image.path, image.path.stat().st_size + 64 * MIB)


# The rest is told apart where it is quick: src/ops/repair_test.c.
FAULTS = [
    (wipe_headers, "headers", "V10", 2), (differing_tables, "regions", "V57", 2), (as_killed_qemu, "log", "V30", 2),
    (state_7, "bat", "V133", 2), (no_log, "headers", "V28", 3), (not_required, "regions", "V69", 0),
    (block_size, "metadata", "V95", 2), (physical_size, "metadata", "V98", 2), (lost_space, "leaks", "V149", 3),
    (shared_with_absent, "bat", "V137", 2),
]


@pytest.mark.parametrize("damage,name,rule,status", FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_mended_and_undone(vhdx, peer, image, raw_disk, damage, name, rule, status):
    damage(image)
    before = digest(image.path)
    done = vhdx.run("check", "--json", "a.vhdx")
    assert done.returncode == status
    finding = next(f for f in json.loads(done.stdout)["findings"] if f["rule"] == rule)
    assert finding["remedy"] == name

    done = vhdx.run("check", "-r", name, "--dry-run", "--json", "a.vhdx")
    plan = json.loads(done.stdout)["repair"]
    assert done.returncode == status and plan["dry-run"] and plan["done"] == 1 and digest(image.path) == before
    human = vhdx.run("check", "-r", name, "--dry-run", "a.vhdx").stdout.decode()
    assert "nothing was written" in human and plan["steps"][0]["message"] in human

    repair = vhdx.json("check", "-r", name, "--undo", "a.undo", "--json", "a.vhdx")["repair"]
    assert repair["steps"] == plan["steps"] and repair["left"] == 0 and repair["lost-bytes"] == 0
    if damage is not shared_with_absent:
        vhdx("compare", "-f", "raw", raw_disk, "a.vhdx")
    assert b"No errors" in peer("qemu-img", "check", "a.vhdx")
    assert b"Everything is Ok" in peer("7zz", "t", "a.vhdx")
    peer("7zz", "l", "a.vhdx")

    mended = digest(image.path)
    again = vhdx.json("check", "-r", "all", "--json", "a.vhdx")
    assert again["repair"]["done"] == 0 and digest(image.path) == mended
    vhdx("check", "--apply-undo", "a.undo", "a.vhdx")
    assert digest(image.path) == before


def test_lost_blocks_are_told(vhdx, image, raw_disk):
    block = image.first_present()
    image.set_entry(block, 6 | 0xFFFFF << 20)
    done = vhdx.run("check", "-r", "bat", "--json", "a.vhdx")
    repair = json.loads(done.stdout)["repair"]
    assert done.returncode == 3  # the place the entry named before belongs to nothing
    assert repair["lost-bytes"] == MIB and repair["changes-contents"]
    step = repair["steps"][0]
    assert step["loss"] and step["disk-offset"] == block * MIB and step["disk-length"] == MIB and step["rule"] == "V134"
    with open(raw_disk, "r+b") as file:
        file.seek(block * MIB)
        file.write(bytes(MIB))
    vhdx("compare", "-f", "raw", raw_disk, "a.vhdx")


def test_the_help_names_the_class(vhdx, image):
    as_killed_qemu(image)
    text = vhdx.run("check", "a.vhdx").stdout.decode()
    assert "Help: vhdx check -r log a.vhdx" in text and "vhdx convert --ignore-log a.vhdx" in text
    assert "vhdx check -r log" in vhdx.fails(1, "convert", "a.vhdx", "b.raw")
    differing_tables(image)
    assert "Help: vhdx check -r regions,log a.vhdx" in vhdx.run("check", "a.vhdx").stdout.decode()
    vhdx("check", "-r", "log,regions", "a.vhdx")
    differing_tables(image)
    assert "vhdx check -r regions" in vhdx.fails(1, "resize", "a.vhdx", "30M")


def test_an_undo_file_is_not_written_over(vhdx, image, tmp_path):
    state_7(image)
    (tmp_path / "a.undo").write_bytes(b"mine")
    before = digest(image.path)
    assert "--force" in vhdx.fails(1, "check", "-r", "bat", "--undo", "a.undo", "a.vhdx")
    assert (tmp_path / "a.undo").read_bytes() == b"mine" and digest(image.path) == before
    vhdx("check", "-r", "bat", "--undo", "a.undo", "--force", "a.vhdx")
    vhdx("check", "--apply-undo", "a.undo", "a.vhdx")
    assert digest(image.path) == before


def test_an_undo_file_of_another_image(vhdx, image, tmp_path, raw_disk):
    state_7(image)
    vhdx("check", "-r", "bat", "--undo", "a.undo", "a.vhdx")
    vhdx("convert", "--block-size", "1M", raw_disk, "b.vhdx")
    before = digest(tmp_path / "b.vhdx")
    assert "another image" in vhdx.fails(1, "check", "--apply-undo", "a.undo", "b.vhdx")
    assert digest(tmp_path / "b.vhdx") == before
    assert "no undo file" in vhdx.fails(1, "check", "--apply-undo", "b.vhdx", "a.vhdx")
    vhdx.fails(1, "check", "--apply-undo", "none.undo", "a.vhdx")
    vhdx("resize", "a.vhdx", "30M")  # written since
    mended = digest(image.path)
    assert "written since" in vhdx.fails(1, "check", "--apply-undo", "a.undo", "a.vhdx")
    assert digest(image.path) == mended


def test_children_are_not_broken_by_the_way(vhdx, image):
    vhdx("create", "--parent", "a.vhdx", "child.avhdx")
    block = image.first_present()
    image.set_entry(block, image.entry(block) | 8)
    vhdx("check", "-r", "bat", "a.vhdx")  # which no child can see
    vhdx("check", "--chain", "child.avhdx")
    image.set_entry(block, 4)
    before = digest(image.path)
    assert "child.avhdx" in vhdx.fails(1, "check", "-r", "bat", "a.vhdx")
    assert digest(image.path) == before
    vhdx.fails(3, "check", "-r", "bat", "--orphan-children", "a.vhdx")
    vhdx("check", "-r", "leaks", "a.vhdx")


def test_a_file_that_cannot_be_written(vhdx, image):
    state_7(image)
    if os.geteuid() != 0:
        image.path.chmod(0o444)
        vhdx.fails(1, "check", "-r", "bat", "a.vhdx")
        vhdx.fails(2, "check", "-r", "bat", "--dry-run", "a.vhdx")
        image.path.chmod(0o644)
    vhdx.fails(1, "check", "-r", "bat", "none.vhdx")
    image.write(0, b"no image")
    assert "vhdxfile" in vhdx.fails(1, "check", "-r", "all", "a.vhdx")


def test_an_image_in_use(vhdx, peer, image, tmp_path):
    peer("qemu-io", "--version")
    state_7(image)
    image.set_entry(image.first_present(), image.entry(image.first_present()) & ~1)
    holder = subprocess.Popen(["qemu-io", "-f", "vhdx", "a.vhdx"], cwd=tmp_path, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    try:
        holder.stdin.write(b"read 0 512\n")
        holder.stdin.flush()
        holder.stdout.readline()
        assert "use" in vhdx.fails(1, "check", "-r", "all", "a.vhdx")
    finally:
        holder.communicate(b"quit\n", timeout=60)


@pytest.mark.parametrize("words", [
    ["-r", "everything"], ["-r", ""], ["-r", "bat,"], ["-r", "bat", "--chain"], ["--dry-run"], ["--undo", "u"], ["-r", "bat", "-U"],
    ["-r", "bat", "--ignore-log"], ["-r", "bat", "--force"], ["-r", "bat", "--dry-run", "--undo", "u"],
    ["-r", "bat", "--apply-undo", "u"],
], ids=" ".join)
def test_bad_usage(vhdx, image, words):
    assert "Try 'vhdx check --help'" in vhdx.fails(64, "check", *words, "a.vhdx")


def test_one_file_for_one_undo(vhdx, image):
    vhdx.fails(64, "check", "-r", "bat", "--undo", "u", "a.vhdx", "a.vhdx")
    vhdx.fails(64, "check", "--apply-undo", "u", "a.vhdx", "a.vhdx")
