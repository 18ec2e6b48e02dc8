"""What a guest trims goes back to the host while the disk is served, and serves the next blocks (docs/vhdx-format.md 4.5)."""
import os

import pytest

from conftest import Server, assert_sound, create

MIB = 1 << 20
HALF = MIB // 2


def on_host(path):
    return os.stat(path).st_blocks * 512


def has_holes(folder):
    """Whether the host's file system can give back a part of a file."""
    probe = folder / 'probe'
    probe.write_bytes(os.urandom(MIB))
    os.sync()
    full = on_host(probe)
    done = os.system(f'fallocate --punch-hole --offset 0 --length {HALF} {probe} 2>/dev/null')
    return done == 0 and on_host(probe) < full


@pytest.fixture
def path(tmp_path):
    return create(tmp_path / 'disk.vhdx', '64M', '--block-size', '1M')


def write_blocks(client, first, count):
    for block in range(first, first + count):
        client.pwrite(os.urandom(MIB), block * MIB)
    client.flush()


def test_trimmed_blocks_serve_the_next_ones(path):
    """Eight blocks at a time walk over the disk, and the file is never larger than for a few of them."""
    with Server(path) as server:
        client = server.connect()
        write_blocks(client, 0, 8)
        for first in range(8, 64, 8):
            client.trim(8 * MIB, (first - 8) * MIB)
            client.flush()
            write_blocks(client, first, 8)
        assert not any(client.pread(56 * MIB, 0))
        server.stop()
    assert os.stat(path).st_size < 30 * MIB
    assert_sound(path)


def test_parts_of_blocks_become_holes(path, tmp_path):
    if not has_holes(tmp_path):
        pytest.skip('files on this host keep what they have')
    with Server(path) as server:
        client = server.connect()
        write_blocks(client, 0, 32)
        full = on_host(path)
        for block in range(32):
            client.trim(HALF, block * MIB + HALF)
        client.flush()
        assert on_host(path) <= full - 31 * HALF
        assert not any(client.pread(HALF, 5 * MIB + HALF)) and any(client.pread(HALF, 5 * MIB))
        server.stop()
    assert_sound(path)
