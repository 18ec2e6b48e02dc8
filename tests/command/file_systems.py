"""Images with real file systems in them, filled and deleted from, for the tests of verbs about space.

All over the free space of the disks lie bytes of no meaning: what is free has been used before, as in an image that has
lived.
"""
import copy
import pathlib
import shutil
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "fs"))
from makers import KINDS, make  # noqa: E402
from tables import unwrap, wrap  # noqa: E402
from tools import probe, run  # noqa: E402

BLOCK = 1 << 20
HAVE = all(shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin")
           for tool in ("mkfs.ext4", "mkntfs", "mkfs.vfat", "mkfs.exfat", "mcopy", "debugfs"))


def free_ranges(disk):
    return [r for volume in probe(disk, "--ranges")["volumes"] for r in volume["ranges"]]


def litter(disk):
    """Junk in every block of 1 MiB that has free space: 16 KiB of each 128 KiB, so that tests stay quick."""
    with open(disk, "r+b") as file:
        for at, length in free_ranges(disk):
            for start in range(at, at + length, 128 * 1024):
                file.seek(start)
                file.write(b"junk" * (min(16 * 1024, at + length - start) // 4))


class Guest:
    """A file system, the disk around it, and an image of that."""

    def __init__(self, vhdx, maker, folder, table=None, sector=512):
        self.vhdx, self.folder, self.table, self.sector = vhdx, folder, table, sector
        self.maker = copy.copy(maker)
        self.maker.folder, self.maker.path = folder, folder / "volume"
        shutil.copyfile(maker.path, self.maker.path)

    def disk(self):
        if self.table is None:
            return self.maker.path
        return wrap(self.maker.path, self.folder / "disk.raw", self.table, self.sector)

    def image(self, name, *options):
        """A new image of the disk as it is now."""
        self.vhdx("convert", "-q", "-f", "raw", "--block-size", str(BLOCK), "--logical-sector", str(self.sector), *options,
                  self.disk(), name)
        return self.folder / name

    def smallest_size(self):
        """Of a file with the blocks that hold something and are not free as a whole, and what every image needs."""
        live = set()
        with open(self.disk(), "rb") as file:
            while block := file.read(BLOCK):
                if block.strip(b"\0"):
                    live.add((file.tell() - 1) // BLOCK)
        for at, length in free_ranges(self.disk()):
            live -= set(range(-(-at // BLOCK), (at + length) // BLOCK))
        return 4 * BLOCK + len(live) * BLOCK

    def smallest(self, name):
        """An image of the same files that never had anything else: free space is zeros."""
        disk = self.folder / "zeroed.raw"
        shutil.copyfile(self.disk(), disk)
        ranges = free_ranges(disk)
        with open(disk, "r+b") as file:
            for at, length in ranges:
                file.seek(at)
                file.write(bytes(length))
        self.vhdx("convert", "-q", "-f", "raw", "--block-size", str(BLOCK), "--logical-sector", str(self.sector), disk, name)
        return self.folder / name

    def assert_files_are_intact_in(self, image, *options):
        """The real checker is content with the file system in the image, and each file has its hash."""
        disk = self.maker.path if self.table is None else self.folder / "disk.raw"
        self.vhdx("convert", "-q", *options, "-O", "raw", "--force", image, disk)
        if self.table is not None:
            unwrap(disk, self.maker.path)
        self.maker.assert_intact()


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """filled(KIND): a maker whose file system is made once."""
    made = {}

    def get(kind):
        if not HAVE:
            pytest.skip("not every tool that makes file systems is installed")
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)

            def new_file(name, size):
                with open(folder / name, "wb") as file:
                    file.truncate(size)
                return folder / name

            made[kind] = make(kind, new_file, folder)
            litter(made[kind].path)
        return made[kind]

    return get


@pytest.fixture
def guest(vhdx, filled, tmp_path):
    return lambda kind, table=None, sector=512: Guest(vhdx, filled(kind), tmp_path, table, sector)
