"""What the server says about itself, and when it refuses to start or to write."""
import errno
import os
import stat

import nbd
import pytest

from conftest import KIB, MIB, PLUGIN, TIB, VHDX, Server, create, refused_with, run, sha256


def test_dump_plugin():
    dump = run('nbdkit', PLUGIN, '--dump-plugin')
    for line in ('name=vhdx', 'thread_model=parallel', 'magic_config_key=file', 'has_extents=1', 'has_zero=1',
                 'has_trim=1', 'has_flush=1'):
        assert line in dump.splitlines()


def test_advertised(server):
    client = server.connect()
    assert client.get_size() == 64 * MIB
    assert [client.get_block_size(which) for which in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)] == \
        [1, 4 * KIB, 32 * MIB]
    for can in ('can_fua', 'can_flush', 'can_trim', 'can_zero', 'can_fast_zero', 'can_multi_conn', 'can_cache'):
        assert getattr(client, can)(), can
    assert not client.is_read_only()
    assert not client.is_rotational()


def test_description(server):
    assert 'dynamic VHDX, 1 MiB blocks' in run('nbdinfo', server.uri)


def test_largest_disk(tmp_path):
    with Server(create(tmp_path / 'large.vhdx', '64T', '--block-size', '1M')) as server:
        client = server.connect()
        assert client.get_size() == 64 * TIB
        client.pwrite(b'end', 64 * TIB - 3)
        client.flush()
        assert client.pread(4, 64 * TIB - 4) == b'\0end'


def test_no_image_named():
    assert 'file=' in run('nbdkit', '-f', '-U', '-', PLUGIN, status=1)


@pytest.mark.parametrize('parameter', ['readonly=perhaps', 'ignore-log=2.5', 'colour=blue'])
def test_bad_parameter(image, parameter):
    run('nbdkit', '-f', '-U', '-', PLUGIN, image, parameter, status=1)


@pytest.mark.parametrize('content', [b'', b'\x55\xaa' * MIB, b'vhdxfile' + bytes(4 * MIB)],
                         ids=['empty', 'not a VHDX', 'a signature and no more'])
def test_bad_image_stops_the_start(tmp_path, content):
    path = tmp_path / 'bad.vhdx'
    path.write_bytes(content)
    output = run('nbdkit', '-f', '-U', '-', PLUGIN, path, status=1)
    assert output.count('bad.vhdx') == 1, 'the file is named once'
    assert path.read_bytes() == content


def test_missing_image_stops_the_start(tmp_path):
    assert 'no such file' in run('nbdkit', '-f', '-U', '-', PLUGIN, tmp_path / 'none.vhdx', status=1).lower()


def dirty_image(path):
    """An image whose log must be replayed: its server was killed after a flush."""
    with Server(create(path, '64M', '--block-size', '1M')) as server:
        client = server.connect()
        client.pwrite(b'flushed' * 1000, 5 * MIB + 3)
        client.flush()
        server.kill()
    assert '"dirty-flag": true' in run(VHDX, 'info', '--json', path).replace('":true', '": true')
    return path


@pytest.mark.parametrize('arguments, read_only', [(['readonly=true'], False), ([], True)], ids=['readonly=', '-r'])
def test_read_only(tmp_path, arguments, read_only):
    path = dirty_image(tmp_path / 'dirty.vhdx')
    before = sha256(path)
    os.chmod(path, stat.S_IRUSR)
    with Server(path, *arguments, read_only=read_only) as server:
        client = server.connect()
        assert client.is_read_only()
        refused_with(lambda: client.pwrite(b'x', 0), errno.EPERM)
        refused_with(lambda: client.trim(MIB, 0), errno.EPERM)
        refused_with(lambda: client.zero(MIB, 0), errno.EPERM)
        assert client.pread(7000, 5 * MIB + 3) == b'flushed' * 1000
        client.flush()
    assert sha256(path) == before, 'read-only means not one byte is written'


def test_ignore_log(tmp_path):
    path = dirty_image(tmp_path / 'dirty.vhdx')
    before = sha256(path)
    with Server(path, 'ignore-log=true') as server:
        assert server.connect().is_read_only()
    assert sha256(path) == before


def test_nothing_is_written_without_a_write(image):
    before = sha256(image)
    with Server(image) as server:
        client = server.connect()
        client.pread(4096, 0)
        client.flush()
        client.shutdown()
    assert sha256(image) == before


def test_clean_stop_leaves_a_clean_image(image):
    with Server(image) as server:
        client = server.connect()
        client.pwrite(b'never flushed by the client', 10 * MIB)
        client.shutdown()
        assert server.stop() == 0
    run('qemu-img', 'check', image)
    with Server(image, read_only=True) as server:
        assert server.connect().pread(27, 10 * MIB) == b'never flushed by the client'


def test_full_host(tmp_path):
    """A host without space: the write fails with ENOSPC, the server lives, and what was flushed stays."""
    path = create(tmp_path / 'disk.vhdx', '64M', '--block-size', '1M')
    limit = os.path.getsize(path) + 6 * MIB
    wrapper = tmp_path / 'nbdkit'
    wrapper.write_text(f'#!/bin/bash\ntrap "" XFSZ\nulimit -f {limit // 1024}\nexec /usr/bin/nbdkit "$@"\n')
    wrapper.chmod(0o755)
    old_path = os.environ['PATH']
    os.environ['PATH'] = f'{tmp_path}:{old_path}'
    try:
        with Server(path) as server:
            client = server.connect()
            client.pwrite(b'a' * MIB, 0)
            client.flush()
            with pytest.raises(nbd.Error) as caught:
                for block in range(1, 64):
                    client.pwrite(b'b' * MIB, block * MIB)
            assert caught.value.errnum == errno.ENOSPC
            assert client.pread(MIB, 0) == b'a' * MIB
            client.pwrite(b'c' * MIB, 0)
            client.flush()
    finally:
        os.environ['PATH'] = old_path
    with Server(path) as server:
        assert server.connect().pread(MIB, 0) == b'c' * MIB
