"""The log of a dirty image."""
import struct

import builder as b
from builder import GIB, KIB, MIB, TIB, Data, Entry, Zero
from cases_head import entry_of, present_in_log
from verdicts import case, good, refused


def one(**fields):
    """The only entry, with one data descriptor for the BAT, bent so."""
    def bend(image):
        image.make_dirty(entry_of(image, present_in_log(image), **fields))

    return bend


def data(**fields):
    """The only entry, its data descriptor bent so."""
    def bend(image):
        entry = entry_of(image, present_in_log(image))
        entry.descriptors[0].change(**fields)
        image.make_dirty(entry)

    return bend


def zero(offset, length, **fields):
    """The only entry has one zero descriptor."""
    return lambda image: image.make_dirty(Entry(descriptors=[Zero(offset, length)], **fields))


def no_log(name, about, bend, *rules):
    """Nothing that can be replayed is left; `rules`: what the entry breaks that would have been it."""
    case(name, about, refused(30, "BAD_LOG", *rules), bend)


no_log("log-entry-len0", "EntryLength 0", one(length=0), 32)
no_log("log-entry-len-unaligned", "EntryLength 4097", one(length=4097), 32)
no_log("log-entry-len-log", "EntryLength is the log's", one(length=MIB), 36)
no_log("log-entry-len-max", "EntryLength 0xfffff000", one(length=0xFFFFF000), 32)
no_log("log-entry-len-short", "EntryLength without the data sector", one(length=4096), 36)
no_log("log-seq0", "SequenceNumber 0", one(sequence_number=0), 34)
no_log("log-desc-count-max", "DescriptorCount 0xffffffff", one(count=2**32 - 1), 36)
no_log("log-desc-count-2^27", "32 * DescriptorCount overflows", one(count=2**27 + 1), 36)
no_log("log-desc-sig", "a descriptor's signature", data(signature=b"DESC"), 38)
no_log("log-desc-seq", "a descriptor's sequence number", data(sequence_number=2), 38)
no_log("log-data-seq-high", "a data sector's SequenceHigh", data(high=1), 40)
no_log("log-data-seq-low", "a data sector's SequenceLow", data(low=2), 40)
no_log("log-data-sig", "a data sector's signature", data(data_signature=b"DATA"), 40)
no_log("log-badcrc-only", "the only entry has a wrong checksum", one(checksum=7), 37)
no_log("log-guid-mismatch", "the only entry is of another session, so it says nothing", lambda i: (
    one(log_guid=b.OTHER_LOG_GUID)(i), i.disk.pop(1)), 35)
no_log("log-off-unaligned", "FileOffset 512 bytes off", data(offset=3 * MIB + 512), 39)
no_log("log-write-fti", "a write to the identifier", data(offset=0), 41)
no_log("log-write-header", "a write to header 1", data(offset=64 * KIB), 41)
no_log("log-write-last-header-page", "a write just before the region tables", data(offset=192 * KIB - 4096), 41)
no_log("log-zero-header", "zeros from the identifier on", zero(0, 2 * MIB), 41)
no_log("log-write-self", "a write to the log", data(offset=MIB + 8192), 42)
no_log("log-zero-over-self", "zeros over all of the log and more", zero(320 * KIB, 2 * MIB), 42)
no_log("log-off-wrap", "FileOffset + 4096 overflows", data(offset=2**64 - 4096), 39)
no_log("log-zero-wrap", "FileOffset + ZeroLength overflows", zero(4 * MIB, 2**64 - 4096), 39)
no_log("log-zero-unaligned", "ZeroLength 4097", zero(4 * MIB, 4097), 39)
no_log("log-tail-outside", "Tail at the end of the log", one(tail=MIB), 33)
no_log("log-tail-nowhere", "Tail where no entry begins", one(tail=64 * KIB))
no_log("log-tail-unaligned", "Tail 100", one(tail=100), 33)
no_log("log-gap", "the older of two entries is torn", lambda i: i.make_dirty(
    Entry(checksum=7), Entry(sequence_number=2)), 37)
case("log-write-beyond-last", "a write 16 TiB behind the start", refused(43, "BAD_LOG"), data(offset=16 * TIB))
case("log-off-2^63", "FileOffset 2^63", refused(43, "BAD_LOG"), data(offset=2**63))
case("log-zero-beyond-last", "zeros far behind the end", refused(43, "BAD_LOG"), zero(4 * MIB, 8 * TIB))
case("log-flushed-gt-file", "FlushedFileOffset behind the end of the file", refused(31, "TRUNCATED"),
     one(flushed=64 * MIB))
case("log-last-huge", "LastFileOffset 2^62", refused(45, "BAD_LOG"), one(last=2**62))
case("log-last-4p", "LastFileOffset 4 PiB", refused(45, "BAD_LOG"), one(last=4 * b.PIB))
case("log-last-8t", "LastFileOffset 8 TiB: the file becomes that long", good(48, 149), one(last=8 * TIB))
case("log-seq-max", "SequenceNumber 2^64-1", good(48), one(sequence_number=2**64 - 1))
case("log-lengths-unaligned", "a file length inside a MiB", good(44, 48), one(last=7 * MIB - 512))
case("log-reserved", "the reserved field of the entry", good(46, 48), one(reserved=1))
case("log-zero-reserved", "the reserved field of a descriptor", good(46, 48), lambda i: i.make_dirty(
    Entry(descriptors=[Zero(6 * MIB - 4096, 0, reserved=1)])))
case("log-zero-length-0", "zeros of no length", good(48), zero(3 * MIB, 0))
case("log-flushed-old", "only an older entry tells of a longer file", good(48), lambda i: i.make_dirty(
    Entry(flushed=64 * MIB, last=64 * MIB), Entry(sequence_number=2, tail=4096)))


# ---- logs that are meant to take long; that of 1 GiB has to be read once ----

LARGE_LOG_SECONDS = 5


def bend_zero_storm(image):
    """32,000 descriptors of one entry, each to zero the same free MiB."""
    image.length = 7 * MIB
    entry = Entry(flushed=7 * MIB, last=7 * MIB, descriptors=[Zero(6 * MIB, MIB)] * 32000)
    image.make_dirty(entry)


def large_log(fill, every=MIB, length=GIB):
    """A log of 1 GiB behind the blocks, an entry at each multiple of `every`; the rest of it is holes."""
    def bend(image):
        image.change_headers(log_offset=6 * MIB, log_length=GIB, log_guid=b.LOG_GUID)
        image.regions.append(b.Region(b.unknown_guid(1), MIB, MIB, required=0))
        image.log_offset = 6 * MIB
        image.length = 6 * MIB + GIB
        count = length // every
        for number in range(count):
            image.log[number * every] = fill(number, count, number * every)

    return bend


def own_sequence(number, count, position):
    """A sequence of its own each, the newest at the start."""
    return Entry(tail=position, sequence_number=2 * (count - number), flushed=0, last=0).encode()


def chain(number, count, position):
    """One sequence, each entry behind the one before; the last one's tail leads nowhere."""
    return Entry(tail=GIB - 4096, sequence_number=number + 1, flushed=0, last=0).encode()


def whole_log(number, count, position):
    """Each entry says to be as long as the log, and has more descriptors than anybody wants to look at."""
    count = (GIB - 64) // 32
    return struct.pack("<4sIIIQII16sQQ", b"loge", number, GIB, position, number + 1, count, 0, b.LOG_GUID, 0, 0)


def many_descriptors(number, count, position):
    """Each entry has 2 MiB of descriptors, and the first is as it should be."""
    head = struct.pack("<4sIIIQII16sQQ", b"loge", number, 2 * MIB, position, number + 1, 65534, 0, b.LOG_GUID, 0, 0)
    return head + Zero(4 * MIB, 4096).encode(number + 1)


case("log-1g-zeros", "a log of 1 GiB that is a hole", refused(30, "BAD_LOG"),
     large_log(own_sequence, length=0), cpu_seconds=LARGE_LOG_SECONDS)
case("log-1g-sequences", "1024 sequences", good(48),
     large_log(own_sequence), cpu_seconds=LARGE_LOG_SECONDS)
case("log-1g-chain", "one sequence of 4096 entries, not complete", refused(30, "BAD_LOG"),
     large_log(chain, every=4096, length=16 * MIB), cpu_seconds=LARGE_LOG_SECONDS)
case("log-1g-whole", "entries as long as the log", refused(30, "BAD_LOG", 38),
     large_log(whole_log), cpu_seconds=LARGE_LOG_SECONDS)
case("log-1g-descriptors", "entries that begin well", refused(30, "BAD_LOG", 38),
     large_log(many_descriptors), cpu_seconds=LARGE_LOG_SECONDS)
case("log-zero-storm", "32000 times the same zeros", good(48), bend_zero_storm)
