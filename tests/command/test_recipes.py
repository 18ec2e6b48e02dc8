"""docs/recipes.md: every block of commands there, run as it stands."""
import os
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

from conftest import COMMAND, MIB, MOUNT_HELPER, PLUGIN

RECIPES = pathlib.Path(__file__).parents[2] / "docs" / "recipes.md"


def recipes():
    """The commands of each recipe, by its name."""
    found = {}
    for name, block in re.findall(r"<!-- recipe: ([a-z-]+) -->\n\n((?:    .*\n)+)", RECIPES.read_text()):
        lines = [line[4:] for line in block.splitlines()]
        assert name not in found and all(line.startswith("$ ") for line in lines), name
        found[name] = [line[2:] for line in lines]
    return found


class Kitchen:
    """A folder with what a recipe begins with; cook() runs it as a shell would, one command after the other."""

    def __init__(self, vhdx, peer, folder):
        self.vhdx, self.peer, self.folder = vhdx, peer, folder

    def cook(self, name):
        environment = {**os.environ, "PATH": f"{COMMAND.parent}:/usr/sbin:/sbin:{os.environ['PATH']}",
                       "VHDX_NBDKIT_PLUGIN": str(PLUGIN)}
        script = "set -eu\n" + "\n".join(recipes()[name])
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=environment, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout.decode()

    def make_raw(self, path, size=24 * MIB):
        with open(self.folder / path, "wb") as file:
            file.truncate(size)
            for at in range(0, size, 3 * MIB):
                file.seek(at)
                file.write(random.Random(at).randbytes(MIB))

    def make_disk(self, path="disk.vhdx"):
        self.make_raw("made.raw")
        self.vhdx("convert", "-f", "raw", "--block-size", "1M", "made.raw", path)
        os.remove(self.folder / "made.raw")

    def contents(self, path):
        self.vhdx("convert", "--force", path, "contents.raw")
        return (self.folder / "contents.raw").read_bytes()


@pytest.fixture
def kitchen(vhdx, peer, tmp_path):
    return Kitchen(vhdx, peer, tmp_path)


def test_every_recipe_is_cooked():
    source = pathlib.Path(__file__).read_text()
    assert set(recipes()) == set(re.findall(r'\.cook\("([a-z-]+)"\)', source))


def test_shrink(kitchen, tmp_path):
    with open(tmp_path / "ext4.raw", "wb") as file:
        file.truncate(128 * MIB)
    (tmp_path / "large").write_bytes(os.urandom(40 * MIB))
    kitchen.peer("mkfs.ext4", "-q", "-F", "ext4.raw")
    kitchen.peer("debugfs", "-w", "-R", "write large gone", "ext4.raw")
    kitchen.vhdx("convert", "-f", "raw", "--block-size", "1M", "ext4.raw", "ext4.vhdx")
    kitchen.vhdx("convert", "ext4.vhdx", "before.raw")
    kitchen.peer("debugfs", "-w", "-R", "rm gone", "before.raw")
    kitchen.vhdx("convert", "-f", "raw", "--block-size", "1M", "--force", "-S", "0", "before.raw", "ext4.vhdx")
    before = os.path.getsize(tmp_path / "ext4.vhdx")
    kitchen.cook("shrink")
    assert before > 50 * MIB and os.path.getsize(tmp_path / "ext4.vhdx") < before - 35 * MIB
    kitchen.vhdx("convert", "ext4.vhdx", "after.raw")
    kitchen.peer("e2fsck", "-fn", "after.raw")


def test_merge(kitchen, tmp_path):
    kitchen.make_disk()
    kitchen.vhdx("create", "--parent", "disk.vhdx", "today.avhdx")
    kitchen.vhdx("bench", "-w", "-c", "5", "-s", "1M", "--pattern", "7", "today.avhdx")
    expected = kitchen.contents("today.avhdx")
    assert "today.avhdx" in kitchen.cook("merge")
    assert not (tmp_path / "today.avhdx").exists() and kitchen.contents("disk.vhdx") == expected


def test_moved(kitchen, tmp_path):
    kitchen.make_disk()
    kitchen.vhdx("create", "--parent", "disk.vhdx", "today.avhdx")
    (tmp_path / "elsewhere").mkdir()
    os.rename(tmp_path / "disk.vhdx", tmp_path / "elsewhere/disk.vhdx")
    kitchen.vhdx.fails(1, "convert", "today.avhdx", "a.raw")
    kitchen.cook("moved")
    kitchen.vhdx("convert", "today.avhdx", "a.raw")


def test_dirty(kitchen, tmp_path):
    kitchen.make_disk()
    child = kitchen.vhdx.start("bench", "-w", "-q", "-d", "1", "-c", "100000000", "-s", "4096", "--pattern", "65",
                               "--flush-interval", "1", "disk.vhdx")
    deadline = time.monotonic() + 60
    while kitchen.vhdx.run("info", "-U", "--is", "dirty", "disk.vhdx").returncode != 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=60)
    before = (tmp_path / "disk.vhdx").read_bytes()
    assert "holds changes" in kitchen.cook("dirty")
    assert (tmp_path / "disk.vhdx").read_bytes() == before
    assert (tmp_path / "disk.raw").read_bytes()[:4096] == b"A" * 4096


def test_hyperv(kitchen, tmp_path):
    kitchen.make_raw("server.img")
    kitchen.cook("hyperv")
    assert b"identical" in kitchen.peer("qemu-img", "compare", "-f", "raw", "server.img", "server.vhdx")


def test_azure(kitchen, tmp_path):
    kitchen.make_raw("server.img", 5 * MIB + 512)
    kitchen.cook("azure")
    assert os.path.getsize(tmp_path / "server.vhd") == 6 * MIB + 512
    footer = (tmp_path / "server.vhd").read_bytes()[-512:]
    assert footer[:8] == b"conectix" and struct.unpack(">Q", footer[48:56])[0] == 6 * MIB


def test_boot(kitchen, tmp_path):
    if shutil.which("nbdkit") is None or not PLUGIN.exists():
        pytest.skip("no nbdkit")
    kitchen.make_disk()
    assert "24 MiB" in kitchen.cook("boot")


def test_mount(kitchen, tmp_path):
    if not os.path.exists("/dev/fuse") or not MOUNT_HELPER.exists():
        pytest.skip("no FUSE here")
    kitchen.make_disk()
    (tmp_path / "mnt").mkdir()
    assert "disk.raw" in kitchen.cook("mount")
    assert not os.path.ismount(tmp_path / "mnt")


def test_backup(kitchen, tmp_path):
    kitchen.make_disk()
    (tmp_path / "backup").mkdir()
    kitchen.cook("backup-first")
    kitchen.vhdx("bench", "-w", "-c", "2", "-s", "1M", "-o", "4M", "--pattern", "7", "disk.vhdx")
    kitchen.cook("backup-next")
    assert os.path.getsize(tmp_path / "backup/tuesday.vhdx") < 10 * MIB
    kitchen.vhdx("flatten", "backup/tuesday.vhdx", "restored.vhdx")
    kitchen.vhdx("compare", "restored.vhdx", "disk.vhdx")


def test_evidence(kitchen, tmp_path):
    kitchen.make_disk("evidence.vhdx")
    before = (tmp_path / "evidence.vhdx").read_bytes()
    kitchen.cook("evidence")
    assert (tmp_path / "evidence.vhdx").read_bytes() == before
    assert os.path.getsize(tmp_path / "as-it-lies.raw") == 24 * MIB


def test_broken(kitchen, tmp_path):
    """An entry of the table points far past the end of the file."""
    kitchen.make_disk()
    table = kitchen.vhdx.json("info", "--json", "disk.vhdx")
    place = next(value["offset"] for key, value in table.items() if key in ("bat", "block-allocation-table"))
    with open(tmp_path / "disk.vhdx", "r+b") as file:
        file.seek(place)
        file.write(struct.pack("<Q", 6 | 1 << 40))
    damaged = (tmp_path / "disk.vhdx").read_bytes()
    kitchen.vhdx.fails(2, "check", "disk.vhdx")
    kitchen.cook("broken")
    kitchen.vhdx("check", "--apply-undo", "disk.undo", "disk.vhdx")
    assert (tmp_path / "disk.vhdx").read_bytes() == damaged
