"""Partition tables, made by hand: where the numbers are wrong, they are wrong on purpose."""

import shutil
import struct
import uuid
import zlib

LINUX = uuid.UUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4").bytes_le
MIB = 1 << 20


def mbr_entry(kind, first, count):
    return struct.pack("<B3xB3xII", 0, kind, first, count)


def mbr(*entries):
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def gpt_header(sector, other, entries_sector, entries, disk_sectors, entry_sectors):
    header = bytearray(struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, sector, other, 2 + entry_sectors,
                                   disk_sectors - 2 - entry_sectors, b"D" * 16, entries_sector, 128, 128,
                                   zlib.crc32(entries)))
    struct.pack_into("<I", header, 16, zlib.crc32(header))
    return bytes(header)


def write_gpt(path, size, partitions, sector=512):
    """partitions: (first sector, sectors)"""
    sectors, room = size // sector, 128 * 128 // sector
    entries = b"".join(struct.pack("<16s16sQQQ72x", LINUX, bytes([i + 1]) * 16, first, first + count - 1, 0)
                       for i, (first, count) in enumerate(partitions)).ljust(128 * 128, b"\0")
    with open(path, "r+b") as file:
        file.truncate(size)
        file.write(mbr(mbr_entry(0xEE, 1, min(sectors - 1, 0xFFFFFFFF))))
        file.seek(sector)
        file.write(gpt_header(1, sectors - 1, 2, entries, sectors, room))
        file.seek(2 * sector)
        file.write(entries)
        file.seek((sectors - 1 - room) * sector)
        file.write(entries)
        file.seek((sectors - 1) * sector)
        file.write(gpt_header(sectors - 1, 1, sectors - 1 - room, entries, sectors, room))


def wrap(volume, target, table, sector=512):
    """A disk with the volume as its first partition, at 1 MiB."""
    length = volume.stat().st_size
    size = length + 3 * MIB
    target.touch()
    if table == "GPT":
        write_gpt(target, size, [(MIB // sector, length // sector)], sector)
    else:
        with open(target, "r+b") as file:
            file.truncate(size)
            file.write(mbr(mbr_entry(0x83, MIB // sector, length // sector)))
    with open(volume, "rb") as source, open(target, "r+b") as file:
        file.seek(MIB)
        shutil.copyfileobj(source, file, MIB)
    return target


def unwrap(disk, volume):
    """The partition, back into its file."""
    length = volume.stat().st_size
    with open(disk, "rb") as source, open(volume, "r+b") as file:
        source.seek(MIB)
        file.write(source.read(length))
