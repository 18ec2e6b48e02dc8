"""Builds VHDX files byte by byte from docs/vhdx-format.md, for tests: nothing of the C code is used.

An Image is a description that a test bends before `write`: every structure is a plain object whose fields may hold
anything.  Checksums are computed last, over whatever was bent, unless a structure's own `checksum` says otherwise.
What comes out is the same in every run.
"""
import functools
import struct

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
PIB = 1 << 50
SECTOR = 4096

HEADER_PLACES = (64 * KIB, 128 * KIB)
TABLE_PLACES = (192 * KIB, 256 * KIB)
TABLE_SIZE = 64 * KIB

NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 6, 7


# ---- CRC-32C, with runs of zeros at the end taken in one step ----

def make_byte_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
        table.append(value)
    return table


BYTE_TABLE = make_byte_table()
def apply_table(tables, register):
    return (tables[0][register & 255] ^ tables[1][register >> 8 & 255]
            ^ tables[2][register >> 16 & 255] ^ tables[3][register >> 24])


def make_zero_tables():
    """For each power n, what 2**n zero bytes make of a CRC register: a table for each byte of the register."""
    columns = []
    for bit in range(32):
        register = 1 << bit
        columns.append(BYTE_TABLE[register & 255] ^ register >> 8)
    for _ in range(17):
        tables = []
        for byte in range(4):
            table = [0]
            for bit in range(8):
                table += [value ^ columns[byte * 8 + bit] for value in table]
            tables.append(table)
        yield tables
        columns = [apply_table(tables, column) for column in columns]


ZERO_TABLES = list(make_zero_tables())
LONGEST_SKIP = 1 << 16


@functools.lru_cache(maxsize=64)
def crc32c(data):
    register = 0xFFFFFFFF
    stripped = data.rstrip(b"\0")
    for byte in stripped:
        register = BYTE_TABLE[(register ^ byte) & 255] ^ register >> 8
    zeros = len(data) - len(stripped)
    for power in range(16):
        if zeros >> power & 1:
            register = apply_table(ZERO_TABLES[power], register)
    for _ in range(zeros // LONGEST_SKIP):
        register = apply_table(ZERO_TABLES[16], register)
    return register ^ 0xFFFFFFFF


def with_checksum(data, checksum):
    """`data` with its CRC at byte 4, or with `checksum` there when it is given."""
    if checksum is None:
        checksum = crc32c(data[:4] + bytes(4) + data[8:])
    return data[:4] + struct.pack("<I", checksum) + data[8:]


# ---- GUIDs ----

def guid(text):
    """The 16 bytes on disk of a GUID's text."""
    first, second, third, fourth, fifth = text.strip("{}").split("-")
    return struct.pack("<IHH", int(first, 16), int(second, 16), int(third, 16)) + bytes.fromhex(fourth + fifth)


NO_GUID = bytes(16)
BAT = guid("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA = guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
FILE_PARAMETERS = guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
DISK_SIZE = guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
DISK_ID = guid("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR = guid("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR = guid("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR = guid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
VHDX_LOCATOR = guid("B04AEFB7-D19E-4A81-B789-25B8E9445913")
INCOMPLETE = guid("71CC85F0-1B69-4E28-9558-C3BF83AE75D3")
LOG_GUID = guid("deadbeef-cafe-4bad-8f00-d00dfeedface")
OTHER_LOG_GUID = guid("0badcafe-0000-4000-8000-000000000001")
PARENT_LINKAGE = "{01234567-89ab-4cde-8f01-23456789abcd}"


def unknown_guid(number):
    """A GUID that nobody knows."""
    return struct.pack("<IHHQ", number, 0x1111, 0x4111, 0x1122334455667788)


# ---- structures ----

class Structure:
    """Fields by name; `change(field=value)` bends them."""

    def __init__(self, **fields):
        self.change(**fields)

    def change(self, **fields):
        self.__dict__.update(fields)
        return self


class Header(Structure):
    def __init__(self, **fields):
        super().__init__(signature=b"head", checksum=None, sequence_number=6,
                         file_write_guid=guid("00112233-4455-4677-8899-aabbccddeeff"),
                         data_write_guid=guid("01234567-89ab-4cde-8f01-23456789abcd"), log_guid=NO_GUID,
                         log_version=0, version=1, log_length=MIB, log_offset=MIB, tail=b"")
        self.change(**fields)

    def encode(self):
        data = self.signature + bytes(4) + struct.pack(
            "<Q16s16s16sHHIQ", self.sequence_number, self.file_write_guid, self.data_write_guid, self.log_guid,
            self.log_version, self.version, self.log_length, self.log_offset) + self.tail
        return with_checksum(data.ljust(SECTOR, b"\0"), self.checksum)


class Region(Structure):
    def __init__(self, kind, offset, length, required=1):
        super().__init__(kind=kind, offset=offset, length=length, required=required)

    def encode(self):
        return struct.pack("<16sQII", self.kind, self.offset, self.length, self.required)


class RegionTable(Structure):
    """`count` None: as many as there are."""

    def __init__(self, regions, **fields):
        super().__init__(signature=b"regi", checksum=None, count=None, reserved=0, regions=regions, tail=b"")
        self.change(**fields)

    def encode(self):
        count = len(self.regions) if self.count is None else self.count
        data = self.signature + bytes(4) + struct.pack("<II", count, self.reserved)
        data += b"".join(region.encode() for region in self.regions) + self.tail
        return with_checksum(data.ljust(TABLE_SIZE, b"\0"), self.checksum)


class Item(Structure):
    """A metadata item.  `offset` and `length` None: behind the one before, and as long as its data."""

    def __init__(self, kind, data, flags=6, **fields):
        super().__init__(kind=kind, data=data, flags=flags, offset=None, length=None, reserved=0)
        self.change(**fields)


class MetadataTable(Structure):
    def __init__(self, items, **fields):
        super().__init__(signature=b"metadata", reserved=0, count=None, reserved2=bytes(20), items=items)
        self.change(**fields)

    def item(self, kind):
        return next(item for item in self.items if item.kind == kind)

    def pieces(self):
        """(offset in the region, bytes) of the table and of every item."""
        count = len(self.items) if self.count is None else self.count
        table = self.signature + struct.pack("<HH", self.reserved, count) + self.reserved2
        free = 64 * KIB
        for item in self.items:
            length = len(item.data) if item.length is None else item.length
            offset = item.offset
            if offset is None:
                offset = free if length > 0 else 0
                free += len(item.data)
            table += struct.pack("<16sIIII", item.kind, offset, length, item.flags, item.reserved)
            yield offset, item.data
        yield 0, table


class Entry(Structure):
    """A log entry.  Fields left None are computed; `raw` are descriptors to be taken as they are."""

    def __init__(self, **fields):
        super().__init__(signature=b"loge", checksum=None, length=None, tail=0, sequence_number=1, count=None,
                         reserved=0, log_guid=LOG_GUID, flushed=6 * MIB, last=6 * MIB, descriptors=[])
        self.change(**fields)

    def encode(self):
        count = len(self.descriptors) if self.count is None else self.count
        head = b"".join(descriptor.encode(self.sequence_number) for descriptor in self.descriptors)
        sectors = b"".join(descriptor.sector(self.sequence_number) for descriptor in self.descriptors)
        area = -(-(64 + len(head)) // SECTOR) * SECTOR
        length = area + len(sectors) if self.length is None else self.length
        data = self.signature + bytes(4) + struct.pack(
            "<IIQII16sQQ", length, self.tail, self.sequence_number, count, self.reserved, self.log_guid,
            self.flushed, self.last)
        return with_checksum((data + head).ljust(area, b"\0") + sectors, self.checksum)


class Zero(Structure):
    def __init__(self, offset, length, **fields):
        super().__init__(signature=b"zero", offset=offset, length=length, reserved=0, sequence_number=None)
        self.change(**fields)

    def encode(self, sequence_number):
        sequence_number = sequence_number if self.sequence_number is None else self.sequence_number
        return self.signature + struct.pack("<IQQQ", self.reserved, self.length, self.offset, sequence_number)

    def sector(self, _sequence_number):
        return b""


class Data(Structure):
    def __init__(self, offset, page, **fields):
        super().__init__(signature=b"desc", offset=offset, page=page.ljust(SECTOR, b"\0"), sequence_number=None,
                         data_signature=b"data", high=None, low=None)
        self.change(**fields)

    def encode(self, sequence_number):
        sequence_number = sequence_number if self.sequence_number is None else self.sequence_number
        return self.signature + self.page[-4:] + self.page[:8] + struct.pack("<QQ", self.offset, sequence_number)

    def sector(self, sequence_number):
        high = sequence_number >> 32 if self.high is None else self.high
        low = sequence_number & 0xFFFFFFFF if self.low is None else self.low
        return self.data_signature + struct.pack("<I", high) + self.page[8:-4] + struct.pack("<I", low)


class Locator(Structure):
    """A parent locator item.  `pairs` are (key, value) texts, or bytes that are taken as they are."""

    def __init__(self, pairs, **fields):
        super().__init__(kind=VHDX_LOCATOR, reserved=0, count=None, pairs=pairs, entries={})
        self.change(**fields)

    def encode(self):
        strings = b""
        entries = b""
        start = 20 + 12 * len(self.pairs)
        for number, pair in enumerate(self.pairs):
            key, value = (text if isinstance(text, bytes) else text.encode("utf-16-le") for text in pair)
            fields = [start + len(strings), start + len(strings) + len(key), len(key), len(value)]
            for field, bent in self.entries.get(number, {}).items():
                fields[("key_offset", "value_offset", "key_length", "value_length").index(field)] = bent
            entries += struct.pack("<IIHH", *fields)
            strings += key + value
        count = len(self.pairs) if self.count is None else self.count
        return self.kind + struct.pack("<HH", self.reserved, count) + entries + strings


# ---- the image ----

@functools.lru_cache(maxsize=None)
def pattern(number):
    """The 1 MiB that block `number` holds; every 4 KiB page of it differs."""
    return b"".join(struct.pack("<II", number, page) * 512 for page in range(256))


def read_at(path, offset, length):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


def bat_entry(state, file_offset=0):
    return state | file_offset


class Image:
    """A dynamic disk of 4 MiB in 1 MiB blocks, with nothing wrong.

    Block 0 is at 4 MiB and block 3 at 5 MiB, block 1 is absent and block 2 zero.  The log is at 1 MiB, the metadata
    at 2 MiB, the BAT at 3 MiB.  `disk` maps each MiB of the disk to what a guest reads there, bytes or the place in
    the file where they are; the others read as zeros.
    """

    def __init__(self, block_size=MIB, disk_size=4 * MIB, logical=512, physical=4096, flags=0):
        self.identifier = b"vhdxfile" + "libvhdx tests".encode("utf-16-le")
        self.headers = [Header(sequence_number=5), Header(sequence_number=6)]
        regions = [Region(BAT, 3 * MIB, MIB), Region(METADATA, 2 * MIB, MIB)]
        self.tables = [RegionTable(regions), RegionTable(regions)]
        self.metadata = MetadataTable([
            Item(FILE_PARAMETERS, struct.pack("<II", block_size, flags), flags=4),
            Item(DISK_SIZE, struct.pack("<Q", disk_size)),
            Item(LOGICAL_SECTOR, struct.pack("<I", logical)),
            Item(PHYSICAL_SECTOR, struct.pack("<I", physical)),
            Item(DISK_ID, guid("0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f")),
        ])
        self.metadata_offset = 2 * MIB
        self.bat_offset = 3 * MIB
        self.bat = {0: bat_entry(FULLY_PRESENT, 4 * MIB), 2: bat_entry(ZERO), 3: bat_entry(FULLY_PRESENT, 5 * MIB)}
        self.blocks = {4 * MIB: pattern(0), 5 * MIB: pattern(3)}
        self.disk = {0: pattern(0), 3: pattern(3)}
        self.disk_size = disk_size
        self.log_offset = MIB
        self.log = {}           # position in the log: Entry, or bytes
        self.patches = {}       # file offset: bytes; after everything else, checksums not repaired
        self.length = 6 * MIB
        self.cut = None         # the length the file is cut to at last

    @property
    def regions(self):
        """The regions, which both tables share."""
        return self.tables[0].regions

    def region(self, kind):
        return next(region for region in self.regions if region.kind == kind)

    def change_headers(self, **fields):
        for header in self.headers:
            header.change(**fields)

    def change_tables(self, **fields):
        for table in self.tables:
            table.change(**fields)

    def set_value(self, kind, layout, *values):
        self.metadata.item(kind).data = struct.pack(layout, *values)

    def empty_disk(self, **geometry):
        """The same without a block."""
        self.__init__(**geometry)
        self.bat, self.blocks, self.disk, self.length = {}, {}, {}, 4 * MIB
        return self

    def make_child(self, pairs=None, **fields):
        """A differencing image; what blocks it holds it still holds."""
        if pairs is None:
            pairs = [("parent_linkage", PARENT_LINKAGE), ("relative_path", ".\\parent.vhdx")]
        parameters = self.metadata.item(FILE_PARAMETERS)
        block_size, flags = struct.unpack("<II", parameters.data)
        parameters.data = struct.pack("<II", block_size, flags | 2)
        self.metadata.items.append(Item(PARENT_LOCATOR, Locator(pairs, **fields).encode(), flags=4))

    def bat_page(self, entries):
        """The first 4 KiB of the BAT, with some entries other than they are."""
        page = bytearray(SECTOR)
        for index, entry in {**self.bat, **entries}.items():
            struct.pack_into("<Q", page, index * 8, entry)
        return bytes(page)

    def make_dirty(self, *entries, guid_of_log=LOG_GUID, position=0):
        """The header asks for a replay; the entries follow each other in the log, from `position` on."""
        self.change_headers(log_guid=guid_of_log)
        for entry in entries:
            self.log[position] = entry
            position += len(entry.encode())

    def pieces(self):
        yield 0, self.identifier
        for place, header in zip(HEADER_PLACES, self.headers):
            yield place, header.encode()
        encoded = {}
        for place, table in zip(TABLE_PLACES, self.tables):
            key = repr([vars(region) for region in table.regions]) + repr(
                [value for name, value in vars(table).items() if name != "regions"])
            if key not in encoded:
                encoded[key] = table.encode()
            yield place, encoded[key]
        for offset, data in self.metadata.pieces():
            yield self.metadata_offset + offset, data
        for index, entry in self.bat.items():
            yield self.bat_offset + index * 8, struct.pack("<Q", entry)
        yield from self.blocks.items()
        log_length = self.headers[1].log_length
        for position, entry in self.log.items():
            data = entry if isinstance(entry, bytes) else entry.encode()
            first = max(log_length - position, 0) or len(data)
            yield self.log_offset + position, data[:first]
            yield self.log_offset, data[first:]
        yield from self.patches.items()

    def set(self, **fields):
        """For a case of one line."""
        self.__dict__.update(fields)

    def write(self, path):
        with open(path, "wb") as file:
            file.truncate(self.length)
            for offset, data in self.pieces():
                if data and offset < self.length:
                    file.seek(offset)
                    file.write(data[:self.length - offset])
            if self.cut is not None:
                file.truncate(self.cut)
        for mib, data in self.disk.items():
            if isinstance(data, int):
                self.disk[mib] = read_at(path, data, MIB)
