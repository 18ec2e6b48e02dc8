"""Well-formed images at random, and what a guest reads of them: from a seed, by tests/hostile/builder.py alone.

Whatever the format allows a writer to leave behind is drawn: every state, anchors, lost space, regions in any order,
one copy of the headers or of the region tables gone, dirty logs anywhere in their ring, chains with bitmaps.
"""
import dataclasses
import random
import struct

import builder as b
from builder import (FULLY_PRESENT, KIB, MIB, NOT_PRESENT, PARTIALLY_PRESENT, UNDEFINED, UNMAPPED, ZERO, Data, Entry,
                     Image, Region, Zero, bat_entry)

STATES = [NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, FULLY_PRESENT, FULLY_PRESENT]
ENTRIES_OF_A_PAGE = 512


@dataclasses.dataclass
class Layer:
    """One file: its description, the disk a guest sees through it and all below, and what is special about it."""
    name: str
    image: Image
    disk: bytearray
    features: set


def contents(draw, length):
    """Bytes that tell every 4 KiB page from every other one."""
    tile = draw.randbytes(4096 - 8)
    return b"".join(struct.pack("<Q", page) + tile for page in range(length // 4096))


class Maker:
    """Makes one layer."""

    def __init__(self, draw, name, block_size, disk_size, logical, below=None):
        self.draw = draw
        self.below = below
        self.block_size, self.disk_size, self.logical = block_size, disk_size, logical
        self.is_fixed = below is None and draw.random() < 0.2
        self.image = Image(block_size, disk_size, logical, draw.choice([512, 4096]), int(self.is_fixed))
        self.image.bat, self.image.blocks, self.image.disk = {}, {}, {}
        self.layer = Layer(name, self.image, bytearray(below.disk if below else disk_size), set())
        self.block_count = -(-disk_size // block_size)
        self.free = 4 * MIB

    def have(self, feature, chance):
        """Draw a feature, and remember it."""
        if self.draw.random() < chance:
            self.layer.features.add(feature)
            return True
        return False

    def take(self, length):
        """Space behind all that is there, now and then with a gap before it."""
        if self.draw.random() < 0.15:
            self.free += MIB * self.draw.randrange(1, 3)
        self.free += length
        return self.free - length

    def place_structures(self):
        image = self.image
        image.log_offset, image.bat_offset, image.metadata_offset = self.draw.sample([MIB, 2 * MIB, 3 * MIB], 3)
        image.change_headers(log_offset=image.log_offset)
        image.region(b.BAT).change(offset=image.bat_offset, required=int(not self.have("required-0", 0.2)))
        image.region(b.METADATA).change(offset=image.metadata_offset)
        self.draw.shuffle(image.regions)
        if self.have("optional-region", 0.15):
            image.regions.append(Region(b.unknown_guid(1), self.take(MIB), MIB, required=0))
        if self.have("unknown-item", 0.2):
            image.metadata.items.append(b.Item(b.unknown_guid(2), b"anything", flags=2))
        if self.have("user-item-of-known-id", 0.1):
            image.metadata.items.append(b.Item(b.DISK_SIZE, b"a user's", flags=1))

    def place_blocks(self):
        order = list(range(self.block_count))
        self.draw.shuffle(order)
        bitmap = bytearray(MIB)
        for block in order:
            self.place_block(block, bitmap)
        if any(entry & 7 == PARTIALLY_PRESENT for entry in self.image.bat.values()) or (
                self.below and self.have("unused-bitmap", 0.2)):
            place = self.take(MIB)
            self.image.blocks[place] = bytes(bitmap)
            self.image.bat[b.MIB * 4096 * (self.logical // 512) // self.block_size] = bat_entry(FULLY_PRESENT, place)

    def place_block(self, block, bitmap):
        state = FULLY_PRESENT if self.is_fixed else self.draw.choice(
            STATES + ([PARTIALLY_PRESENT] * 4 if self.below else []))
        self.layer.features.add(f"state-{state}")
        start = block * self.block_size
        end = min(start + self.block_size, self.disk_size)
        place = 0
        if state in (FULLY_PRESENT, PARTIALLY_PRESENT):
            place = self.take(self.block_size)
            data = contents(self.draw, self.block_size)
            self.image.blocks[place] = data
            if state == FULLY_PRESENT:
                self.layer.disk[start:end] = data[:end - start]
            else:
                self.take_sectors(block, data, bitmap)
        else:
            if state in (UNDEFINED, UNMAPPED) and self.have("anchor", 0.3):
                place = self.take(self.block_size)
            if state != NOT_PRESENT:
                self.layer.disk[start:end] = bytes(end - start)
        if state != NOT_PRESENT:
            self.image.bat[block] = bat_entry(state, place)

    def take_sectors(self, block, data, bitmap):
        """Runs of sectors of the block are this file's, the others the parent's."""
        count = self.block_size // self.logical
        sector = self.draw.randrange(count)
        while sector < count:
            run = min(self.draw.choice([1, 1, 7, 8, 9, 64, 1000]), count - sector)
            for at in range(sector, sector + run):
                bit = block * count + at
                guest = bit * self.logical
                if guest < self.disk_size:
                    bitmap[bit // 8] |= 1 << bit % 8
                    self.layer.disk[guest:guest + self.logical] = data[at * self.logical:(at + 1) * self.logical]
            sector += run + self.draw.choice([1, 8, 100, 3000])

    def forget_some(self):
        """Part of the BAT is only in the log: some of its entries are not in place yet.  Returns that BAT."""
        page = {index: entry for index, entry in self.image.bat.items() if index < ENTRIES_OF_A_PAGE}
        for index in self.draw.sample(sorted(page), len(page) // 2):
            del self.image.bat[index]
        return page

    def bat_page(self, entries):
        page = bytearray(4096)
        for index, entry in entries.items():
            struct.pack_into("<Q", page, index * 8, entry)
        return bytes(page)

    def make_dirty(self):
        """Entries that bring the BAT to what it is to be, in steps; before the tail, those that are done."""
        image, draw = self.image, self.draw
        final = self.forget_some()
        log_guid = draw.randbytes(16)
        number = draw.choice([1, 5, 2**32 - 2, draw.randrange(1, 2**62)])
        position = draw.randrange(256) * 4096
        done, live = draw.randrange(3), draw.randrange(1, 4)
        image.change_headers(log_guid=log_guid)
        tail = None
        for step in range(done + live):
            is_last = step == done + live - 1
            known = final if is_last else {i: e for i, e in final.items() if draw.random() < 0.5}
            entry = Entry(log_guid=log_guid, sequence_number=number + step, flushed=image.length, last=image.length,
                          descriptors=[Data(image.bat_offset, self.bat_page(known))])
            if draw.random() < 0.3:
                entry.descriptors.insert(0, Zero(image.bat_offset, 64 * KIB if not image_uses_more(image) else 4096))
            if step == done:
                tail = position
            entry.tail = position if tail is None else tail
            image.log[position] = entry
            position = (position + len(entry.encode())) % MIB
        if self.have("stale-entry", 0.3):
            image.log[position] = Entry(log_guid=draw.randbytes(16), sequence_number=number + done + live,
                                        descriptors=[Zero(image.bat_offset, 4096)])
        elif self.have("torn-entry", 0.3):
            image.log[position] = Entry(log_guid=log_guid, sequence_number=number + done + live, tail=position,
                                        checksum=1, descriptors=[Zero(image.bat_offset, 4096)])

    def damage_a_copy(self):
        """What the other copy makes good again."""
        which = self.draw.choice([f"{what}-{number}-bad" for what in ("header", "table") for number in (1, 2)])
        self.layer.features.add(which)
        kind, number, _ = which.split("-")
        (self.image.headers if kind == "header" else self.image.tables)[int(number) - 1].change(checksum=0)

    def make(self):
        image, draw = self.image, self.draw
        number = draw.choice([0, 6, 2**32, 2**60])
        for header, add in zip(image.headers, draw.sample([0, 1], 2)):
            header.change(sequence_number=number + add, file_write_guid=draw.randbytes(16))
        if self.below:
            linkage = self.below.image.headers[0].data_write_guid
            image.make_child([("parent_linkage", text_of_guid(linkage)), ("relative_path", f".\\{self.below.name}")])
            self.layer.features.add("child")
        image.change_headers(data_write_guid=draw.randbytes(16))
        self.place_structures()
        self.place_blocks()
        image.length = self.free
        if self.logical == 4096:
            self.layer.features.add("sector-4096")
        if self.disk_size // self.logical % 2 == 1:
            self.layer.features.add("odd-number-of-sectors")
        if self.is_fixed:
            self.layer.features.add("fixed")
        if self.have("dirty", 0.4):
            self.make_dirty()
        if draw.random() < 0.15:
            self.damage_a_copy()
        return self.layer


def image_uses_more(image):
    """Is there an entry behind the first page of the BAT?"""
    return any(index >= ENTRIES_OF_A_PAGE for index in image.bat)


def text_of_guid(raw):
    first, second, third = struct.unpack("<IHH", raw[:8])
    return f"{{{first:08x}-{second:04x}-{third:04x}-{raw[8:10].hex()}-{raw[10:].hex()}}}"


def make_chain(seed):
    """The layers of one disk, the base first."""
    draw = random.Random(seed)
    logical = 4096 if draw.random() < 0.2 else 512
    grain = draw.choice([logical, 4096, 4096, 4096])
    disk_size = draw.randrange(3 * MIB // grain, 20 * MIB // grain) * grain
    layers = []
    for number in range(draw.choice([1, 1, 1, 2, 3])):
        block_size = MIB << draw.randrange(4)
        below = layers[-1] if layers else None
        layers.append(Maker(draw, f"layer{number}.vhdx", block_size, disk_size, logical, below).make())
    return layers
