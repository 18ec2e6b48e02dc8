"""A differencing image served with its parents: contents, block status, locks, and what is refused."""
import errno
import os
import pathlib
import random
import signal
import subprocess
import time

import nbd
import pytest

from conftest import KIB, MIB, PLUGIN, VHDX, Server, create, create_child, run, sha256, whole_map

SIZE = 16 * MIB
SECTOR = 512
HOLE = nbd.STATE_HOLE | nbd.STATE_ZERO


def fill(path, *pieces):
    """Write (offset, bytes) into an image."""
    with Server(path) as server:
        client = server.connect()
        for offset, data in pieces:
            client.pwrite(data, offset)
        client.flush()


@pytest.fixture
def base(tmp_path):
    """Each MiB holds its number, but for the last four, which nothing holds."""
    path = create(tmp_path / 'base.vhdx', SIZE, '--block-size', '1M')
    fill(path, *((number * MIB, bytes([number + 1]) * MIB) for number in range(12)))
    return path


@pytest.fixture
def child(tmp_path, base):
    return create_child(tmp_path / 'child.avhdx', base)


def base_disk():
    return bytearray(b''.join(bytes([number + 1]) * MIB for number in range(12)) + bytes(4 * MIB))


def read_all(client):
    return client.pread(SIZE, 0)


def log_of_failed_start(image, *arguments, read_only=True):
    """nbdkit does not start; what it says."""
    server = Server(image, *arguments, read_only=read_only)
    assert server.process.wait(20) != 0
    log = server.log
    server.folder.cleanup()
    return log


# ---- contents ----

def test_reads_and_writes(base, child):
    before = sha256(base)
    disk = base_disk()
    with Server(child) as server:
        client = server.connect()
        assert read_all(client) == disk
        assert 'differencing VHDX, 2 MiB blocks, 1 parent\n' in run('nbdinfo', server.uri)
        for offset, length in ((0, SECTOR), (3 * MIB - 700, 5000), (7 * MIB, 3 * MIB), (12 * MIB + 9, 1)):
            client.pwrite(b'w' * length, offset)
            disk[offset:offset + length] = b'w' * length
        assert read_all(client) == disk
        client.flush()
    with Server(child, read_only=True) as server:
        assert read_all(server.connect()) == disk
    assert sha256(base) == before
    run(VHDX, 'check', child)


def test_three_layers(tmp_path, child):
    fill(child, (MIB, b'c' * KIB))
    top = create_child(tmp_path / 'top.avhdx', child)
    fill(top, (2 * MIB, b't' * KIB))
    disk = base_disk()
    disk[MIB:MIB + KIB] = b'c' * KIB
    disk[2 * MIB:2 * MIB + KIB] = b't' * KIB
    with Server(top) as server:
        client = server.connect()
        assert ', 2 parents\n' in run('nbdinfo', server.uri)
        assert read_all(client) == disk


def test_block_status(base, child):
    """Blocks of the child are 2 MiB, so what is zeroed there lies across two of the parent's."""
    with Server(child) as server:
        client = server.connect()
        assert whole_map(client, SIZE) == [(0, 12 * MIB, 0), (12 * MIB, 4 * MIB, HOLE)]
        client.zero(2 * MIB, 4 * MIB)
        client.pwrite(b'x' * 64 * KIB, 14 * MIB)
        assert whole_map(client, SIZE)[:3] == [(0, 4 * MIB, 0), (4 * MIB, 2 * MIB, HOLE), (6 * MIB, 6 * MIB, 0)]
        assert_map_is_true(client)
    with Server(child, read_only=True) as server:
        assert_map_is_true(server.connect())


def assert_map_is_true(client):
    """What the block status calls zero reads as zeros, and what lies in any layer is not called a hole."""
    disk = read_all(client)
    position = 0
    for offset, length, flags in whole_map(client, SIZE):
        assert offset == position
        position += length
        if flags & nbd.STATE_ZERO:
            assert disk[offset:offset + length] == bytes(length), (offset, length)
    assert position == SIZE


@pytest.mark.parametrize('seed', range(3))
def test_nothing_of_the_parent_reappears(base, child, seed):
    """Sectors that the child wrote, zeroed or trimmed never show the parent's bytes again."""
    choose = random.Random(seed)
    disk = base_disk()
    is_own = bytearray(SIZE // SECTOR)  # sectors that the child decides
    before = sha256(base)
    for _ in range(3):
        with Server(child) as server:
            client = server.connect()
            for _ in range(60):
                length = choose.choice((SECTOR, 4 * KIB, 64 * KIB, MIB, 2 * MIB, 4 * MIB))
                offset = choose.randrange((SIZE - length) // SECTOR + 1) * SECTOR
                if length >= MIB and choose.random() < 0.7:
                    offset = offset // MIB * MIB
                request(client, choose, disk, is_own, offset, length)
            client.flush()
            assert read_all(client) == disk
            assert_map_is_true(client)
            if choose.random() < 0.5:
                server.kill()
        with Server(child, read_only=True) as server:
            assert read_all(server.connect()) == disk, 'after reopening'
    assert sha256(base) == before


def request(client, choose, disk, is_own, offset, length):
    """One request, to the server and to the model.  A trim keeps what only the parent holds, or makes it zero."""
    what = choose.choice(('write', 'zero', 'zero without a hole', 'trim', 'trim'))
    sectors = slice(offset // SECTOR, (offset + length) // SECTOR)
    if what == 'trim':
        client.trim(length, offset)
        after = client.pread(length, offset)
        for number in range(length // SECTOR):
            place = slice(offset + number * SECTOR, offset + (number + 1) * SECTOR)
            found = after[number * SECTOR:(number + 1) * SECTOR]
            if not is_own[place.start // SECTOR] and found == disk[place]:
                continue
            assert found == bytes(SECTOR), f'trim of {length} at {offset}: sector {place.start // SECTOR}'
            disk[place] = found
            is_own[place.start // SECTOR] = 1
        return
    data = choose.randbytes(SECTOR) * (length // SECTOR) if what == 'write' else bytes(length)
    if what == 'write':
        client.pwrite(data, offset)
    else:
        client.zero(length, offset, nbd.CMD_FLAG_NO_HOLE if what == 'zero without a hole' else 0)
    disk[offset:offset + length] = data
    is_own[sectors] = bytes([1]) * len(is_own[sectors])


def test_killed_and_opened_again(base, child):
    choose = random.Random(9)
    before = sha256(base)
    disk = base_disk()
    for _ in range(6):
        with Server(child) as server:
            client = server.connect()
            assert read_all(client) == disk
            for _ in range(choose.randrange(1, 20)):
                offset = choose.randrange(SIZE - MIB)
                data = choose.randbytes(choose.randrange(1, 300 * KIB))
                client.pwrite(data, offset)
                disk[offset:offset + len(data)] = data
            client.flush()
            server.kill()
        with Server(child, read_only=True) as server:
            assert read_all(server.connect()) == disk, 'replayed in memory'
    assert sha256(base) == before
    run(VHDX, 'replay', child)
    run(VHDX, 'check', child, status=(0, 3))


def test_a_dirty_parent(tmp_path, base):
    """A parent whose server was killed is read as if its log had been replayed, and not written."""
    with Server(base) as server:
        client = server.connect()
        client.pwrite(b'd' * MIB, 13 * MIB)
        client.flush()
        server.kill()
    child = create_child(tmp_path / 'child.vhdx', base)
    before = sha256(base)
    assert 'dirty-flag": true' in run(VHDX, 'info', '--json', base)
    with Server(child) as server:
        client = server.connect()
        assert client.pread(MIB, 13 * MIB) == b'd' * MIB
        client.pwrite(b'e', 13 * MIB)
        assert client.pread(3, 13 * MIB) == b'edd'
    assert sha256(base) == before


# ---- locks ----

@pytest.mark.parametrize('read_only', [True, False])
def test_parents_of_a_served_child_cannot_be_written(tmp_path, base, child, read_only):
    top = create_child(tmp_path / 'top.avhdx', child)
    with Server(top, read_only=read_only) as server:
        assert server.connect().pread(1, 0) == b'\1'
        for parent in (child, base):
            with Server(parent, 'orphan-children=true') as other:
                with pytest.raises(nbd.Error):
                    other.connect()
                assert 'in use' in other.log or 'is used' in other.log, other.log
            run(VHDX, 'bench', '-w', '-q', '-c', '1', '--orphan-children', parent, status=1)
            with Server(parent, read_only=True) as other:
                assert other.connect().pread(1, MIB) == b'\2', 'another reader is fine'
        if read_only:
            with Server(top, read_only=True) as other:
                assert other.connect().pread(1, MIB) == b'\2'
    with Server(base, 'orphan-children=true') as server:
        server.connect().pwrite(b'free again', 0)


def test_a_parent_being_written(base, child):
    with Server(base, 'orphan-children=true') as server:
        assert server.connect().pread(1, 0) == b'\1'  # had it written, its GUID would be another one already
        log = log_of_failed_start(child)
        assert 'base.vhdx' in log and ('in use' in log or 'is used' in log), log


# ---- what depends on an image that is to be written ----

def test_an_image_with_children_is_not_written(base, child):
    before = sha256(base)
    with Server(base) as server:
        with pytest.raises(nbd.Error):
            server.connect()
        assert 'child.avhdx depends on it' in server.log and 'orphan-children=true' in server.log, server.log
    assert sha256(base) == before
    with Server(base, read_only=True) as server:
        assert server.connect().pread(1, 0) == b'\1'
    with Server(base, 'readonly=true') as server:
        assert server.connect().pread(1, 0) == b'\1'
    with Server(base, 'orphan-children=true') as server:
        server.connect().pwrite(b'w', 0)


# ---- where parents come from ----

@pytest.fixture
def apart(tmp_path, base):
    """The child in another folder than its parent."""
    (tmp_path / 'children').mkdir()
    return create_child(tmp_path / 'children/child.avhdx', base)


def test_same_folder_is_the_default(apart, tmp_path):
    log = log_of_failed_start(apart)
    assert 'outside of the folder of the child' in log and 'parents=any' in log, log
    assert 'may not be looked for' in log_of_failed_start(apart, 'parents=none')
    for which in ('any', tmp_path, f'/usr,{tmp_path}'):
        with Server(apart, f'parents={which}', read_only=True) as server:
            assert server.connect().pread(1, MIB) == b'\2'
    assert 'outside of the allowed folders' in log_of_failed_start(apart, 'parents=/usr')


def test_relative_folders_survive_the_background(apart, tmp_path):
    """nbdkit leaves its directory when it goes to the background, and only then is the image opened to stay."""
    base = tmp_path / 'base.vhdx'
    (tmp_path / 'bases').mkdir()
    base.rename(tmp_path / 'bases/base.vhdx')
    tail = str(tmp_path).lstrip('/')
    (tmp_path / 'drive' / tail).mkdir(parents=True)
    (tmp_path / 'bases/base.vhdx').rename(tmp_path / 'drive' / tail / 'base.vhdx')
    subprocess.run(['nbdkit', '-U', tmp_path / 's', '-P', tmp_path / 'pid', PLUGIN, 'child.avhdx',
                    'parents=../drive', 'map=C:=../drive'], cwd=apart.parent, check=True, timeout=20)
    pid = int(wait_for(lambda: (tmp_path / 'pid').exists() and (tmp_path / 'pid').read_text().strip()))
    try:
        client = nbd.NBD()
        client.connect_unix(str(tmp_path / 's'))
        client.pwrite(b'w', 0)
        assert client.pread(2, 0) == b'w\1' and client.pread(1, MIB) == b'\2'
        client.shutdown()
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not pathlib.Path(f'/proc/{pid}/exe').exists())


def wait_for(condition):
    """What the condition is once it is true; nbdkit's parent returns before the server is ready."""
    for _ in range(1000):
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError('waited in vain')


@pytest.mark.parametrize('parameter', ['parents=/nowhere/at/all', 'map=C:=/nowhere/at/all', 'map=nonsense', 'parents=',
                                       'orphan-children=perhaps'])
def test_wrong_parameters(child, parameter):
    assert 'error: ' in log_of_failed_start(child, parameter)


def test_a_missing_parent(base, child):
    base.unlink()
    log = log_of_failed_start(child)
    assert 'base.vhdx: not found' in log and 'parents=DIR' in log and 'map=' in log, log


def test_a_parent_that_was_changed(base, child):
    """Both GUIDs and the remedy are named."""
    wanted = guid_of(base)
    with Server(base, 'orphan-children=true') as server:
        server.connect().pwrite(b'x', 0)
    found = guid_of(base)
    assert found != wanted
    log = log_of_failed_start(child)
    assert wanted in log and found in log and 'vhdx rebase --relink' in log, log


def guid_of(path):
    words = run(VHDX, 'info', '--json', path).split('"data-write-guid": "')
    return words[1][:36]
