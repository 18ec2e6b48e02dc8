"""Tests beside other programs that read and write VHDX.  VHDX_BUILD names the build directory."""
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "support"))
sys.path.append(str(TESTS / "hostile"))  # builder.py

import guest  # noqa: E402

command = guest.load_conftest("command")
served = guest.load_conftest("nbd")

vhdx = command.vhdx
peer = command.peer
MIB = command.MIB
GIB = 1024 * MIB
BLOCK_SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]


@pytest.fixture(autouse=True)
def no_files_are_left(tmp_path):
    """The images take gigabytes together, so each goes when its test ends."""
    yield
    shutil.rmtree(tmp_path)


class Disk:
    """A raw disk to be converted, and its digests."""

    def __init__(self, path):
        self.path = path
        self.size = path.stat().st_size
        self.pages = guest.pages_of_file(path)
        self.digest = guest.file_digest(path) if self.size < GIB else None


@pytest.fixture(scope="session")
def ext4_disk(tmp_path_factory):
    """A file system with real files: our own sources."""
    if shutil.which("mke2fs") is None:
        pytest.skip("mke2fs is not installed")
    path = tmp_path_factory.mktemp("ext4") / "ext4.raw"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", guest.TESTS.parent / "src", path, "65M"], check=True)
    yield Disk(path)
    path.unlink()


@pytest.fixture(scope="session")
def sparse_disk(tmp_path_factory):
    """Over one chunk, mostly holes, with data at the seams; the last block is a part of one at every block size."""
    path = tmp_path_factory.mktemp("sparse") / "sparse.raw"
    draw = random.Random(4)
    with open(path, "wb") as file:
        file.truncate(5 * GIB + 300 * MIB + 512 * 1024)
        for offset in (0, MIB - 3000, 700 * MIB + 12345, 4 * GIB - 5000, 5 * GIB, 5 * GIB + 300 * MIB + 500 * 1024):
            file.seek(offset)
            file.write(draw.randbytes(10000))
    yield Disk(path)
    path.unlink()


class Peers:
    """What other programs say of an image of ours."""

    def __init__(self, peer, folder):
        self.peer = peer
        self.folder = folder

    def assert_sound(self, image):
        assert b"No errors were found" in self.peer("qemu-img", "check", "-f", "vhdx", image)

    def assert_same_for_qemu(self, raw, image):
        assert b"Images are identical" in self.peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", raw, image)

    def assert_same_for_7zip(self, digest, image):
        self.peer("7zz", "i")
        with subprocess.Popen(["7zz", "x", "-so", "-tvhdx", str(image)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as extract:
            found = hashlib.sha256()
            while piece := extract.stdout.read(MIB):
                found.update(piece)
            message = extract.stderr.read()
        assert extract.returncode == 0, message
        assert found.hexdigest() == digest

    def assert_opened_by_libvhdi(self, size, image):
        assert f"({size} bytes)".encode() in self.peer("vhdiinfo", image)


@pytest.fixture
def peers(peer, tmp_path):
    return Peers(peer, tmp_path)


def state(path):
    """What must not change when an image is only read."""
    return guest.pages_of_file(path), os.stat(path).st_size, os.stat(path).st_mtime_ns
