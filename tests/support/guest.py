"""What the tests of whole images share: the helpers of tests/command and tests/nbd, and digests of guest disks.

A folder's conftest adds this folder to sys.path and takes the fixtures from here: each helper is written once.
"""
import hashlib
import importlib.util
import os
import pathlib

TESTS = pathlib.Path(__file__).resolve().parents[1]
PAGE = 4096
ZEROS = bytes(PAGE)
PIECE = 1024 * 1024


def load_conftest(folder):
    """The conftest of another folder, under a name of its own."""
    path = TESTS / folder / "conftest.py"
    specification = importlib.util.spec_from_file_location(f"conftest_of_{folder}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def file_digest(path):
    """sha256 of a file, holes read as the zeros they are."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def data_extents(path):
    """(offset, length) of what the host file holds, in order."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < end:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:
                return
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            yield start, offset - start


class PageDigest:
    """sha256 over (8-byte little-endian offset, data) of every 4 KiB page of a disk that is not all zeros.

    It says the same as a digest of the whole disk and can be had of a 64 TiB one.  Pieces come in ascending order;
    each begins at a multiple of 4 KiB.
    """

    def __init__(self):
        self.digest = hashlib.sha256()

    def add(self, offset, data):
        for at in range(0, len(data), PAGE):
            page = data[at:at + PAGE]
            if page != ZEROS[:len(page)]:
                self.digest.update((offset + at).to_bytes(8, "little"))
                self.digest.update(page)

    def hexdigest(self):
        return self.digest.hexdigest()


def pages_of_file(path, extents=None):
    """The page digest of a raw disk, or of the one whose `extents` (guest start, length, file offset) are given."""
    digest = PageDigest()
    if extents is None:
        extents = ((start, length, start) for start, length in data_extents(path))
    with open(path, "rb") as file:
        for start, length, file_offset in extents:
            assert start % PAGE == 0
            for at in range(0, length, PIECE):
                file.seek(file_offset + at)
                digest.add(start + at, file.read(min(PIECE, length - at)))
    return digest.hexdigest()
