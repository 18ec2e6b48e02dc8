"""SIGKILL while clients write: after a replay nothing flushed is missing, and nothing else has appeared."""
import os
import random
import threading
import time

import nbd
import pytest

from conftest import MIB, VHDX, Server, assert_sound, create, run

SECTOR = 512
PIECE = 24 * 1024 + SECTOR
PIECES_A_ROUND = 6


class Writer(threading.Thread):
    """One connection with its share of the pieces of the disk.  A round writes or trims some, then flushes.

    `flushed` maps a guest offset to what must be there; `under_way` to the values it may have instead.
    """

    def __init__(self, server, seed, offsets):
        super().__init__()
        self.client = server.connect()
        self.choose = random.Random(seed)
        self.offsets = offsets
        self.flushed = {offset: bytes(PIECE) for offset in offsets}
        self.under_way = {}
        self.rounds = 0

    def run(self):
        try:
            while True:
                self.run_round()
        except nbd.Error:
            pass  # the server was killed

    def run_round(self):
        for offset in self.choose.sample(self.offsets, PIECES_A_ROUND):
            trims = self.choose.random() < 0.25
            data = bytes(PIECE) if trims else self.choose.randbytes(SECTOR) * (PIECE // SECTOR)
            self.under_way.setdefault(offset, []).append(data)
            if trims:
                self.client.trim(PIECE, offset)
            else:
                self.client.pwrite(data, offset)
        self.client.flush()
        for offset, values in self.under_way.items():
            self.flushed[offset] = values[-1]
        self.under_way = {}
        self.rounds += 1

    def missing(self, client):
        """Offsets whose bytes are neither the flushed ones nor, sector by sector, of the round under way."""
        wrong = []
        for offset, flushed in self.flushed.items():
            found = client.pread(PIECE, offset)
            values = [flushed, *self.under_way.get(offset, [])]
            for at in range(0, PIECE, SECTOR):
                if all(found[at:at + SECTOR] != value[at:at + SECTOR] for value in values):
                    wrong.append(offset + at)
                    break
        return wrong


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('block_size', ['1M', '2M'])
def test_nothing_flushed_is_lost(tmp_path, seed, block_size):
    disk_size = 96 * MIB
    path = create(tmp_path / 'disk.vhdx', disk_size, '--block-size', block_size)
    offsets = [number * 2 * PIECE for number in range(disk_size // PIECE // 2)]
    random.Random(seed).shuffle(offsets)

    with Server(path) as server:
        writers = [Writer(server, seed * 10 + number, offsets[number::3]) for number in range(3)]
        for writer in writers:
            writer.start()
        deadline = time.monotonic() + 30
        while min(writer.rounds for writer in writers) < 3 + 5 * seed and time.monotonic() < deadline:
            time.sleep(0.001 * (1 + seed))
        server.kill()
        for writer in writers:
            writer.join(30)
    assert all(writer.rounds > 0 for writer in writers)

    with Server(path, read_only=True) as server:
        client = server.connect()
        assert [writer.missing(client) for writer in writers] == [[], [], []], 'read-only, replayed in memory'
    with Server(path) as server:
        client = server.connect()
        assert [writer.missing(client) for writer in writers] == [[], [], []], 'replayed into the file'
        client.pwrite(b'it can still be written' * 1000, disk_size - 23000)
        client.flush()
    assert_sound(path)


def test_killed_again_and_again(tmp_path):
    """The image of each round is the start of the next."""
    path = create(tmp_path / 'disk.vhdx', '32M', '--block-size', '1M')
    choose = random.Random(5)
    model = {}
    for _ in range(12):
        with Server(path) as server:
            client = server.connect()
            for offset, data in model.items():
                assert client.pread(len(data), offset) == data
            for _ in range(choose.randrange(1, 12)):
                offset = choose.randrange(31) * MIB
                data = choose.randbytes(choose.randrange(1, MIB))
                client.trim(MIB, offset)
                client.pwrite(data, offset)
                model[offset] = data
            client.flush()
            server.kill()
    assert_sound(path)


def test_replay_gives_what_a_read_only_open_showed(tmp_path):
    path = create(tmp_path / 'disk.vhdx', '32M', '--block-size', '1M')
    with Server(path) as server:
        client = server.connect()
        for block in range(0, 32, 3):
            client.pwrite(os.urandom(MIB // 2), block * MIB)
            client.flush()
        client.pwrite(b'not flushed' * 10000, 30 * MIB)
        server.kill()
    run(VHDX, 'convert', '-O', 'raw', path, tmp_path / 'before.raw')
    run(VHDX, 'replay', path)
    run(VHDX, 'compare', '-f', 'raw', tmp_path / 'before.raw', path)
    run('qemu-img', 'compare', '-f', 'raw', '-F', 'vhdx', tmp_path / 'before.raw', path)
