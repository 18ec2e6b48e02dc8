#!/usr/bin/python3
"""The corpus: inputs of the fuzz targets that found something once, or would, each named for its one fault.

    tests/corpus/make.py            writes TARGET/NAME for each
    tests/corpus/make.py --check    are they what this script makes?

A find goes in here by its cause: the smallest change of a base that shows it, never the fuzzer's own bytes.
"""
import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, FOLDER + "/../fuzz")
sys.dont_write_bytecode = True
from encode import *  # noqa: E402,F403

HEADERS = (0x10000, 0x20000)
REGIONS = (0x30000, 0x40000)
LOG, METADATA, BAT = MIB, 2 * MIB, 3 * MIB
ITEMS = METADATA + 0x10000
FIRST_ENTRY = 64  # of the log, its first descriptor


def both(copies, offset, value, width):
    return b"".join(put(at + offset, number(value, width)) for at in copies)


def entry(index, value):
    return put(BAT + 8 * index, number(value, 8))


# --- programs (tests/fuzz/program.c): a view, then operations ---

def view(how=0, block=0):
    return bytes([how, block])


def write(window, at, size, byte):
    return bytes([0, window]) + number(at, 2) + number(size - 1, 2) + bytes([byte])


def zero(window, at, size, fast=False):
    return bytes([5, int(fast), window]) + number(at, 2) + number(size - 1, 2)


def trim(window, at, size):
    return bytes([8, window]) + number(at, 2) + number(size - 1, 2)


WHOLE_BLOCKS = 0x80  # of a window
FLUSH, PUNCH, DROP_BITMAP, REOPEN, KILL, COMPARE = (bytes([10]), bytes([12, 1]), bytes([12, 0]), bytes([13]), bytes([14]),
                                                   bytes([15]))
SMALL_PROGRAM = view() + write(0, 10, 700, 5) + write(1, 0, 3000, 6) + FLUSH + zero(1, 100, 50) + KILL + COMPARE

# --- what open looks at ---

FILES = {
    "an-empty-file": image(NOTHING),
    "only-a-signature": image(NOTHING, put(0, b"vhdxfile")),
    "ends-inside-a-header": image(DYNAMIC, length(0x10000 + 100)),
    "ends-inside-the-bat": image(DYNAMIC, length(BAT + 9)),
    "ends-inside-a-block": image(DYNAMIC, length(5 * MIB + 1)),
    "no-header-checksum": image(DYNAMIC, both(HEADERS, 8, 9, 1), unsealed=UNSEALED_HEADERS),
    "headers-of-one-number": image(DYNAMIC, both(HEADERS, 8, 77, 8), both(HEADERS[:1], 16, 1, 1)),
    "the-last-header-number": image(DYNAMIC, both(HEADERS[:1], 8, -1, 8)),
    "another-version": image(DYNAMIC, both(HEADERS, 66, 2, 2)),
    "log-offset-wraps": image(DIRTY, both(HEADERS, 72, -MIB, 8)),
    "log-of-4-gib": image(DIRTY, both(HEADERS, 68, -MIB, 4)),
    "too-many-regions": image(DYNAMIC, both(REGIONS, 8, 2048, 4)),
    "regions-differ": image(DYNAMIC, both(REGIONS[:1], 40, 2 * MIB, 4)),
    "bat-region-wraps": image(DYNAMIC, both(REGIONS, 32, -MIB, 8), both(REGIONS, 64, -MIB, 8)),
    "bat-over-metadata": image(DYNAMIC, both(REGIONS, 32, METADATA, 8), both(REGIONS, 64, METADATA, 8)),
    "metadata-count-of-all-bits": image(DYNAMIC, put(METADATA + 10, b"\xff\xff")),
    "item-past-its-region": image(DYNAMIC, put(METADATA + 32 + 16, number(-8, 4))),
    "blocks-of-nothing": image(DYNAMIC, put(ITEMS, number(0, 4))),
    "disk-of-nothing": image(DYNAMIC, put(ITEMS + 8, number(0, 8))),
    "disk-of-all-bits": image(DYNAMIC, put(ITEMS + 8, number(-512, 8))),
    "sectors-of-nothing": image(DYNAMIC, put(ITEMS + 16, number(0, 4))),
    "locator-of-all-keys": image(CHILD, put(ITEMS + 40 + 18, b"\xff\xff")),
    "locator-key-past-its-end": image(CHILD, put(ITEMS + 40 + 20, number(-2, 4))),
    "physical-sectors-below-logical": image(DYNAMIC_4096, put(ITEMS + 20, number(512, 4))),
    "bat-region-of-600-mib": image(DYNAMIC, both(REGIONS, 40, 600 * MIB, 4), length(700 * MIB)),
    "bat-region-of-600-mib-second": image(DYNAMIC, both(REGIONS, 72, 600 * MIB, 4), length(700 * MIB)),
    "block-past-all-numbers": image(DYNAMIC, entry(1, -MIB | 6)),
    "block-in-a-reserved-state": image(DYNAMIC, entry(1, 4)),
    "blocks-at-one-place": image(DYNAMIC, copy(BAT, BAT + 8, 8)),
    "block-over-the-log": image(DYNAMIC, entry(1, MIB | 6)),
    "an-anchor-on-a-block": image(DYNAMIC, copy(BAT, BAT + 48, 8), put(BAT + 48, b"\x03")),
    "bitmap-missing": image(CHILD, entry(4096, 0)),
    "bitmap-on-a-block": image(CHILD, copy(BAT, BAT + 8 * 4096, 8), put(BAT + 8 * 4096, b"\x06")),
    "bitmap-of-the-last-chunk-missing": image(TWO_CHUNKS, entry(2 * 4097 - 1, 0), entry(4097 + 1, 0)),
    "bitmap-past-the-end": image(CHILD, entry(4096, 900 * MIB | 6)),
    "padding-with-an-entry": image(DYNAMIC, entry(20, 5 * MIB | 6)),
}

# --- what replay reads ---

NEWEST = 1 << 63  # a number above those of the entries that are there


def zeros(*ranges):
    """An entry of zero descriptors in front, newer than all."""
    descriptors = b"".join(b"zero" + number(0, 4) + number(size, 8) + number(offset, 8) + number(NEWEST, 8)
                           for offset, size in ranges)
    return (put(LOG + 8, number(0x1000, 4) + number(0, 4) + number(NEWEST, 8) + number(len(ranges), 4)) +
            put(LOG + FIRST_ENTRY, descriptors))


LOGS = {
    "a-sound-log": image(DIRTY),
    "a-sound-log-of-a-child": image(DIRTY_CHILD),
    "no-entry-checksum": image(DIRTY, put(LOG + 48, b"\x01"), unsealed=UNSEALED_LOG),
    "entry-as-long-as-the-log": image(DIRTY, put(LOG + 8, number(MIB, 4))),
    "tail-past-the-log": image(DIRTY, put(LOG + 12, number(MIB, 4))),
    "descriptors-without-end": image(DIRTY, put(LOG + 24, number(-1, 4))),
    "page-over-a-header": image(DIRTY, put(LOG + 0x1000 + FIRST_ENTRY + 16, number(HEADERS[0], 8))),
    "page-over-the-log": image(DIRTY, put(LOG + 0x1000 + FIRST_ENTRY + 16, number(LOG, 8))),
    "page-past-all-numbers": image(DIRTY, put(LOG + 0x1000 + FIRST_ENTRY + 16, number(-4096, 8))),
    "lengths-past-all-numbers": image(DIRTY, put(LOG + 48, number(-MIB, 8)), put(LOG + 56, number(-MIB, 8))),
    "zeros-over-the-bat": image(DIRTY, zeros((BAT + 4096, 4096))),
    "zeros-past-the-end": image(DIRTY, zeros((BAT + 4096, 4096), (60 * MIB, 8192))),
    "zeros-past-all-numbers": image(DIRTY, zeros((BAT, -4096))),
    "file-shorter-than-flushed": image(DIRTY, length(6 * MIB)),
    "header-without-its-log": image(DYNAMIC, both(HEADERS, 48, 1, 1)),
}

# --- programs ---

PROGRAMS = {
    "unaligned-writes-and-a-kill": image(DYNAMIC) + SMALL_PROGRAM,
    "large-sectors": image(DYNAMIC_4096) + SMALL_PROGRAM,
    "trims-of-a-fixed-image": image(FIXED) + view() + trim(1 | WHOLE_BLOCKS, 0, 1) + KILL + REOPEN,
    "a-child-larger-than-its-parent": image(TWO_CHUNKS) + view(2) + write(2, 3000, 900, 9) + FLUSH + KILL + COMPARE,
    "both-ends-of-64-tib": image(HUGE) + view() + write(3, 6000, 100, 1) + zero(0 | WHOLE_BLOCKS, 0, 1) + KILL + REOPEN,
    "bitmap-dropped-in-use": image(CHILD) + view() + write(1, 0, 512, 3) + DROP_BITMAP + KILL + COMPARE,
    "space-given-back-and-taken": image(DYNAMIC) + view() + zero(0 | WHOLE_BLOCKS, 0, 1) + FLUSH + PUNCH
    + write(0, 0, 6000, 7) + KILL + COMPARE,
    "trims-of-a-child": image(CHILD) + view(0, 1) + trim(1, 5, 2000) + trim(1 | WHOLE_BLOCKS, 0, 1) + KILL + COMPARE,
    # The second header became one by the session, and with it the rest of its slot (V7) a finding.
    "rest-of-a-header-slot": image(HUGE, put(HEADERS[1], bytes(4)), put(HEADERS[1] + 5000, b"\x01")) + SMALL_PROGRAM,
    # A fixed image that lacks blocks (V146) is shorter than it should be (V147) once its end is cut.
    "end-of-a-fixed-image-without-its-blocks": image(FIXED, *(entry(i, 0) for i in range(1, 6)), length(14 * MIB))
    + view() + write(1, 0, 6000, 6),
    "written-after-a-replay": image(DIRTY) + SMALL_PROGRAM,
}

# --- chains: how it ends, then a program ---

CHAINS = {
    "a-sound-chain-merged": image(CHILD) + image(PARENT) + b"\x01" + SMALL_PROGRAM,
    "a-sound-chain-flattened": image(CHILD) + image(PARENT) + b"\x02" + SMALL_PROGRAM,
    "a-dirty-child-merged": image(DIRTY_CHILD) + image(PARENT) + b"\x01" + SMALL_PROGRAM,
    "a-block-of-the-parent-is-damaged": image(CHILD) + image(PARENT, entry(1, 4)) + b"\x01" + SMALL_PROGRAM,
    "another-parent": image(CHILD) + image(PARENT, both(HEADERS, 32, 1, 1)) + b"\x00" + SMALL_PROGRAM,
    "sectors-of-another-size": image(CHILD) + image(PARENT, put(ITEMS + 16, number(4096, 4))) + b"\x01" + SMALL_PROGRAM,
    "a-parent-that-wants-one": image(CHILD) + image(CHILD) + b"\x00" + SMALL_PROGRAM,
}

# --- paths of parents: a folder, then two texts with a byte of length before each (fuzz_parents.c) ---


def paths(folder, text, other=b""):
    return bytes([folder, (len(text) + 7) // 8]) + text + b"\0" + bytes([(len(other) + 7) // 8]) + other


PATHS = {
    "climbs-above-the-root": paths(0, b"..\\..\\..\\a"),
    "climbs-and-comes-back": paths(3, b"..\\..\\x\\..\\..\\y\\z.vhdx"),
    "a-volume-without-its-brace": paths(1, b"\\\\?\\Volume{\\a"),
    "a-share-without-a-name": paths(1, b"\\\\server\\"),
    "relative-to-a-drive": paths(1, b"C:a"),
    "a-protocol": paths(1, b"nbd://host/a"),
    "a-cut-character": paths(1, b"a\xe2\x82", b"a\xe2\x82\xac"),
    "a-comma-too-many": paths(1, b"/a,,/b", b"C:="),
}

CORPUS = {"open": FILES, "replay": LOGS, "program": PROGRAMS, "chain": CHAINS, "parents": PATHS}


def made():
    for target, inputs in CORPUS.items():
        for name, data in inputs.items():
            # What opens and is replayed is looked at and written to, too: the bytes behind the image say where.
            yield f"{target}/{name}", data + (b"\0\1\2\3" if target in ("open", "replay") else b"")


def check():
    """Print what differs.  Returns the exit status."""
    wanted = dict(made())
    there = {f"{target}/{name}" for target in CORPUS for name in os.listdir(f"{FOLDER}/{target}")}
    wrong = sorted(there ^ wanted.keys())
    for path in sorted(there & wanted.keys()):
        with open(f"{FOLDER}/{path}", "rb") as file:
            if file.read() != wanted[path]:
                wrong.append(path)
    for path in wrong:
        print(f"tests/corpus/{path} is not what make.py makes")
    return 1 if wrong else 0


def main():
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    for path, data in made():
        os.makedirs(os.path.dirname(f"{FOLDER}/{path}"), exist_ok=True)
        with open(f"{FOLDER}/{path}", "wb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
