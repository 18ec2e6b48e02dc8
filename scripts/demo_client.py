#!/usr/bin/python3
"""The NBD client of the demo: writes in rounds, and knows afterwards what must be there.

    demo_client.py write  URI JOURNAL FIRST_BYTE
    demo_client.py verify URI JOURNAL FIRST_BYTE EXPECTED

A round writes eight 64 KiB slots, at or after FIRST_BYTE, and flushes.  When the server has answered the flush, and
only then, the round is noted in JOURNAL.  What a round writes and where follows from its number alone.

`verify` reads the slots back: those of noted rounds must hold what was written; those of the one round that was under
way when the server died hold, sector by sector, the old or the new.  Whatever is allowed is written into EXPECTED, a
raw copy of the disk as it was before, so that the whole disk can be compared with it afterwards.
"""
import hashlib
import random
import sys

import nbd

SECTOR = 512
SLOTS_A_ROUND = 8


def slot_size_for(length):
    return 65536 if length >= 64 * 65536 else SECTOR


def round_writes(number, first_byte, disk_size):
    """What round `number` writes: a list of (guest offset, bytes)."""
    size = slot_size_for(disk_size - first_byte)
    slot_count = (disk_size - first_byte) // size
    chosen = random.Random(number).sample(range(slot_count), min(SLOTS_A_ROUND, slot_count))
    writes = []
    for slot in chosen:
        seed = hashlib.sha256(b'%d %d' % (number, slot)).digest()
        writes.append((first_byte + slot * size, seed * (size // len(seed))))
    return writes


def write(uri, journal_path, first_byte):
    disk = nbd.NBD()
    disk.connect_uri(uri)
    disk_size = disk.get_size()
    number = 0
    with open(journal_path, 'w', encoding='ascii') as journal:
        try:
            while True:
                number += 1
                for offset, data in round_writes(number, first_byte, disk_size):
                    disk.pwrite(data, offset)
                disk.flush()
                journal.write(f'{number}\n')
                journal.flush()
        except nbd.Error:
            pass  # the server is gone, which is the point of it all


def allowed(found, old, new):
    """True when every sector of `found` is the old or the new one."""
    return all(found[at:at + SECTOR] in (old[at:at + SECTOR], new[at:at + SECTOR])
               for at in range(0, len(found), SECTOR))


def verify(uri, journal_path, first_byte, expected_path):
    disk = nbd.NBD()
    disk.connect_uri(uri)
    disk_size = disk.get_size()
    with open(journal_path, encoding='ascii') as journal:
        rounds = len(journal.readlines())
    newest = {}
    for number in range(1, rounds + 1):
        newest.update(round_writes(number, first_byte, disk_size))

    lost = 0
    with open(expected_path, 'r+b') as expected:
        for offset, data in newest.items():
            expected.seek(offset)
            expected.write(data)
        for offset, new in round_writes(rounds + 1, first_byte, disk_size):
            expected.seek(offset)
            old = expected.read(len(new))
            found = disk.pread(len(new), offset)
            newest.pop(offset, None)
            if allowed(found, old, new):
                expected.seek(offset)
                expected.write(found)
            else:
                lost += 1
    lost += sum(bytes(disk.pread(len(data), offset)) != data for offset, data in newest.items())
    disk.shutdown()
    print(f'{rounds} rounds were flushed, one was under way; {len(newest)} places hold flushed data only.')
    print(f'Places where flushed data is missing: {lost}.')
    return lost


def main():
    mode, uri, journal, first_byte = sys.argv[1:5]
    if mode == 'write':
        write(uri, journal, int(first_byte))
    elif verify(uri, journal, int(first_byte), sys.argv[5]):
        sys.exit(1)


if __name__ == '__main__':
    main()
