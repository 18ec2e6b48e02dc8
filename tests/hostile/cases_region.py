"""Region tables."""
import builder as b
from builder import BAT, METADATA, MIB, Region, RegionTable
from verdicts import case, good, read_only, refused

OPTIONAL = b.unknown_guid(1)


def add(*regions, length=None):
    def bend(image):
        image.regions.extend(regions)
        image.length = length or image.length

    return bend


def change(kind, **fields):
    return lambda image: image.region(kind).change(**fields)


def drop(kind):
    return lambda image: image.regions.remove(image.region(kind))


def bend_200_regions(image):
    for number in range(200):
        image.regions.append(Region(b.unknown_guid(number), (6 + number) * MIB, MIB, required=0))
    image.length = 206 * MIB


def bend_2047_regions(image):
    for number in range(2045):
        image.regions.append(Region(b.unknown_guid(number), (6 + number) * MIB, MIB, required=0))
    image.length = 2051 * MIB


def bend_different(image):
    image.tables[1] = RegionTable(image.regions + [Region(OPTIONAL, 6 * MIB, MIB, required=0)])
    image.length = 7 * MIB


case("reg-both-badcrc", "both checksums wrong", refused(55, "BAD_REGION"), lambda i: i.change_tables(checksum=7))
case("reg-both-badsig", "both signatures wrong", refused(55, "BAD_REGION"),
     lambda i: i.change_tables(signature=b"REGI"))
case("reg-count-2048", "EntryCount 2048", refused(58, "BAD_REGION"), lambda i: i.change_tables(count=2048))
case("reg-count-max", "EntryCount 0xffffffff", refused(58, "BAD_REGION"),
     lambda i: i.change_tables(count=2**32 - 1))
case("reg-count0", "EntryCount 0", refused(67, "BAD_REGION", 68, 70), lambda i: i.change_tables(count=0))
case("reg-no-bat", "no BAT region", refused(67, "BAD_REGION"), drop(BAT))
case("reg-no-meta", "no metadata region", refused(68, "BAD_REGION"), drop(METADATA))
case("reg-dup-bat", "two BAT regions", refused(60, "BAD_REGION"), add(Region(BAT, 6 * MIB, MIB), length=7 * MIB))
case("reg-dup-unknown", "an unknown region twice", refused(60, "BAD_REGION"),
     add(Region(OPTIONAL, 6 * MIB, MIB, 0), Region(OPTIONAL, 7 * MIB, MIB, 0), length=8 * MIB))
case("reg-unknown-required", "an unknown region that is required", refused(65, "UNSUPPORTED"),
     add(Region(OPTIONAL, 6 * MIB, MIB, 1), length=7 * MIB))
case("reg-bat-unaligned", "the BAT begins inside a MiB", refused(61, "BAD_REGION"),
     change(BAT, offset=3 * MIB + 512))
case("reg-len-unaligned", "the BAT is a byte short of a MiB", refused(62, "BAD_REGION"),
     change(BAT, length=MIB - 1))
case("reg-len0", "metadata of no bytes", refused(62, "BAD_REGION"), change(METADATA, length=0))
case("reg-bat-len0", "a BAT of no bytes", refused(62, "BAD_REGION"), change(BAT, length=0))
case("reg-bat-off0", "the BAT over the headers", refused(61, "BAD_REGION"), change(BAT, offset=0))
case("reg-wrap", "the BAT's end overflows", refused(64, "TRUNCATED"),
     change(BAT, offset=2**64 - MIB, length=2 * MIB))
case("reg-overlap-same", "BAT and metadata at one place", refused(63, "BAD_REGION", follow=[131, 140, 145]),
     change(BAT, offset=2 * MIB))
case("reg-overlap-partial", "an optional region half over another", refused(63, "BAD_REGION"), add(
    Region(OPTIONAL, 6 * MIB, 2 * MIB, 0), Region(b.unknown_guid(2), 7 * MIB, 2 * MIB, 0), length=9 * MIB))
case("reg-overlap-bat", "an optional region over the BAT", refused(63, "BAD_REGION"),
     add(Region(OPTIONAL, 3 * MIB, MIB, 0)))
case("reg-overlap-log", "an optional region over the log", refused(63, "BAD_REGION"),
     add(Region(OPTIONAL, MIB, MIB, 0)))
case("reg-eof", "the BAT lies behind the end of the file", refused(64, "TRUNCATED"), change(BAT, offset=64 * MIB))
case("reg-eof-4p", "the BAT lies 4 PiB behind the start", refused(64, "TRUNCATED"), change(BAT, offset=4 * b.PIB))
case("reg-eof-optional", "an optional region lies behind the end", read_only(64),
     add(Region(OPTIONAL, 64 * MIB, MIB, 0)))
case("reg-flags-reserved", "reserved bits of Required", good(66), change(BAT, required=0x80000001))
case("reg-not-required", "the BAT is not marked required", good(69), change(BAT, required=0))
case("reg-res", "the reserved field", good(59), lambda i: i.change_tables(reserved=1))
case("reg-tail", "bytes behind the last entry", good(70), lambda i: i.change_tables(tail=bytes(40) + b"x"))
case("reg-200-unknown", "200 unknown regions", good(), bend_200_regions)
case("reg-2047", "as many as there can be", good(), bend_2047_regions)
case("reg-different", "both valid and not the same", read_only(57), bend_different)
case("reg-1-count-2048", "copy 1 says 2048 entries, copy 2 is good", good(58),
     lambda i: i.tables[0].change(count=2048))
