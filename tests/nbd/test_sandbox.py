"""The confined server: it serves as ever, and whoever takes it over reaches nothing else.

tests/intruder is preloaded into the server and breaks out, as far as it can, when it reads what `let_in` wrote.
"""
import errno
import os
import subprocess

import nbd
import pytest

from conftest import BUILD, MIB, PLUGIN, VHDX, Server, assert_sound, create, create_child, refused_with, run, whole_map

INTRUDER = BUILD / 'tests/intruder/intruder.so'
MAGIC = b'let the intruder in'
KERNEL = dict(line.split('=', 1) for line in run('nbdkit', '--dump-plugin', PLUGIN).splitlines())['vhdx_sandbox']


def need(*parts):
    missing = [part for part in parts if part not in KERNEL]
    if missing:
        pytest.skip(f'this kernel has no {" and no ".join(missing)}')


class Intruded(Server):
    """A server with the intruder inside, in a folder with another image; `attempts` has what it reported last."""

    def __init__(self, monkeypatch, image, *arguments, **more):
        beside = create(image.parent / 'beside.vhdx', '10M')
        other = image.parent.with_name(image.parent.name + '-elsewhere')
        other.mkdir(exist_ok=True)
        (other / 'secret').write_text('secret')
        self.report = open(image.parent / 'report', 'w+b')
        os.set_inheritable(self.report.fileno(), True)
        monkeypatch.setenv('INTRUDER_REPORT', str(self.report.fileno()))
        monkeypatch.setenv('INTRUDER_OTHER', str(other / 'secret'))
        monkeypatch.setenv('INTRUDER_BESIDE', str(beside))
        monkeypatch.setenv('INTRUDER_OUTPUT', str(image.parent / 'made'))
        monkeypatch.setenv('LD_PRELOAD', str(INTRUDER))
        super().__init__(image, *arguments, close_fds=False, **more)
        monkeypatch.delenv('LD_PRELOAD')

    @property
    def attempts(self):
        self.report.seek(0)
        return [(name, int(number)) for name, number in map(bytes.split, self.report.read().splitlines())]


ALL = ('read-other', 'read-beside', 'write-beside', 'make', 'remove-beside', 'process', 'program', 'socket', 'signal')


def answers(attempts):
    return {name.decode(): number for name, number in attempts}


def let_in(client):
    client.pwrite(MAGIC.ljust(512, b'.'), 3 * MIB)
    client.pread(512, 3 * MIB)


def test_an_intruder_reaches_nothing(image, monkeypatch):
    need('seccomp')  # everything is open: no call that takes a path is left
    with Intruded(monkeypatch, image, 'sandbox=true') as server:
        let_in(server.connect())
        assert answers(server.attempts) == dict.fromkeys(ALL, errno.EPERM)
    assert not (image.parent / 'made').exists() and (image.parent / 'beside.vhdx').exists()


def test_without_it_an_intruder_reaches_all(image, monkeypatch):
    with Intruded(monkeypatch, image, 'sandbox=false') as server:
        let_in(server.connect())
        assert answers(server.attempts) == dict.fromkeys(ALL, 0)


def test_a_hostile_image_is_met_confined(image, monkeypatch):
    """The words are in the file's header, so the server is taken over while it opens the image: twice, once before
    it forks.  It may then read beside the image, where parents and children are, and no more."""
    need('landlock', 'seccomp')
    with open(image, 'r+b') as file:
        file.seek(8)  # who made it: any text
        file.write(MAGIC)
    with Intruded(monkeypatch, image, 'sandbox=true') as server:
        found = server.attempts
        server.connect().pread(512, 0)
    expected = dict.fromkeys(ALL, errno.EPERM) | {'read-other': errno.EACCES, 'read-beside': 0,
                                                  'write-beside': errno.EACCES, 'make': errno.EACCES}
    assert len(found) >= 2 * len(ALL)
    for number in range(0, len(found), len(ALL)):
        assert answers(found[number:number + len(ALL)]) == expected


def test_it_serves_as_ever(image):
    with Server(image, 'sandbox=true') as server:
        clients = [server.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            client.pwrite(bytes([number + 1]) * MIB, number * 10 * MIB + 4096)
            client.pwrite(b'F' * 4096, (60 + number) * MIB, nbd.CMD_FLAG_FUA)
        clients[0].flush()
        for client in clients:
            assert client.pread(MIB, 20 * MIB + 4096) == b'\3' * MIB
        clients[1].trim(2 * MIB, 10 * MIB)
        clients[1].zero(MIB, 20 * MIB)
        clients[1].flush()
        assert whole_map(clients[2], 64 * MIB)
        run('qemu-img', 'info', f'nbd+unix:///?socket={server.socket}')
        run('nbdcopy', server.uri, image.parent / 'copy.raw')
        assert 'Operation not permitted' not in server.log
        assert server.stop() == 0
    assert_sound(image)
    run(VHDX, 'compare', image, image.parent / 'copy.raw')


def test_a_dirty_log_is_replayed(image):
    with Server(image, 'sandbox=true') as server:
        client = server.connect()
        client.pwrite(b'kept' * 1024, 5 * MIB)
        client.flush()
        server.kill()
    run(VHDX, 'info', '--is', 'dirty', image)
    with Server(image, 'sandbox=true') as server:
        assert server.connect().pread(4096, 5 * MIB) == b'kept' * 1024
    assert_sound(image)


def test_reading_only(image):
    image.chmod(0o444)
    before = image.read_bytes()
    with Server(image, 'sandbox=true', 'readonly=true') as server:
        client = server.connect()
        refused_with(lambda: client.pwrite(b'x' * 512, 0), errno.EPERM)
        assert client.pread(512, 0) == bytes(512)
    assert image.read_bytes() == before


@pytest.mark.parametrize('which', ['same-dir', 'any', 'FOLDER'])
def test_parents(tmp_path, which):
    base = create(tmp_path / 'base.vhdx', '16M')
    with Server(base) as server:
        server.connect().pwrite(b'base' * 128, MIB)
    folder = tmp_path if which == 'same-dir' else tmp_path / 'child'
    folder.mkdir(exist_ok=True)
    child = create_child(folder / 'child.avhdx', base)
    with Server(child, 'sandbox=true', f'parents={which if which != "FOLDER" else tmp_path}') as server:
        client = server.connect()
        assert client.pread(512, MIB) == b'base' * 128
        client.pwrite(b'more' * 128, MIB + 512)
        client.flush()
    run(VHDX, 'check', '--chain', '--parents=any', child, status=(0, 3))


def starts(*arguments, folder):
    """What nbdkit says when it does not start."""
    done = subprocess.run(['nbdkit', '-f', '-U', f'{folder}/s', PLUGIN, *map(str, arguments)], timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode != 0
    return done.stdout


def test_what_would_fail_later_fails_at_the_start(image):
    folder = image.parent
    create_child(folder / 'child.avhdx', image)
    assert 'child.avhdx depends on it' in starts(image, 'sandbox=true', folder=folder)
    with Server(image, 'sandbox=true', 'orphan-children=true') as server:
        server.connect().pwrite(b'x' * 512, 0)
    with Server(image, 'sandbox=true', 'readonly=true') as server:
        assert server.connect().pread(1, 0) == b'x'
    assert 'cannot be confined' not in starts(folder / 'none.vhdx', 'sandbox=true', folder=folder)
    assert 'perhaps' in starts(image, 'sandbox=perhaps', folder=folder)


def test_files_that_stay_readable(image, tmp_path):
    """Keys for TLS are read at each handshake; the rate filter reads its file again and again."""
    (tmp_path / 'keys').write_text('alice:0123456789abcdef0123456789abcdef\n')
    arguments = ['--tls=require', f'--tls-psk={tmp_path}/keys', 'sandbox=true']

    def connect(server):
        client = nbd.NBD()
        client.set_tls(nbd.TLS_REQUIRE)
        client.set_tls_username('alice')
        client.set_tls_psk_file(str(tmp_path / 'keys'))
        client.connect_unix(server.socket)
        return client

    with Server(image, *arguments, f'sandbox-read={tmp_path}/keys') as server:
        client = connect(server)
        client.pwrite(b'x' * 512, 0)
        client.shutdown()
    with Server(image, *arguments) as server:
        with pytest.raises(nbd.Error):
            connect(server)
