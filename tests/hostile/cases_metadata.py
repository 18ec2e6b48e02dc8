"""The metadata table and the values of its items."""
import struct

import builder as b
from builder import GIB, MIB, TIB, Item
from verdicts import case, child, good, read_only, refused

UNKNOWN = b.unknown_guid(7)


def drop(kind):
    return lambda image: image.metadata.items.remove(image.metadata.item(kind))


def change(kind, **fields):
    return lambda image: image.metadata.item(kind).change(**fields)


def add(*items):
    return lambda image: image.metadata.items.extend(items)


def move_metadata(image, length):
    """The metadata to the end of the file, where there is room; something else takes its place."""
    image.region(b.METADATA).change(offset=6 * MIB, length=length)
    image.regions.append(b.Region(b.unknown_guid(1), 2 * MIB, MIB, required=0))
    image.metadata_offset = 6 * MIB
    image.length = 6 * MIB + length


def bend_overlap(image):
    """The disk id begins where the physical sector size is, and with its value."""
    image.metadata.item(b.DISK_ID).change(data=struct.pack("<I12s", 4096, b"x" * 12), offset=64 * b.KIB + 20)


def bend_many(count, flags):
    def bend(image):
        for number in range(count):
            image.metadata.items.append(Item(b.unknown_guid(number), b"", flags=flags))

    return bend


def bend_large_items(image):
    """41 items of a MiB each."""
    move_metadata(image, 42 * MIB)
    for number in range(41):
        image.metadata.items.append(Item(b.unknown_guid(number), b"", flags=0, length=MIB,
                                         offset=64 * b.KIB + 4096 + number * MIB))


bad_metadata = "BAD_METADATA"

case("met-sig", "the signature", refused(75, bad_metadata), lambda i: i.metadata.change(signature=b"METADATA"))
case("met-count-2048", "EntryCount 2048", refused(76, bad_metadata), lambda i: i.metadata.change(count=2048))
case("met-count-ffff", "EntryCount 65535", refused(76, bad_metadata), lambda i: i.metadata.change(count=65535))
case("met-count0", "EntryCount 0", refused(91, bad_metadata, 92, 93, 98, 100), lambda i: i.metadata.change(count=0))
case("met-count-short", "EntryCount 3: neither physical sector size nor disk id", read_only(98, 100),
     lambda i: i.metadata.change(count=3))
case("met-missing-fileparams", "no file parameters", refused(91, bad_metadata), drop(b.FILE_PARAMETERS))
case("met-missing-size", "no disk size", refused(92, bad_metadata), drop(b.DISK_SIZE))
case("met-missing-lss", "no logical sector size", refused(93, bad_metadata), drop(b.LOGICAL_SECTOR))
case("met-missing-pss", "no physical sector size", read_only(98), drop(b.PHYSICAL_SECTOR))
case("met-missing-page83", "no disk id", read_only(100), drop(b.DISK_ID))
case("met-dup-size", "two disk sizes", refused(78, bad_metadata),
     add(Item(b.DISK_SIZE, struct.pack("<Q", 8 * MIB))))
case("met-dup-unknown", "an unknown item twice", refused(78, bad_metadata),
     add(Item(UNKNOWN, b"x", flags=0), Item(UNKNOWN, b"y", flags=0)))
case("met-unknown-required", "an unknown item that is required", refused(85, "UNSUPPORTED"),
     add(Item(UNKNOWN, b"x", flags=4)))
case("met-user-required", "a user item that is required", refused(86, bad_metadata),
     add(Item(UNKNOWN, b"x", flags=5)))
case("met-item-off-table", "an item inside the table", refused(82, bad_metadata, follow=[92]),
     change(b.DISK_SIZE, offset=4096))
case("met-item-off-eor", "an item at the end of the region", refused(82, bad_metadata, follow=[92]),
     change(b.DISK_SIZE, offset=MIB))
case("met-item-off-wrap", "offset and length overflow 32 bits", refused(82, bad_metadata, follow=[92]),
     change(b.DISK_SIZE, offset=0xFFFFFFFF))
case("met-item-len-huge", "an unknown item of 4 GiB", read_only(80, 82, 90),
     add(Item(UNKNOWN, b"x", flags=0, length=0xFFFFFFF0)))
case("met-item-unknown-out", "an unknown item behind the region", read_only(82),
     add(Item(UNKNOWN, b"", flags=0, offset=MIB, length=1)))
case("met-item-len-1m1", "an unknown item of more than 1 MiB", read_only(80),
     lambda i: (move_metadata(i, 3 * MIB), add(Item(UNKNOWN, b"x", flags=0, length=MIB + 1))(i)))
case("met-overlap", "two known items overlap", refused(83, bad_metadata), bend_overlap)
case("met-overlap-unknown", "two unknown items overlap", read_only(83),
     add(Item(UNKNOWN, b"four", flags=0, offset=128 * b.KIB),
         Item(b.unknown_guid(8), b"four", flags=0, offset=128 * b.KIB + 2)))
case("met-len0-off", "an empty item with an offset", good(81), add(Item(UNKNOWN, b"", flags=0, offset=64 * b.KIB)))
case("met-guid0", "an item whose id is zero", good(79), add(Item(b.NO_GUID, b"x", flags=0)))
case("met-flags-res", "reserved flag bits", good(87), change(b.DISK_SIZE, flags=0x80000006))
case("met-res2", "the last 4 bytes of an entry", good(87), change(b.DISK_SIZE, reserved=1))
case("met-hdr-res", "reserved bytes of the table", good(77),
     lambda i: i.metadata.change(reserved2=bytes(19) + b"x"))
case("met-fp-virtual", "file parameters said to be of the disk", good(94), change(b.FILE_PARAMETERS, flags=6))
case("met-size-notvirtual", "the disk size said to be of the file", good(94), change(b.DISK_SIZE, flags=4))
case("met-incomplete", "creation was interrupted", refused(88, "INCOMPLETE"), add(Item(b.INCOMPLETE, b"", flags=4)))
case("met-fp-short", "file parameters of 4 bytes", refused(91, bad_metadata), change(b.FILE_PARAMETERS, length=4))
case("met-size-len4", "a disk size of 4 bytes", refused(92, bad_metadata), change(b.DISK_SIZE, length=4))
case("met-user-1024", "1024 user items", good(), bend_many(1024, 1))
case("met-user-1025", "1025 user items", refused(84, bad_metadata), bend_many(1025, 1))
case("met-system-1024", "1024 system items", good(106), bend_many(1019, 0))
case("met-items-41m", "41 MiB of items", good(90), bend_large_items)
case("met-region-129m", "a region of 129 MiB", good(89), lambda i: move_metadata(i, 129 * MIB))

for name, size in (("0", 0), ("1", 1), ("512k", MIB // 2), ("1m-1", MIB - 1), ("3m", 3 * MIB), ("512m", 512 * MIB),
                   ("2g", 2 * GIB), ("max", 2**32 - 1)):
    case(f"val-bs-{name}", f"BlockSize {size}", refused(95, bad_metadata),
         lambda i, size=size: i.set_value(b.FILE_PARAMETERS, "<II", size, 0))
case("val-bs-256m", "BlockSize 256 MiB", good(), lambda i: i.empty_disk(block_size=256 * MIB))
for size in (0, 1, 511, 1024, 2048, 8192, 2**32 - 1):
    case(f"val-lss-{size}", f"LogicalSectorSize {size}", refused(97, bad_metadata),
         lambda i, size=size: i.set_value(b.LOGICAL_SECTOR, "<I", size))
for size in (0, 1, 1024, 2**32 - 1):
    case(f"val-pss-{size}", f"PhysicalSectorSize {size}", read_only(98),
         lambda i, size=size: i.set_value(b.PHYSICAL_SECTOR, "<I", size))
for name, size in (("0", 0), ("unaligned", 4 * MIB - 1), ("64t+1s", 64 * TIB + 512), ("4p", 4 * b.PIB),
                   ("2^63", 2**63), ("2^63-512", 2**63 - 512), ("max", 2**64 - 1)):
    case(f"val-size-{name}", f"VirtualDiskSize {size}", refused(99, bad_metadata),
         lambda i, size=size: i.set_value(b.DISK_SIZE, "<Q", size))
case("val-size-64t", "the largest disk", good(), lambda i: (
    i.empty_disk(block_size=256 * MIB, disk_size=64 * TIB), i.region(b.BAT).change(length=3 * MIB),
    i.set(length=6 * MIB)), can_convert=False)
case("val-size-bat-short", "64 TiB in 1 MiB blocks and 1 MiB of BAT", refused(130, "BAD_BAT"),
     lambda i: i.empty_disk(disk_size=64 * TIB), can_convert=False)
case("val-size-bat-short-by-1", "131073 entries, room for 131072", refused(130, "BAD_BAT"),
     lambda i: i.empty_disk(disk_size=131042 * MIB))
case("val-size-bat-exact", "131072 entries, room for 131072", good(),
     lambda i: i.empty_disk(disk_size=131041 * MIB))
case("val-fp-flags-res", "reserved bits of the file parameters", good(96),
     lambda i: i.set_value(b.FILE_PARAMETERS, "<II", MIB, 0x80000000))
case("val-hasparent-nolocator", "HasParent and no locator", refused(101, "BAD_LOCATOR"),
     lambda i: i.set_value(b.FILE_PARAMETERS, "<II", MIB, 2))
case("val-locator-noparent", "a locator and no HasParent", good(102), add(
    Item(b.PARENT_LOCATOR, b.Locator([("parent_linkage", b.PARENT_LINKAGE), ("relative_path", r".\p")]).encode(),
         flags=4)))
case("val-fixed-with-parent", "LeaveBlocksAllocated and HasParent", child(103), lambda i: (
    i.make_child(), i.set_value(b.FILE_PARAMETERS, "<II", MIB, 3)))
case("val-id-zero", "a disk id of zeros", good(104), lambda i: i.set_value(b.DISK_ID, "16s", b.NO_GUID))
case("val-pss-below-lss", "physical sectors smaller than logical ones", good(105),
     lambda i: (i.set_value(b.LOGICAL_SECTOR, "<I", 4096), i.set_value(b.PHYSICAL_SECTOR, "<I", 512)))
case("val-size-2m", "a disk smaller than Windows makes", good(107), lambda i: i.empty_disk(disk_size=2 * MIB))
