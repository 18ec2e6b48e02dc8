"""The block allocation table, and the space it hands out."""
import builder as b
from builder import FULLY_PRESENT, MIB, Region, bat_entry
from verdicts import bad_blocks, case, good, read_only


def put(index, state, file_offset=0, reserved=0):
    return lambda image: image.bat.update({index: bat_entry(state, file_offset) | reserved})


def put_over(index, file_offset):
    """Block `index` present where something else lies, which is what the guest reads."""
    def bend(image):
        image.bat[index] = bat_entry(FULLY_PRESENT, file_offset)
        image.disk[index] = file_offset

    return bend


def large_blocks(bat, length, disk):
    """A disk of two 2 MiB blocks with these entries."""
    def bend(image):
        image.empty_disk(block_size=2 * MIB)
        image.bat = bat
        image.length = length
        for offset, data in ((4, b.pattern(0)), (5, b.pattern(1)), (6, b.pattern(2)), (7, b.pattern(3))):
            image.blocks[offset * MIB] = data
        image.disk = disk

    return bend


def bend_bitmap_entry(image):
    """A disk of two chunks; the bitmap entry between them is used."""
    image.empty_disk(disk_size=5 * b.GIB)
    image.bat = {4096: bat_entry(FULLY_PRESENT, 4 * MIB)}
    image.length = 4 * MIB


def bend_fixed(image):
    image.set_value(b.FILE_PARAMETERS, "<II", MIB, 1)
    for index in (1, 2):
        image.bat[index] = bat_entry(FULLY_PRESENT, (5 + index) * MIB)
    image.length = 8 * MIB


def bend_cut_at_the_end(image):
    """QEMU's last block: the file ends where the disk ends."""
    large_blocks({0: bat_entry(FULLY_PRESENT, 4 * MIB), 1: bat_entry(FULLY_PRESENT, 6 * MIB)}, 7 * MIB,
                 {0: b.pattern(0), 1: b.pattern(1), 2: b.pattern(2)})(image)
    image.disk_size = 3 * MIB
    image.set_value(b.DISK_SIZE, "<Q", 3 * MIB)


for state in (4, 5):
    case(f"bat-state{state}", f"reserved state {state}", bad_blocks(131, 1), put(1, state))
case("bat-reserved-bits", "reserved bits", good(140), put(3, FULLY_PRESENT, 5 * MIB, reserved=0xFFFF8))
case("bat-present-off0", "present at offset 0", bad_blocks(132, 1), put(1, FULLY_PRESENT))
case("bat-off-max", "the largest offset there is", bad_blocks(132, 1), put(1, FULLY_PRESENT, (2**44 - 1) * MIB))
case("bat-off-2^63", "the first offset that is out of range", bad_blocks(132, 1), put(1, FULLY_PRESENT, 2**63))
case("bat-off-4p", "4 PiB behind the start", bad_blocks(134, 1), put(1, FULLY_PRESENT, 4 * b.PIB))
case("bat-present-over-meta", "a block over the metadata", read_only(135), put_over(1, 2 * MIB))
case("bat-present-over-bat", "a block over the BAT", read_only(135), put_over(1, 3 * MIB))
case("bat-present-over-log", "a block over the log", read_only(135), put_over(1, MIB))
case("bat-present-over-optional", "a block over an optional region", read_only(135), lambda i: (
    i.regions.append(Region(b.unknown_guid(1), 6 * MIB, MIB, 0)), put_over(1, 6 * MIB)(i), i.set(length=7 * MIB)))
case("bat-dup", "two blocks at one place", read_only(137), put_over(1, 4 * MIB))
case("bat-all-present-same", "all blocks at one place", read_only(137), lambda i: (
    i.set(bat={n: bat_entry(FULLY_PRESENT, 4 * MIB) for n in range(4)},
                   disk={n: b.pattern(0) for n in range(4)}, length=5 * MIB)))
case("bat-overlap", "two blocks half over each other", read_only(135), large_blocks(
    {0: bat_entry(FULLY_PRESENT, 4 * MIB), 1: bat_entry(FULLY_PRESENT, 5 * MIB)}, 7 * MIB,
    {0: b.pattern(0), 1: b.pattern(1), 2: b.pattern(1), 3: b.pattern(2)}))
case("bat-eof", "a block behind the end of the file", bad_blocks(134, 1), put(1, FULLY_PRESENT, 64 * MIB))
case("bat-eof-partial", "a block that the end of the file cuts in half", bad_blocks(134, 2),
     large_blocks({0: bat_entry(FULLY_PRESENT, 4 * MIB), 1: bat_entry(FULLY_PRESENT, 6 * MIB)}, 7 * MIB, {}))
case("bat-eof-last-at-the-end", "the last block cut where the disk ends", good(136), bend_cut_at_the_end)
case("bat-partial-nodiff", "state 7 without a parent", read_only(133), put(3, b.PARTIALLY_PRESENT, 5 * MIB))
case("bat-notpresent-offset", "an absent block with an offset", good(138), put(1, b.NOT_PRESENT, 3 * MIB))
case("bat-zero-offset", "a zero block with an offset", good(138), put(1, b.ZERO, 4 * MIB))
case("bat-anchor", "an unmapped block keeps its place", good(), lambda i: (
    put(1, b.UNMAPPED, 6 * MIB)(i), i.set(length=7 * MIB)))
case("bat-anchor-over", "an unmapped block keeps the place of another", good(139), put(1, b.UNMAPPED, 5 * MIB))
case("bat-anchor-eof", "an unmapped block keeps a place that is not there", good(139),
     put(1, b.UNDEFINED, 64 * MIB))
case("bat-sb-present", "a sector bitmap without a parent", good(142), bend_bitmap_entry)
case("bat-sb-state7", "a sector bitmap entry in state 7, unused", good(142),
     lambda i: (bend_bitmap_entry(i), put(4096, 7)(i)))
case("bat-fixed", "a fixed image", good(), bend_fixed)
case("bat-fixed-thin", "a fixed image without its blocks", good(146, 147),
     lambda i: i.set_value(b.FILE_PARAMETERS, "<II", MIB, 1))
case("bat-fixed-one-absent", "a fixed image without its last block, though with the room for it", good(146),
     lambda i: (bend_fixed(i), i.bat.pop(3), i.bat.update({1: bat_entry(FULLY_PRESENT, 5 * MIB),
                                                            2: bat_entry(FULLY_PRESENT, 6 * MIB)}),
                i.set(disk={0: b.pattern(0), 1: b.pattern(3)})))
case("bat-region-514m", "a BAT of 514 MiB", good(150), lambda i: (
    i.empty_disk(), i.region(b.BAT).change(length=514 * MIB), i.set(length=517 * MIB)))
case("spc-leak", "a MiB between the blocks belongs to nothing", good(148),
     lambda i: (put(1, FULLY_PRESENT, 7 * MIB)(i), i.set(length=8 * MIB), i.blocks.update({6 * MIB: b.pattern(5)})))
case("spc-tail", "much space behind the last block", good(149), lambda i: i.set(length=6 * MIB + 34 * MIB))
