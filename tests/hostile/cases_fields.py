"""Cases from tables: every field of a structure, with every class of value that can be wrong for it.

A row has the field, how wide it is, how it is put in, and the verdict for a value, as the digest's rules give it.
"""
import builder as b
from builder import GIB, KIB, MIB, TIB, Entry, Item, Region, Zero
from cases_head import cover_log_place, entry_of, present_in_log
from verdicts import case_of_table as case
from verdicts import child, good, read_only, refused


def field(name, about, bits, right, put, verdict, **more):
    """A case for each class: zero, one, off by one, the sign bit, all bits; and what the row has `more`."""
    values = {"zero": 0, "one": 1, "below": right - 1, "above": right + 1, "sign": 1 << bits - 1,
              "max": (1 << bits) - 1}
    seen = {right}
    for kind, value in {**values, **more}.items():
        if value < 0 or value in seen:
            continue
        seen.add(value)
        case(f"{name}-{kind}", f"{about}: {value:#x}", verdict(value), lambda i, value=value: put(i, value))


def only(name, about, put, verdict, **values):
    """The same for these values and no others."""
    for kind, value in values.items():
        case(f"{name}-{kind.replace('_', '-')}", f"{about}: {value:#x}", verdict(value),
             lambda i, value=value: put(i, value))


# ---- a bit turned, and the checksum not told ----

HEADER = {"signature": 0, "checksum": 4, "sequence": 8, "file-guid": 16, "data-guid": 32, "log-guid": 48,
          "log-version": 64, "version": 66, "log-length": 68, "log-offset": 72, "reserved": 80, "last": 4095}
TABLE = {"signature": 0, "checksum": 4, "count": 8, "reserved": 12, "guid": 16, "offset": 32, "length": 40,
         "required": 44, "behind": 80, "last": 65535}
# What is looked at before the checksum is (6.3) has its own rule; the signature makes it no entry at all.
ENTRY = {"signature": (0, None), "checksum": (4, 37), "length": (8, 32), "tail": (12, 33), "sequence": (16, 34),
         "count": (24, 36), "reserved": (28, 37), "guid": (32, 35), "flushed": (48, 37), "last": (56, 37),
         "desc-signature": (64, 38), "trailing": (68, 37), "leading": (72, 37), "offset": (80, 39),
         "desc-sequence": (88, 38), "unused-slot": (96, 37), "data-signature": (4096, 40),
         "sequence-high": (4100, 40), "first-byte": (4104, 37), "last-byte": (8187, 37), "sequence-low": (8188, 40)}


def turn(image, place, structure, at):
    image.patches[place + at] = bytes([structure.encode()[at] ^ 1])


def turn_in_log(at):
    def bend(image):
        entry = entry_of(image, present_in_log(image))
        image.make_dirty(entry)
        turn(image, MIB, entry, at)

    return bend


for field_name, byte in HEADER.items():
    case(f"crc-header-{field_name}", f"header 2, byte {byte}", good(11),
         lambda i, byte=byte: turn(i, b.HEADER_PLACES[1], i.headers[1], byte))
    case(f"crc-headers-{field_name}", f"both headers, byte {byte}", refused(10, "BAD_HEADER"), lambda i, byte=byte: [
        turn(i, place, header, byte) for place, header in zip(b.HEADER_PLACES, i.headers)])
for field_name, byte in TABLE.items():
    case(f"crc-table-{field_name}", f"region table 2, byte {byte}", good(56),
         lambda i, byte=byte: turn(i, b.TABLE_PLACES[1], i.tables[1], byte))
    case(f"crc-tables-{field_name}", f"both region tables, byte {byte}", refused(55, "BAD_REGION"),
         lambda i, byte=byte: [turn(i, place, table, byte) for place, table in zip(b.TABLE_PLACES, i.tables)])
for field_name, (byte, broken) in ENTRY.items():
    case(f"crc-entry-{field_name}", f"the only log entry, byte {byte}",
         refused(30, "BAD_LOG", *([broken] if broken else [])), turn_in_log(byte))


# ---- headers ----

def put_header(**always):
    def with_name(name):
        def put(image, value):
            cover_log_place(image)
            image.length = 8 * MIB
            image.change_headers(**{"log_offset": 6 * MIB, **always, name: value})

        return put

    return with_name


def put_sequence(image, value):
    """The older header is one behind, if there is such a number."""
    image.headers[0].change(sequence_number=max(value - 1, 0))
    image.headers[1].change(sequence_number=value)


def place_rules(offset, length):
    """Of a log that lies so in a file of 8 MiB."""
    return [rule for rule, is_broken in ((17, offset % MIB != 0), (18, length % MIB != 0),
                                         (20, length > 0 and offset < MIB), (21, offset + length > 8 * MIB),
                                         (22, length > GIB)) if is_broken]


def log_place(is_dirty):
    """It may lie over the last block, or over what took the log's old place, when it is off by one."""
    def verdict(offset, length):
        rules = place_rules(offset, length)
        if length == 0:
            return refused(19, "BAD_HEADER", *rules) if is_dirty else good(28)
        if offset == 1 and not is_dirty:
            return refused(63, "BAD_REGION", *rules)
        if is_dirty:
            return refused(rules[0], "TRUNCATED" if rules[0] == 21 else "BAD_HEADER", *rules[1:], follow=[63, 135])
        return read_only(*rules, follow=[28, 135])

    return verdict


clean, dirty = put_header(), put_header(log_guid=b.LOG_GUID)
field("fld-hdr-version", "Version", 16, 1, clean("version"), lambda v: refused(14, "UNSUPPORTED"))
field("fld-hdr-log-version", "LogVersion, closed", 16, 0, clean("log_version"), lambda v: good(16))
field("fld-hdr-log-version-dirty", "LogVersion, in use", 16, 0, dirty("log_version"),
      lambda v: refused(15, "UNSUPPORTED", follow=[30]))
field("fld-hdr-log-length", "LogLength, closed", 32, MIB, clean("log_length"),
      lambda v: log_place(False)(6 * MIB, v))
field("fld-hdr-log-length-dirty", "LogLength, in use", 32, MIB, dirty("log_length"),
      lambda v: log_place(True)(6 * MIB, v))
field("fld-hdr-log-offset", "LogOffset, closed", 64, 6 * MIB, clean("log_offset"),
      lambda v: log_place(False)(v, MIB))
field("fld-hdr-log-offset-dirty", "LogOffset, in use", 64, 6 * MIB, dirty("log_offset"),
      lambda v: log_place(True)(v, MIB))
only("fld-hdr-sequence", "SequenceNumber", put_sequence, lambda v: good(12) if v == 0 else good(), zero=0, one=1,
     sign=2**63, room_for_one_session=2**64 - 11)
only("fld-hdr-sequence", "SequenceNumber", put_sequence, lambda v: read_only(24), first_bad=2**64 - 3, max=2**64 - 1)
only("fld-hdr-guid", "DataWriteGuid", lambda i, v: i.change_headers(data_write_guid=v.to_bytes(16, "little")),
     lambda v: good(27) if v == 0 else good(), zero=0, one=1, max=2**128 - 1)


# ---- region tables ----

FOLLOWS_FROM_REGIONS = [63, 64, *range(75, 102), *range(130, 151)]


def put_region(name, kind):
    def put(image, value):
        image.region(kind).change(**{name: value})

    return put


def put_optional(name):
    def put(image, value):
        image.length = 7 * MIB
        image.regions.append(Region(b.unknown_guid(1), 6 * MIB, MIB, required=0).change(**{name: value}))

    return put


def offset_verdict(is_known):
    def verdict(value):
        if value % MIB != 0 or value < MIB:
            return refused(61, "BAD_REGION", follow=FOLLOWS_FROM_REGIONS)
        return refused(64, "TRUNCATED") if is_known else read_only(64)

    return verdict


def length_verdict(is_known):
    def verdict(value):
        if value % MIB != 0 or value == 0:
            return refused(62, "BAD_REGION", follow=FOLLOWS_FROM_REGIONS)
        return refused(64, "TRUNCATED", follow=[63]) if is_known else read_only(64)

    return verdict


def required_rules(value):
    return [rule for rule, is_broken in ((66, value > 1), (69, value % 2 == 0)) if is_broken]


for label, kind, right in (("bat", b.BAT, 3 * MIB), ("metadata", b.METADATA, 2 * MIB)):
    field(f"fld-reg-{label}-offset", f"FileOffset of {label}", 64, right, put_region("offset", kind),
          offset_verdict(True), half=right + MIB // 2, header=192 * KIB)
    field(f"fld-reg-{label}-length", f"Length of {label}", 32, MIB, put_region("length", kind), length_verdict(True))
    field(f"fld-reg-{label}-required", f"Required of {label}", 32, 1, put_region("required", kind),
          lambda v: good(*required_rules(v)), three=3)
field("fld-reg-optional-offset", "FileOffset of an unknown region", 64, 6 * MIB, put_optional("offset"),
      offset_verdict(False))
field("fld-reg-optional-length", "Length of an unknown region", 32, MIB, put_optional("length"),
      length_verdict(False))
field("fld-reg-optional-required", "Required of an unknown region", 32, 0, put_optional("required"),
      lambda v: refused(65, "UNSUPPORTED", *([66] if v > 1 else [])) if v % 2 else good(66), two=2)
field("fld-reg-reserved", "Reserved", 32, 0, lambda i, v: i.change_tables(reserved=v), lambda v: good(59))
only("fld-reg-count", "EntryCount", lambda i, v: i.change_tables(count=v),
     lambda v: {1: refused(68, "BAD_REGION", 70), 3: refused(61, "BAD_REGION", 62, follow=[63, 64])}.get(
         v, refused(58, "BAD_REGION")), below=1, above=3, sign=2**31)


# ---- the metadata table ----

bad_metadata = "BAD_METADATA"
ITEMS = {"params": (b.FILE_PARAMETERS, 91, 8, 4), "size": (b.DISK_SIZE, 92, 8, 6), "lss": (b.LOGICAL_SECTOR, 93, 4, 6),
         "pss": (b.PHYSICAL_SECTOR, 98, 4, 6), "id": (b.DISK_ID, 100, 16, 6)}
NEEDED = (91, 92, 93)


def put_item(name, kind):
    """The items lie apart, so that one that is too long meets no other."""
    def put(image, value):
        for number, item in enumerate(image.metadata.items):
            item.change(offset=64 * KIB + 4096 * (number + 1))
        item = image.metadata.item(kind)
        if name == "offset":  # what lies there stays as it is
            item.change(length=len(item.data), data=b"")
        item.change(**{name: value})

    return put


def missing(rule):
    return refused(rule, bad_metadata) if rule in NEEDED else read_only(rule)


def length_of_item_verdict(rule):
    def verdict(value):
        if value == 0:
            return (refused(rule, bad_metadata, 81) if rule in NEEDED else read_only(rule, 81))
        if value > MIB:
            return refused(80, bad_metadata, 82, follow=[rule, 83, 90])
        return missing(rule)

    return verdict


for label, (kind, rule, length, flags) in ITEMS.items():
    only(f"fld-item-{label}-offset", f"Offset of {label}", put_item("offset", kind),
         lambda v, rule=rule: refused(82, bad_metadata, follow=[rule, 83]), zero=0, one=1, in_table=64 * KIB - 1,
         crosses_end=MIB - length + 1, at_end=MIB, sign=2**31, wraps=2**32 - length, max=2**32 - 1)
    field(f"fld-item-{label}-length", f"Length of {label}", 32, length, put_item("length", kind),
          length_of_item_verdict(rule), large=MIB + 1)
    only(f"fld-item-{label}-flags", f"flags of {label}", put_item("flags", kind), lambda v: good(94), none=0)
    only(f"fld-item-{label}-flags", f"flags of {label}", put_item("flags", kind), lambda v: good(87),
         bit_3=flags | 8, bit_31=flags | 2**31)
    only(f"fld-item-{label}-flags", f"flags of {label}", put_item("flags", kind),
         lambda v, rule=rule: refused(86, bad_metadata, rule, *([87] if v > 7 else [])), user=flags | 1, max=2**32 - 1)
    only(f"fld-item-{label}-reserved", f"the last bytes of {label}'s entry", put_item("reserved", kind),
         lambda v: good(87), one=1, max=2**32 - 1)
    case(f"fld-item-{label}-id-zero", f"{label} has the zero GUID", refused(85, "UNSUPPORTED", 79, rule),
         lambda i, kind=kind: i.metadata.item(kind).change(kind=b.NO_GUID))
    case(f"fld-item-{label}-twice", f"{label} twice, with one content", refused(78, bad_metadata),
         lambda i, kind=kind: i.metadata.items.append(Item(kind, i.metadata.item(kind).data,
                                                           i.metadata.item(kind).flags)))

field("fld-met-reserved", "Reserved", 16, 0, lambda i, v: i.metadata.change(reserved=v), lambda v: good(77))
only("fld-met-count", "EntryCount", lambda i, v: i.metadata.change(count=v),
     {1: refused(92, bad_metadata, 93, 98, 100), 4: read_only(100), 6: good(79), 2**15: refused(76, bad_metadata),
      }.__getitem__, one=1, below=4, above=6, sign=2**15)


# ---- values of the items ----

def put_value(kind, layout, *rest):
    return lambda image, value: image.set_value(kind, layout, value, *rest)


only("fld-block-size", "BlockSize", put_value(b.FILE_PARAMETERS, "<II", 0), lambda v: refused(95, bad_metadata),
     above_1m=MIB + 1, odd=3 * MIB // 2, below_256m=256 * MIB - 1, above_256m=257 * MIB, sign=2**31)
only("fld-lss", "LogicalSectorSize", put_value(b.LOGICAL_SECTOR, "<I"), lambda v: refused(97, bad_metadata),
     quarter=256, above=513, below_4096=4095, above_4096=4097, sign=2**31)
only("fld-pss", "PhysicalSectorSize", put_value(b.PHYSICAL_SECTOR, "<I"), lambda v: read_only(98),
     quarter=256, below=511, above=513, below_4096=4095, above_4096=4097, double=8192, sign=2**31)
only("fld-size", "VirtualDiskSize", put_value(b.DISK_SIZE, "<Q"), lambda v: refused(99, bad_metadata),
     below_sector=511, above=4 * MIB + 1, above_64t=64 * TIB + 1, sign=2**63 + 512, one_sector_from_end=2**64 - 512)
only("fld-params-flags", "bits of File Parameters",
     lambda i, v: i.set_value(b.FILE_PARAMETERS, "<II", MIB, v), lambda v: good(96),
     bit_2=4, bit_3=8, bit_16=2**16, bit_30=2**30, all=2**32 - 4)
case("fld-size-4096", "a size that is no multiple of 4096", refused(99, bad_metadata), lambda i: (
    i.set_value(b.LOGICAL_SECTOR, "<I", 4096), i.set_value(b.DISK_SIZE, "<Q", 4 * MIB - 512)))


# ---- log entries, the checksum right ----

def put_entry(image, **fields):
    image.make_dirty(entry_of(image, present_in_log(image), **fields))


def put_descriptor(image, **fields):
    entry = entry_of(image, present_in_log(image))
    entry.descriptors[0].change(**fields)
    image.make_dirty(entry)


def put_zero(image, offset, length):
    image.make_dirty(Entry(descriptors=[Zero(offset, length)]))


def not_counted(rule):
    return lambda value: refused(30, "BAD_LOG", rule)


def in_entry(name):
    return lambda image, value: put_entry(image, **{name: value})


def in_descriptor(name):
    return lambda image, value: put_descriptor(image, **{name: value})


only("fld-entry-length", "EntryLength", in_entry("length"), not_counted(32), one=1, below=8191, above=8193,
     sign=2**31, max=2**32 - 1, above_log=MIB + 4096)
only("fld-entry-length", "EntryLength", in_entry("length"), not_counted(36), one_sector=4096, three_sectors=12288)
only("fld-entry-tail", "Tail", in_entry("tail"), not_counted(33), one=1, below=4095, above=4097, sign=2**31,
     max=2**32 - 1)
only("fld-entry-tail", "Tail", in_entry("tail"), lambda v: refused(30, "BAD_LOG"), next=8192, last=MIB - 4096)
only("fld-entry-sequence", "SequenceNumber", in_entry("sequence_number"), lambda v: good(48), two=2, sign=2**63)
only("fld-entry-count", "DescriptorCount", in_entry("count"), not_counted(36), zero=0, sign=2**31, wraps=2**27,
     two_sectors=127)
only("fld-entry-count", "DescriptorCount", in_entry("count"), not_counted(38), above=2, first_sector=126)
only("fld-entry-reserved", "Reserved", in_entry("reserved"), lambda v: good(46, 48), sign=2**31, max=2**32 - 1)
only("fld-entry-guid", "LogGuid", lambda i, v: put_entry(i, log_guid=v.to_bytes(16, "little")), not_counted(35),
     zero=0, one=1, max=2**128 - 1)
only("fld-entry-flushed", "FlushedFileOffset", in_entry("flushed"), lambda v: good(48) if v == 0 else good(44, 48),
     zero=0, one=1, below=7 * MIB - 1)
only("fld-entry-flushed", "FlushedFileOffset", in_entry("flushed"),
     lambda v: refused(31, "TRUNCATED", *([44] if v % MIB else [])), above=7 * MIB + 1, next=8 * MIB, sign=2**63,
     max=2**64 - 1)
only("fld-entry-last", "LastFileOffset", in_entry("last"), lambda v: good(48) if v % MIB == 0 else good(44, 48),
     zero=0, one=1, below=7 * MIB - 1)
only("fld-entry-last", "LastFileOffset", in_entry("last"),
     lambda v: refused(45, "BAD_LOG", *([44] if v % MIB else [])), above_256t=256 * TIB + MIB, sign=2**63, max=2**64 - 1)
only("fld-desc-offset", "FileOffset", in_descriptor("offset"), not_counted(39), one=1, below=3 * MIB - 1,
     above=3 * MIB + 1, sector=3 * MIB + 512, max=2**64 - 1)
only("fld-desc-offset", "FileOffset", in_descriptor("offset"), not_counted(41), header_2=128 * KIB, reserved=188 * KIB)
only("fld-desc-offset", "FileOffset", in_descriptor("offset"), not_counted(42), log=MIB, log_end=2 * MIB - 4096)
only("fld-desc-offset", "FileOffset", in_descriptor("offset"), lambda v: refused(43, "BAD_LOG"), at_end=7 * MIB,
     last_page=2**64 - 8192)
only("fld-desc-sequence", "a descriptor's SequenceNumber", in_descriptor("sequence_number"), not_counted(38), zero=0,
     max=2**64 - 1)
only("fld-data-sequence-high", "SequenceHigh", in_descriptor("high"), not_counted(40), sign=2**31, max=2**32 - 1)
only("fld-data-sequence-low", "SequenceLow", in_descriptor("low"), not_counted(40), zero=0, max=2**32 - 1)
only("fld-zero-length", "ZeroLength", lambda i, v: put_zero(i, 4 * MIB, v), not_counted(39), one=1, below=4095,
     above=MIB + 1, max=2**64 - 1)
only("fld-zero-length", "ZeroLength", lambda i, v: put_zero(i, 320 * KIB, v), not_counted(42), into_log=MIB,
     through_log=4 * MIB)
only("fld-zero-offset", "FileOffset of zeros", lambda i, v: put_zero(i, v, 4096), not_counted(39), one=1,
     above=4 * MIB + 1, max=2**64 - 1)


# ---- the parent locator: two pairs, the linkage and a path ----

LINKAGE, PATH = ("parent_linkage", b.PARENT_LINKAGE), ("relative_path", r".\parent.vhdx")
ITEM_LENGTH = 20 + 2 * 12 + 2 * sum(len(text) for text in LINKAGE + PATH)


def put_pair(number, name):
    return lambda image, value: image.make_child([LINKAGE, PATH], entries={number: {name: value}})


def pair_verdict(number, name, rule):
    """A key that cannot be read is one nobody knows, and what it stood for is missing."""
    def verdict(_value):
        if name.startswith("value"):
            return refused(rule, "BAD_LOCATOR", follow=[117] if number == 0 else [119])
        return refused(117, "BAD_LOCATOR", rule) if number == 0 else child(rule, 119)

    return verdict


for number, pair in enumerate((LINKAGE, PATH)):
    for which, text in zip(("key", "value"), pair):
        label = f"{'linkage' if number == 0 else 'path'}-{which}"
        only(f"fld-loc-{label}-offset", f"offset of {label}", put_pair(number, f"{which}_offset"),
             pair_verdict(number, which, 114), zero=0, at_end=ITEM_LENGTH, sign=2**31, max=2**32 - 1, wraps=2**32 - 2)
        only(f"fld-loc-{label}-length", f"length of {label}", put_pair(number, f"{which}_length"),
             pair_verdict(number, which, 114), zero=0, sign=2**15, past_end=2 * ITEM_LENGTH)
        only(f"fld-loc-{label}-length", f"length of {label}", put_pair(number, f"{which}_length"),
             pair_verdict(number, which, 115), odd=2 * len(text) - 1)
only("fld-loc-count", "KeyValueCount", lambda i, v: i.make_child([LINKAGE, PATH], count=v),
     {1: child(119), 2**15: refused(113, "BAD_LOCATOR")}.__getitem__, below=1, sign=2**15)
only("fld-loc-reserved", "Reserved", lambda i, v: i.make_child([LINKAGE, PATH], reserved=v), lambda v: child(112),
     sign=2**15, max=2**16 - 1)
