"""Single requests: offsets and lengths at their extremes, zero, trim, FUA, and what block status tells."""
import errno
import random

import nbd
import pytest

from conftest import GIB, KIB, MIB, TIB, Server, block_status, assert_sound, create, refused_with, whole_map

SIZE = 64 * MIB
HOLE_ZERO = nbd.STATE_HOLE | nbd.STATE_ZERO


@pytest.mark.parametrize('offset, length', [
    (0, 1), (1, 1), (511, 2), (4095, 2), (SIZE - 1, 1), (SIZE - 4097, 4097),
    (MIB - 1, 2), (3 * MIB - 5, 2 * MIB + 10), (7, 32 * MIB), (SIZE - 32 * MIB, 32 * MIB),
])
def test_any_offset_and_length(server, offset, length):
    client = server.connect()
    data = random.Random(offset ^ length).randbytes(length)
    client.pwrite(data, offset)
    assert client.pread(length, offset) == data
    for neighbour in (offset - 1, offset + length):
        if 0 <= neighbour < SIZE:
            assert client.pread(1, neighbour) == b'\0'


@pytest.mark.parametrize('offset, length', [
    (SIZE, 1), (SIZE - 1, 2), (2**63 - 1, 1), (2**64 - 1, 1), (2**64 - 512, 512), (SIZE - 1, 1 << 20),
])
def test_outside_the_disk(server, offset, length):
    client = server.connect()
    refused_with(lambda: client.pread(length, offset), errno.EINVAL)
    refused_with(lambda: client.pwrite(b'x' * length, offset), errno.EINVAL, errno.ENOSPC)
    refused_with(lambda: client.trim(length, offset), errno.EINVAL, errno.ENOSPC)
    refused_with(lambda: client.zero(length, offset), errno.EINVAL, errno.ENOSPC)
    assert client.pread(1, SIZE - 1) == b'\0', 'the connection lives and nothing was written'


def test_length_nothing(server):
    client = server.connect()
    for call in (lambda: client.pread(0, 0), lambda: client.pwrite(b'', 0), lambda: client.trim(0, 0),
                 lambda: client.zero(0, 0)):
        try:
            call()
        except nbd.Error as error:
            assert error.errnum in (errno.EINVAL, errno.ENOSPC)
    assert client.pread(1, 0) == b'\0'


def test_zero_and_trim_of_everything_at_once(server):
    client = server.connect()
    client.pwrite(b'x' * 3 * MIB, 5 * MIB + 7)
    client.zero(SIZE, 0)
    assert client.pread(32 * MIB, 0) == bytes(32 * MIB)
    client.pwrite(b'x' * 3 * MIB, 5 * MIB + 7)
    client.trim(SIZE, 0)
    assert client.pread(32 * MIB, 0) == bytes(32 * MIB)
    client.flush()
    assert whole_map(client, SIZE) == [(0, SIZE, HOLE_ZERO)]


def test_zero_of_4_gib(tmp_path):
    """The longest length the protocol has."""
    with Server(create(tmp_path / 'disk.vhdx', '16G')) as server:
        client = server.connect()
        client.pwrite(b'x' * MIB, 3 * GIB)
        client.zero(2**32 - 1, 1)
        assert client.pread(MIB, 3 * GIB) == bytes(MIB)
        client.trim(2**32 - 1, GIB)
        client.flush()


@pytest.mark.parametrize('offset, length', [(2 * MIB, 3 * MIB), (2 * MIB + 1, 5), (2 * MIB + 513, 3 * MIB)])
def test_zero_may_give_space_back(server, offset, length):
    client = server.connect()
    client.pwrite(b'x' * 8 * MIB, 0)
    client.zero(length, offset)
    expected = bytearray(b'x' * 8 * MIB)
    expected[offset:offset + length] = bytes(length)
    assert client.pread(8 * MIB, 0) == expected


def test_zero_that_keeps_its_space(server):
    client = server.connect()
    client.zero(4 * MIB, MIB, nbd.CMD_FLAG_NO_HOLE)
    assert client.pread(4 * MIB, MIB) == bytes(4 * MIB)
    extents = whole_map(client, SIZE)
    assert not any(flags & nbd.STATE_HOLE for offset, length, flags in extents if MIB <= offset < 5 * MIB)


@pytest.mark.parametrize('offset, length', [(2 * MIB, 4 * MIB), (2 * MIB + 512, 4096), (2 * MIB + 1, 1)])
def test_fast_zero_is_fast_or_refused(server, offset, length):
    client = server.connect()
    client.pwrite(b'x' * 8 * MIB, 0)
    expected = bytearray(b'x' * 8 * MIB)
    try:
        client.zero(length, offset, nbd.CMD_FLAG_FAST_ZERO)
        expected[offset:offset + length] = bytes(length)
    except nbd.Error as error:
        assert error.errnum == errno.EOPNOTSUPP
        assert length < 4 * MIB, 'whole blocks only change their state'
    assert client.pread(8 * MIB, 0) == expected


def test_fast_zero_never_writes_data(server):
    client = server.connect()
    refused_with(lambda: client.zero(MIB, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE), errno.EOPNOTSUPP)


def test_trim_of_part_of_a_block(server):
    client = server.connect()
    client.pwrite(b'x' * 4 * MIB, 0)
    client.trim(MIB + 3000, MIB - 1500)
    found = client.pread(4 * MIB, 0)
    assert found[:MIB - 1500] == b'x' * (MIB - 1500)
    assert found[MIB - 1500:2 * MIB + 1500] == bytes(MIB + 3000)
    assert found[2 * MIB + 1500:] == b'x' * (2 * MIB - 1500)


@pytest.mark.parametrize('write', [
    lambda client: client.pwrite(b'y' * 70000, 9 * MIB + 11, nbd.CMD_FLAG_FUA),
    lambda client: client.zero(70000, 9 * MIB + 11, nbd.CMD_FLAG_FUA),
    lambda client: client.zero(70000, 9 * MIB + 11, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE),
    lambda client: client.trim(70000, 9 * MIB + 11, nbd.CMD_FLAG_FUA),
    lambda client: client.trim(4 * MIB, 9 * MIB, nbd.CMD_FLAG_FUA),
], ids=['write', 'zero', 'zero and keep', 'trim', 'trim blocks'])
def test_fua_survives_a_kill(image, write):
    with Server(image) as server:
        client = server.connect()
        client.pwrite(b'x' * 4 * MIB, 9 * MIB)
        client.flush()
        write(client)
        expected = client.pread(4 * MIB, 9 * MIB)
        server.kill()
    with Server(image, read_only=True) as server:
        assert server.connect().pread(4 * MIB, 9 * MIB) == expected
    assert_sound(image)


def test_cache_request(server):
    client = server.connect()
    client.pwrite(b'x' * MIB, 0)
    client.cache(2 * MIB, 0)
    assert client.pread(MIB, 0) == b'x' * MIB


def test_map_of_an_empty_disk(server):
    assert whole_map(server.connect(), SIZE) == [(0, SIZE, HOLE_ZERO)]


def test_map_follows_writes(server):
    client = server.connect()
    client.pwrite(b'x' * 2 * MIB, 4 * MIB)
    client.pwrite(b'x' * MIB, 20 * MIB)
    assert whole_map(client, SIZE) == [
        (0, 4 * MIB, HOLE_ZERO), (4 * MIB, 2 * MIB, 0), (6 * MIB, 14 * MIB, HOLE_ZERO), (20 * MIB, MIB, 0),
        (21 * MIB, 43 * MIB, HOLE_ZERO)]
    client.trim(MIB, 4 * MIB)
    assert whole_map(client, SIZE)[:2] == [(0, 5 * MIB, HOLE_ZERO), (5 * MIB, MIB, 0)]


def test_map_sees_holes_inside_a_block(server):
    client = server.connect()
    client.pwrite(b'x' * 4 * KIB, 8 * MIB + 512 * KIB)
    extents = whole_map(client, SIZE)
    assert sum(length for _, length, flags in extents if not flags & nbd.STATE_ZERO) <= 64 * KIB


def test_map_of_one_extent(server):
    client = server.connect()
    client.pwrite(b'x' * MIB, 0)
    assert block_status(client, SIZE, 0, nbd.CMD_FLAG_REQ_ONE) == [(MIB, 0)]
    (length, flags), = block_status(client, 17, MIB + 5, nbd.CMD_FLAG_REQ_ONE)
    assert length == 17 and flags == HOLE_ZERO


def test_map_of_a_huge_disk_is_bounded(tmp_path):
    """Every other block written: one answer about 2 GiB stays small, and asking on gets to the end."""
    with Server(create(tmp_path / 'disk.vhdx', '64T', '--block-size', '1M')) as server:
        client = server.connect()
        start = 40 * TIB
        for block in range(0, 600, 2):
            client.pwrite(b'x' * 64 * KIB, start + block * MIB)
        answer = block_status(client, 2 * GIB, start)
        assert 0 < len(answer) <= 2048
        written = offset = 0
        while offset < 600 * MIB:
            for length, flags in block_status(client, 600 * MIB - offset, start + offset):
                written += length if flags == 0 else 0
                offset += length
        assert 300 * 64 * KIB <= written <= 300 * MIB
