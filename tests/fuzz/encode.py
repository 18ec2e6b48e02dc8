"""Fuzz inputs of whole images, as tests/fuzz/image.h describes them."""
import os

NOTHING, DYNAMIC, DYNAMIC_4096, FIXED, PARENT, CHILD, DIRTY, DIRTY_CHILD, TWO_CHUNKS, HUGE = range(10)
UNSEALED_HEADERS, UNSEALED_REGIONS, UNSEALED_LOG = 1, 2, 4

MIB = 1 << 20
END, MOST_BYTES, FILL, LENGTH, COPY = 0, 251, 252, 253, 254
LONGEST_FILL = 128 * 1024
LONGEST_GAP = 11  # zeros that cost less inside a record than another record does


def number(value, width):
    return (value & ((1 << (8 * width)) - 1)).to_bytes(width, "little")


def put(offset, data):
    """Bytes at a file offset."""
    records = b""
    for at in range(0, len(data), MOST_BYTES):
        piece = data[at:at + MOST_BYTES]
        records += bytes([len(piece)]) + number(offset + at, 5) + piece
    return records


def fill(offset, length, byte):
    records = b""
    for at in range(0, length, LONGEST_FILL):
        records += bytes([FILL]) + number(offset + at, 5) + number(min(length - at, LONGEST_FILL), 3) + bytes([byte])
    return records


def length(size):
    return bytes([LENGTH]) + number(size, 5)


def copy(source, target, size):
    return bytes([COPY]) + number(source, 5) + number(target, 5) + number(size, 2)


def image(base, *records, unsealed=0):
    return bytes([base, unsealed]) + b"".join(records) + bytes([END])


def data_ranges(descriptor, size):
    """Where a file may hold something other than zeros."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # nothing more
            return
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, at


def pieces(offset, data):
    """Runs of bytes without long gaps of zeros."""
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += len(data[at:at + 4096]) - len(data[at:at + 4096].lstrip(b"\0"))
            continue
        end = data.find(b"\0" * (LONGEST_GAP + 1), at)
        end = len(data) if end < 0 else end
        yield offset + at, data[at:end]
        at = end


def real_file(path, most=4096):
    """A real file: all of it when it is small enough, else what lies first, which its structures do."""
    records = b""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start, end in data_ranges(file.fileno(), size):
            for at in range(start, end, MIB):
                data = os.pread(file.fileno(), min(MIB, end - at), at)
                for offset, piece in pieces(at, data):
                    same = len(piece) > 64 and piece == piece[:1] * len(piece)
                    record = fill(offset, len(piece), piece[0]) if same else put(offset, piece)
                    if len(records) + len(record) > most:
                        return image(NOTHING, records, length(size))
                    records += record
    return image(NOTHING, records, length(size))
