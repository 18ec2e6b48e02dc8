"""Valid controls; the file identifier and the length of the file; headers."""
import builder as b
from builder import MIB, Data, Entry, Item, Region, Zero, bat_entry
from verdicts import case, good, not_vhdx, read_only, refused


# ---- controls: odd, and to be accepted with the right bytes ----

def bend_one_header(image):
    image.headers[1].checksum = 0


def bend_states(image):
    image.bat[1] = bat_entry(b.UNDEFINED)
    image.bat[2] = bat_entry(b.UNMAPPED)


def present_in_log(image):
    """Block 1, at 6 MiB, known to the log alone.  Returns the page of the BAT that says so."""
    image.length = 7 * MIB
    image.blocks[6 * MIB] = b.pattern(1)
    image.disk[1] = b.pattern(1)
    return image.bat_page({1: bat_entry(b.FULLY_PRESENT, 6 * MIB)})


def entry_of(image, page, **fields):
    fields.setdefault("flushed", image.length)
    fields.setdefault("last", image.length)
    return Entry(descriptors=[Data(image.bat_offset, page)], **fields)


def bend_log_one(image):
    image.make_dirty(entry_of(image, present_in_log(image)))


def bend_log_zero(image):
    image.make_dirty(Entry(descriptors=[Zero(image.bat_offset, 4096)]))
    image.disk = {}


def bend_log_two(image):
    page = present_in_log(image)
    first = entry_of(image, image.bat_page({1: bat_entry(b.FULLY_PRESENT, 5 * MIB)}))
    image.make_dirty(first, entry_of(image, page, sequence_number=2))


def bend_log_wrap(image):
    entry = entry_of(image, present_in_log(image), tail=MIB - 4096)
    image.make_dirty(entry, position=MIB - 4096)


def bend_log_torn(image):
    page = present_in_log(image)
    torn = entry_of(image, image.bat_page({0: 0}), sequence_number=2, checksum=1)
    image.make_dirty(entry_of(image, page), torn)


def bend_log_other_guid(image):
    page = present_in_log(image)
    other = entry_of(image, image.bat_page({0: 0}), sequence_number=2, log_guid=b.OTHER_LOG_GUID)
    image.make_dirty(entry_of(image, page), other)


def bend_log_clean(image):
    image.make_dirty(entry_of(image, image.bat_page({0: 0})), guid_of_log=b.NO_GUID)


def bend_log_full_entry(image):
    """127 zero descriptors, so two descriptor sectors; then the data sector."""
    page = present_in_log(image)
    entry = entry_of(image, page)
    entry.descriptors = [Zero(6 * MIB - 4096, 0)] * 127 + entry.descriptors
    image.make_dirty(entry)


def bend_log_before_tail(image):
    """An entry of the sequence that lies before the head's tail is not to be replayed again."""
    page = present_in_log(image)
    old = entry_of(image, image.bat_page({3: 0}))
    image.bat[1] = bat_entry(b.FULLY_PRESENT, 6 * MIB)
    length = len(old.encode())
    image.make_dirty(old, entry_of(image, page, sequence_number=2, tail=length))


def bend_log_region_table(image):
    """Both region tables come from the log; what lies in place is torn."""
    good_table = image.tables[0].encode()
    descriptors = [Data(place + at, good_table[at:at + 4096]) for place in b.TABLE_PLACES
                   for at in range(0, 4096 * 2, 4096)]
    image.make_dirty(Entry(descriptors=descriptors))
    for place in b.TABLE_PLACES:
        image.patches[place] = b"torn" * 20


def bend_log_growth(image):
    """The crash lost the growth of the file: the log tells how long it was."""
    image.bat[1] = 0
    entry = entry_of(image, image.bat_page({1: bat_entry(b.FULLY_PRESENT, 6 * MIB)}), last=7 * MIB)
    image.disk[1] = bytes(MIB)
    image.make_dirty(entry)


case("ok-dynamic", "nothing wrong", good(), lambda image: None)
case("ok-lss4096", "logical sectors of 4096", good(), lambda image: image.set_value(b.LOGICAL_SECTOR, "<I", 4096))
case("ok-one-header-bad", "header 2 has a wrong checksum", good(11), bend_one_header)
case("ok-header-1-bad", "header 1 has a wrong checksum", good(11), lambda i: i.headers[0].change(checksum=0))
case("ok-identical-headers", "both headers equal, as Disk2vhd writes them", good(12),
     lambda i: i.change_headers(sequence_number=5))
case("ok-header-1-newer", "header 1 is the current one", good(), lambda i: i.headers[0].change(sequence_number=7))
case("ok-region1-bad", "region table 1 has a wrong checksum", good(56), lambda i: i.tables[0].change(checksum=0))
case("ok-region2-bad", "region table 2 has a wrong checksum", good(56), lambda i: i.tables[1].change(checksum=0))
case("ok-unknown-opt-region", "an unknown optional region", good(), lambda i: (
    i.regions.append(Region(b.unknown_guid(1), 6 * MIB, MIB, required=0)), i.set(length=7 * MIB)))
case("ok-unknown-opt-item", "an unknown optional item", good(),
     lambda i: i.metadata.items.append(Item(b.unknown_guid(1), b"anything", flags=2)))
case("ok-user-item", "a user item with the id of a known one", good(),
     lambda i: i.metadata.items.append(Item(b.DISK_SIZE, b"mine", flags=1)))
case("ok-known-optional-items", "CHS and PMEM items of Microsoft's code", good(),
     lambda i: i.metadata.items.extend([
         Item(b.guid("DA02D7BC-3D3A-423C-AC88-2A36AB21479B"), bytes(8), flags=4),
         Item(b.guid("10E1AE8A-4B7E-4169-A40F-CD70DE928393"), bytes(32), flags=4)]))
case("ok-bat-reserved-tail", "garbage behind the last entry of the BAT", good(145),
     lambda i: i.bat.update({4: 0xFFFFFFFFFFFFFFFF, 5000: 6}))
case("ok-zero-unmapped-states", "states 1, 2, 3 with offset 0", good(), bend_states)
case("ok-log-one", "one entry makes block 1 present", good(48), bend_log_one)
case("ok-log-zero-desc", "a zero descriptor clears the BAT", good(48), bend_log_zero)
case("ok-log-empty-entry", "one entry without descriptors", good(48), lambda i: i.make_dirty(Entry()))
case("ok-log-two", "two entries for one page: the second wins", good(48), bend_log_two)
case("ok-log-wrap", "the entry goes on at the start of the log", good(48), bend_log_wrap)
case("ok-log-torn-tail", "the newest entry is torn", good(48), bend_log_torn)
case("ok-log-other-guid", "an entry of another session follows", good(48), bend_log_other_guid)
case("ok-log-clean-garbage", "LogGuid zero: nothing in the log means anything", good(), bend_log_clean)
case("ok-log-127-descriptors", "two descriptor sectors", good(48), bend_log_full_entry)
case("ok-log-before-tail", "an entry before the tail is not replayed", good(48), bend_log_before_tail)
case("ok-log-region-tables", "both region tables are rewritten by the log", good(48), bend_log_region_table)
case("ok-log-growth", "LastFileOffset beyond the end of the file", good(48), bend_log_growth)
case("ok-creator-control-characters", "the creator tries to talk to the terminal", good(), lambda i: i.set(
    identifier=b"vhdxfile" + "\x1b]0;owned\x07\n\u202egnp.exe".encode("utf-16-le")))


# ---- the file ----

def bend_payload_cut(image):
    """The digest, 4.3: from the end of the file to the next MiB there are zeros."""
    image.cut = 5 * MIB + 100 * b.KIB
    image.disk[3] = b.pattern(3)[:100 * b.KIB].ljust(MIB, b"\0")


case("fti-sig-zero", "no signature", not_vhdx(), lambda i: i.set(identifier=bytes(600)))
case("fti-sig-case", "VHDXFILE", not_vhdx(), lambda i: i.set(identifier=b"VHDXFILE"))
case("fti-polyglot-qcow2", "a qcow2 by its first bytes", not_vhdx(),
     lambda i: i.set(identifier=b"QFI\xfb\0\0\0\3"))
case("fti-empty", "no byte", not_vhdx(), lambda i: i.set(cut=0))
case("fti-1byte", "one byte", not_vhdx(), lambda i: i.set(cut=1))
case("fti-8bytes", "the signature and no more", refused(1, "TRUNCATED"), lambda i: i.set(cut=8))
case("fti-trunc-64k", "cut at 64 KiB", refused(1, "TRUNCATED"), lambda i: i.set(cut=64 * b.KIB))
case("fti-trunc-hdr2", "cut inside header 2", refused(1, "TRUNCATED"),
     lambda i: i.set(cut=128 * b.KIB + 100))
case("fti-trunc-1m", "cut at 1 MiB", refused(64, "TRUNCATED", 21), lambda i: i.set(cut=MIB))
case("fti-trunc-meta", "cut inside the metadata", refused(64, "TRUNCATED", 5),
     lambda i: i.set(cut=2 * MIB + 32 * b.KIB))
case("fti-trunc-bat", "cut inside the BAT", refused(64, "TRUNCATED", 5), lambda i: i.set(cut=3 * MIB + 100))
case("fti-trunc-payload", "cut inside the last block's last MiB", good(5), bend_payload_cut)
case("fti-vhd-footer", "a VHD footer behind it: the signature decides", good(5), lambda i: (
    i.patches.update({6 * MIB: b"conectix".ljust(512, b"\0")}), i.set(length=6 * MIB + 512)))
case("fti-creator-surrogate", "half a surrogate pair in the creator", good(3),
     lambda i: i.set(identifier=b"vhdxfile" + b"\x00\xd8A\0"))
case("fti-reserved", "bytes behind the creator", good(4), lambda i: i.patches.update({600: b"x"}))
case("fti-header-section", "bytes in the reserved part of the header section", good(6),
     lambda i: i.patches.update({320 * b.KIB + 5: b"x"}))
case("fti-header-slot", "bytes behind a header", good(7), lambda i: i.patches.update({68 * b.KIB: b"x"}))


# ---- headers ----

def cover_log_place(image):
    """Something else lies where the log was, so that it is not lost space."""
    image.regions.append(Region(b.unknown_guid(1), MIB, MIB, required=0))


def bend_log_place(**fields):
    """The log as the fields say, without and with a LogGuid.  It lies behind the blocks; its old place is taken."""

    def clean(image):
        image.length = 8 * MIB
        cover_log_place(image)
        image.change_headers(log_offset=6 * MIB, log_length=2 * MIB)
        image.change_headers(**fields)

    def dirty(image):
        clean(image)
        image.change_headers(log_guid=b.LOG_GUID)

    return clean, dirty


def case_of_log_place(name, about, rule, *also, code="BAD_HEADER", **fields):
    clean, dirty = bend_log_place(**fields)
    case(name, about, read_only(rule, *also), clean)
    case(f"{name}-dirty", f"{about}; dirty", refused(rule, code, *also), dirty)


case("hdr-both-badcrc", "both checksums wrong", refused(10, "BAD_HEADER"), lambda i: i.change_headers(checksum=7))
case("hdr-both-badsig", "both signatures wrong", refused(10, "BAD_HEADER"),
     lambda i: i.change_headers(signature=b"HEAD"))
case("hdr-equal-seq-diff", "equal sequence numbers, other contents", refused(13, "BAD_HEADER"), lambda i: (
    i.change_headers(sequence_number=5), i.headers[0].change(log_offset=6 * MIB)))
case("hdr-version0", "Version 0", refused(14, "UNSUPPORTED"), lambda i: i.change_headers(version=0))
case("hdr-version2", "Version 2", refused(14, "UNSUPPORTED"), lambda i: i.change_headers(version=2))
case("hdr-version2-current", "Version 2 in the current header; the other is no way out",
     refused(14, "UNSUPPORTED"), lambda i: i.headers[1].change(version=2))
case("hdr-logver1-dirty", "LogVersion 1 and a log", refused(15, "UNSUPPORTED"),
     lambda i: (i.make_dirty(Entry()), i.change_headers(log_version=1)))
case("hdr-logver1-clean", "LogVersion 1, no log", good(16), lambda i: i.change_headers(log_version=1))
case("hdr-loglen0-guid", "LogLength 0 and a LogGuid", refused(19, "BAD_HEADER"),
     lambda i: i.change_headers(log_length=0, log_guid=b.LOG_GUID))
case_of_log_place("hdr-loglen-unaligned", "LogLength 1 MiB and a sector", 18, log_length=MIB + 4096)
case_of_log_place("hdr-logoff-unaligned", "LogOffset in the middle of a MiB", 17,
                  log_offset=6 * MIB + 4096, log_length=MIB)
case_of_log_place("hdr-logoff-eof", "the log lies behind the end of the file", 21, code="TRUNCATED",
                  log_offset=64 * MIB)
case_of_log_place("hdr-logoff-max", "LogOffset + LogLength overflows", 21, code="TRUNCATED",
                  log_offset=2**64 - MIB)
case_of_log_place("hdr-loglen-4g", "LogLength 0xfff00000", 21, 22, code="TRUNCATED", log_length=0xFFF00000)
case_of_log_place("hdr-logoff0", "LogOffset 0: over the headers", 20, log_offset=0, log_length=MIB)
case("hdr-log-over-bat", "the log lies over the BAT", refused(63, "BAD_REGION"),
     lambda i: (i.change_headers(log_offset=3 * MIB), cover_log_place(i)))
case("hdr-log-over-meta", "the log lies over the metadata", refused(63, "BAD_REGION"),
     lambda i: i.change_headers(log_length=2 * MIB))
case("hdr-lg-nonzero-nolog", "a LogGuid, and zeros in the log", refused(30, "BAD_LOG"),
     lambda i: i.change_headers(log_guid=b.LOG_GUID))
case("hdr-loglen-1g1m", "a log of more than 1 GiB", read_only(22), lambda i: (
    cover_log_place(i), i.change_headers(log_offset=6 * MIB, log_length=b.GIB + MIB),
    i.set(length=7 * MIB + b.GIB)))
case("hdr-reserved", "reserved bytes of the headers", good(23), lambda i: i.change_headers(tail=b"x"))
case("hdr-seq-max", "the sequence number cannot grow", read_only(24),
     lambda i: [header.change(sequence_number=2**64 - 3 + n) for n, header in enumerate(i.headers)])
case("hdr-other-log", "the older header tells of another log", good(25),
     lambda i: i.headers[0].change(log_length=0))
case("hdr-seq-gap", "the older header is much older", good(26), lambda i: i.headers[0].change(sequence_number=1))
case("hdr-zero-guids", "no FileWriteGuid", good(27), lambda i: i.change_headers(file_write_guid=b.NO_GUID))


# ---- no log at all ----

def bend_no_log(image):
    cover_log_place(image)
    image.change_headers(log_length=0, log_offset=0)


case("hdr-no-log", "LogLength 0, closed: a writer makes a log", good(28), bend_no_log)
