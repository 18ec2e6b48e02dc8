"""Images by QEMU: read as QEMU reads them, also when their writer was killed; and written by us."""
import collections
import json
import os
import random
import shutil

import pytest

from conftest import BLOCK_SIZES, MIB, state

OPTIONS = [
    *[f"block_size={size}M" for size in BLOCK_SIZES],
    *[f"subformat=fixed,block_size={size}M" for size in (1, 32)],
    *[f"block_state_zero={zero},block_size=2M" for zero in ("on", "off")],
    *[f"log_size={size}M,block_size=1M" for size in (2, 64)],
    "block_size=0",
]


def assert_read_as(vhdx, raw, image, *options):
    """Ours reads it as this raw disk, in three ways, and writes nothing."""
    before = state(image)
    vhdx("compare", *options, raw, image)
    vhdx("convert", "-O", "raw", "--force", *options, image, "ours.raw")
    vhdx("compare", "-f", "raw", "-F", "raw", "--strict", raw, "ours.raw")
    size = os.stat(raw).st_size
    assert sum(extent["length"] for extent in vhdx.json("map", "--json", *options, image)) == size
    assert state(image) == before


@pytest.mark.parametrize("options", OPTIONS)
def test_converted(vhdx, peers, tmp_path, ext4_disk, options):
    # QEMU's own manual warns of convert with block_state_zero=off: it leaves holes that it takes for zeros.
    peers.peer("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", options, ext4_disk.path, "a.vhdx")
    image = tmp_path / "a.vhdx"
    assert_read_as(vhdx, ext4_disk.path, image)
    assert vhdx.run("check", "-q", image).returncode in (0, 3)

    vhdx("bench", "-w", "-q", "-c", "40", "-d", "4", "-s", "12K", "-S", "1500K", "--pattern", "7", image)
    vhdx("convert", "-O", "raw", "--force", image, "ours.raw")
    peers.assert_sound(image)
    peers.assert_same_for_qemu("ours.raw", image)
    peers.assert_opened_by_libvhdi(ext4_disk.size, image)


@pytest.mark.parametrize("options", ["block_size=1M", "block_size=256M", "subformat=fixed", "block_state_zero=off",
                                     "log_size=64M"])
def test_created(vhdx, peers, tmp_path, options):
    """Empty, then written by us, then by QEMU, in turn."""
    peers.peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", options, "a.vhdx", "40M")
    image = tmp_path / "a.vhdx"
    assert not any(extent["data"] and options != "subformat=fixed" for extent in vhdx.json("map", "--json", image))
    for number in range(3):
        vhdx("bench", "-w", "-q", "-c", "20", "-s", "4K", "-S", "1M", "-o", f"{number * 65536}",
             "--pattern", f"{number + 1}", "--flush-interval", "5", image)
        peers.assert_sound(image)
        peers.peer("qemu-img", "bench", "-f", "vhdx", "-w", "-c", "20", "-d", "1", "-s", "4K", "-S", "1M", "-o",
                   number * 65536 + 8192, f"--pattern={number + 101}", image)
        peers.peer("qemu-img", "convert", "-f", "vhdx", "-O", "raw", image, "qemu.raw")
        assert_read_as(vhdx, tmp_path / "qemu.raw", image)
        with open(tmp_path / "qemu.raw", "rb") as raw:
            for block in range(20):
                raw.seek(block * MIB + number * 65536)
                assert raw.read(4096) == bytes([number + 1]) * 4096
                raw.seek(block * MIB + number * 65536 + 8192)
                assert raw.read(4096) == bytes([number + 101]) * 4096


def test_large_and_empty(vhdx, peers, tmp_path):
    peers.peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=256M", "a.vhdx", "64T")
    extents = vhdx.json("map", "--json", "a.vhdx")
    assert sum(extent["length"] for extent in extents) == 64 << 40 and not any(extent["data"] for extent in extents)
    assert vhdx.run("check", "-q", "a.vhdx").returncode in (0, 3)


# ---- killed writers ----

@pytest.fixture
def may_trace(peers):
    if b"ptrace" in peers.peer("strace", "true", status=None):
        pytest.skip("strace may not trace here")


def kill_qemu(peers, image, *options, at_write):
    """Let QEMU write to the image and end it by SIGKILL when it begins its n-th write."""
    peers.peer("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=pwrite64:signal=KILL:when={at_write}",
               "qemu-img", "bench", "-f", "vhdx", "-w", "-t", "writeback", "-d", "1", *options, image, status=None)


def look_at_killed(vhdx, peers, image, copy, seen):
    """One image of a killed QEMU; `copy` is for QEMU to open, since that changes it.  Counts what was `seen`."""
    shutil.copy(image, copy)
    peers.peer("qemu-img", "check", "-q", "-r", "all", "-f", "vhdx", copy, status=None)
    peers.peer("qemu-img", "convert", "-f", "vhdx", "-O", "raw", copy, "qemu.raw")
    raw = peers.folder / "qemu.raw"
    before = state(image)
    done = vhdx.run("info", "--json", image)
    document = json.loads(done.stdout)
    if done.returncode != 0:
        seen["no valid entry"] += 1
        assert document["error"]["rule"] == "V30", document
        assert "--ignore-log" in vhdx.fails(1, "map", image) and "--ignore-log" in vhdx.fails(1, "replay", image)
        assert state(image) == before
        assert_read_as(vhdx, raw, image, "--ignore-log")
        return False
    seen["dirty" if document["dirty-flag"] else "clean"] += 1
    assert_read_as(vhdx, raw, image)
    vhdx("replay", "-q", image)
    assert vhdx.json("info", "--json", image)["dirty-flag"] is False
    assert_read_as(vhdx, raw, image)
    assert vhdx.run("check", "-q", image).returncode in (0, 3)
    peers.assert_sound(image)
    peers.assert_same_for_qemu(raw, image)
    return True


@pytest.mark.parametrize("seed", range(3))
def test_killed_writers(vhdx, peers, may_trace, tmp_path, seed):
    """Killed again and again, the image of one round being the start of the next.

    Each round allocates blocks that no round before it did, and ends one write later than that one: QEMU makes the same
    few writes for every block, so the rounds meet all their places.
    """
    draw = random.Random(seed)
    image, copy = tmp_path / "a.vhdx", tmp_path / "copy.vhdx"
    seen = collections.Counter()
    first_write = draw.randrange(4, 24)
    can_go_on = False
    for number in range(13):
        if not can_go_on:
            peers.peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", "a.vhdx", "128M")
        kill_qemu(peers, image, "-c", "9", "-s", "8K", "-S", draw.choice([MIB, MIB + 4096]),
                  "-o", number * 9 * MIB + draw.randrange(64) * 4096, f"--pattern={draw.randrange(1, 256)}",
                  at_write=first_write + number)
        can_go_on = look_at_killed(vhdx, peers, image, copy, seen)
    assert seen["dirty"] > 0, (first_write, seen)


def test_killed_before_the_first_entry(vhdx, peers, may_trace, tmp_path):
    """The header asks for a replay and the log is empty: what QEMU leaves when it is killed just there (V30)."""
    peers.peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", "a.vhdx", "16M")
    image = tmp_path / "a.vhdx"
    peers.peer("qemu-img", "bench", "-f", "vhdx", "-w", "-c", "9", "-d", "1", "-s", "4K", "-S", "1M",
               "--pattern=65", image)
    # That session ended well.  The next is ended at one of its first writes: which it must be is QEMU's affair.
    for at_write in range(2, 12):
        copy = tmp_path / "killed.vhdx"
        shutil.copy(image, copy)
        kill_qemu(peers, copy, "-c", "3", "-o", "10M", "-s", "4K", "--pattern=66", at_write=at_write)
        seen = collections.Counter()
        look_at_killed(vhdx, peers, copy, tmp_path / "copy.vhdx", seen)
        if seen["no valid entry"]:
            return
    pytest.fail("no kill left a log without an entry")
