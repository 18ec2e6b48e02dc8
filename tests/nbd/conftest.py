"""Serving an image with nbdkit and our plugin on a private socket, for the tests of this folder.

VHDX_BUILD names the build directory (default: build beside the sources).  Only processes started here are ended.
"""
import errno
import hashlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import nbd
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get('VHDX_BUILD', ROOT / 'build'))
VHDX = BUILD / 'tools/vhdx/vhdx'
PLUGIN = BUILD / 'plugins/nbdkit/nbdkit-vhdx-plugin.so'

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40


def run(*command, status=0):
    """Run a command that must end with `status` (several: one of them; None: any); return what it printed."""
    result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, timeout=120, check=False)
    wanted = status if isinstance(status, tuple) else (status,)
    assert status is None or result.returncode in wanted, \
        f'{command} ended with {result.returncode}:\n{result.stdout}'
    return result.stdout


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def create(path, size, *options):
    run(VHDX, 'create', *options, path, size)
    return path


def create_child(path, parent):
    run(VHDX, 'create', '--parent', parent, path)
    return path


def assert_sound(path):
    """Once the log is replayed our check finds nothing worse than space that belongs to nothing; QEMU's, nothing."""
    run(VHDX, 'replay', path)
    run(VHDX, 'check', path, status=(0, 3))
    run('qemu-img', 'check', '-f', 'vhdx', path)


class Server:
    """One nbdkit with our plugin."""

    def __init__(self, image, *arguments, read_only=False, close_fds=True):
        self.folder = tempfile.TemporaryDirectory(prefix='vhdx-nbd-')  # a socket's path must be short
        self.clients = []
        self.socket = f'{self.folder.name}/s'
        pid_file = f'{self.folder.name}/pid'
        self.log_path = f'{self.folder.name}/log'
        command = ['nbdkit', '-f', '-U', self.socket, '-P', pid_file]
        command += ['-r'] if read_only else []
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen([*command, str(PLUGIN), str(image), *arguments], stdout=log, stderr=log,
                                            close_fds=close_fds)
        for _ in range(400):
            if os.path.exists(pid_file) or self.process.poll() is not None:
                break
            time.sleep(0.01)

    @property
    def uri(self):
        return f'nbd+unix:///?socket={self.socket}'

    @property
    def log(self):
        return pathlib.Path(self.log_path).read_text(encoding='utf-8')

    def connect(self):
        """A client that sends whatever it is told to, also what it knows the server will refuse."""
        client = nbd.NBD()
        client.set_strict_mode(0)
        client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
        client.connect_uri(self.uri)
        self.clients.append(client)
        return client

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        """End the server in good order; nbdkit waits for its clients, so those go first."""
        for client in self.clients:
            if client.aio_is_ready():
                client.shutdown()
        self.clients = []
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        return self.process.returncode

    def __enter__(self):
        assert self.process.poll() is None, f'nbdkit did not start:\n{self.log}'
        return self

    def __exit__(self, *_):
        self.stop()
        self.folder.cleanup()


@pytest.fixture
def image(tmp_path):
    """A dynamic image of 64 MiB with 1 MiB blocks."""
    return create(tmp_path / 'disk.vhdx', '64M', '--block-size', '1M')


@pytest.fixture
def server(image):
    with Server(image) as running:
        yield running


def refused_with(call, *codes):
    """The call fails with one of these errno values."""
    with pytest.raises(nbd.Error) as caught:
        call()
    assert caught.value.errnum in codes, f'{caught.value} is not {[errno.errorcode[code] for code in codes]}'


def block_status(client, length, offset, *flags):
    """The extents of one answer: a list of (length, flags)."""
    answer = []

    def gather(_context, _offset, entries, _error):
        answer.extend(zip(entries[0::2], entries[1::2]))

    client.block_status(length, offset, gather, *flags)
    return answer


def whole_map(client, size):
    """All of a disk, as joined (offset, length, flags)."""
    joined = []
    offset = 0
    while offset < size:
        for length, flags in block_status(client, min(size - offset, 2 * GIB), offset):
            if joined and joined[-1][2] == flags:
                joined[-1][1] += length
            else:
                joined.append([offset, length, flags])
            offset += length
    return [tuple(extent) for extent in joined]
