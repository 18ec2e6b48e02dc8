"""QEMU and we keep each other out of an image, in both orders."""
import subprocess
import tempfile
import time

import nbd
import pytest

from conftest import PLUGIN, Server, run


def qemu_io(image, command, *options, status):
    return run('qemu-io', '-f', 'vhdx', *options, '-c', command, image, status=status)


class QemuNbd:
    """qemu-nbd serving an image, until the end of the block."""

    def __init__(self, image, *options):
        self.folder = tempfile.TemporaryDirectory(prefix='vhdx-nbd-')
        self.socket = f'{self.folder.name}/s'
        self.process = subprocess.Popen(['qemu-nbd', '-f', 'vhdx', '-t', '-k', self.socket, *options, str(image)])

    def __enter__(self):
        client = nbd.NBD()
        for _ in range(200):
            try:
                client.connect_unix(self.socket)
                return client
            except nbd.Error:
                client = nbd.NBD()
                time.sleep(0.02)
        raise AssertionError('qemu-nbd did not start')

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.folder.cleanup()


def assert_nbdkit_refuses(image, *arguments):
    output = run('nbdkit', '-f', '-U', '-', *arguments, PLUGIN, image, status=1)
    assert 'in use' in output or 'is used' in output, output


def test_we_write_then_qemu(image):
    with Server(image) as server:
        client = server.connect()
        client.pwrite(b'ours', 0)
        assert 'lock' in qemu_io(image, 'write 0 4k', status=1)
        assert 'lock' in qemu_io(image, 'read 0 4k', '-r', status=1)
        qemu_io(image, 'read 1M 4k', '-r', '-U', status=None)
        assert client.pread(4, 0) == b'ours'


def test_we_serve_and_nobody_connected_yet(image):
    with Server(image):
        assert 'lock' in qemu_io(image, 'write 0 4k', status=1)


def test_we_read_then_qemu(image):
    with Server(image, read_only=True) as server:
        assert server.connect().pread(1, 0) == b'\0'
        qemu_io(image, 'read 0 4k', '-r', status=0)
        assert 'lock' in qemu_io(image, 'write 0 4k', status=1)


def test_qemu_writes_then_we(image):
    with QemuNbd(image):
        assert_nbdkit_refuses(image)
        assert_nbdkit_refuses(image, '-r')
    with Server(image) as server:
        server.connect().pwrite(b'free again', 0)


def test_qemu_reads_then_we(image):
    with QemuNbd(image, '-r'):
        with Server(image, read_only=True) as server:
            assert server.connect().pread(1, 0) == b'\0'
        with Server(image) as server:
            with pytest.raises(nbd.Error):
                server.connect()
            assert 'in use' in server.log or 'is used' in server.log
    with Server(image) as server:
        server.connect().pwrite(b'free again', 0)


def test_two_of_ours(image):
    with Server(image) as server:
        server.connect().pwrite(b'first', 0)
        assert_nbdkit_refuses(image)
        assert_nbdkit_refuses(image, '-r')


def test_readers_coexist(image):
    with Server(image, read_only=True) as one, Server(image, read_only=True) as other:
        assert one.connect().pread(1, 0) == other.connect().pread(1, 0)


def test_a_killed_server_leaves_no_lock(image):
    with Server(image) as server:
        server.connect().pwrite(b'x', 0)
        server.kill()
    with Server(image) as server:
        server.connect().pwrite(b'y', 0)
