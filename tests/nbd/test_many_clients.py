"""Several connections at once, whole disks in and out, clients that leave in the middle."""
import random
import socket
import struct
import threading

from conftest import MIB, PLUGIN, VHDX, Server, assert_sound, create, run

SIZE = 64 * MIB


def write_sparse_disk(path, seed, size=SIZE):
    """A raw disk with holes, zeros and data."""
    choose = random.Random(seed)
    with open(path, 'wb') as disk:
        disk.truncate(size)
        for _ in range(40):
            disk.seek(choose.randrange(size - 300000))
            disk.write(choose.randbytes(choose.randrange(1, 300000)))


def test_copy_in_and_out(tmp_path, image):
    write_sparse_disk(tmp_path / 'in.raw', 11)
    with Server(image) as server:
        run('nbdcopy', '--flush', '--connections=4', tmp_path / 'in.raw', server.uri)
        run('nbdcopy', '--connections=4', server.uri, tmp_path / 'out.raw')
    run('cmp', tmp_path / 'in.raw', tmp_path / 'out.raw')
    run(VHDX, 'compare', '-f', 'raw', tmp_path / 'in.raw', image)
    assert_sound(image)


def test_copy_between_two_images(tmp_path, image):
    write_sparse_disk(tmp_path / 'in.raw', 12)
    other = create(tmp_path / 'other.vhdx', '64M', '--block-size', '32M')
    with Server(image) as server, Server(other) as target:
        run('nbdcopy', tmp_path / 'in.raw', server.uri)
        run('nbdcopy', '--flush', server.uri, target.uri)
    run(VHDX, 'compare', image, other)
    assert_sound(other)


def test_server_that_lives_as_long_as_a_command(tmp_path, image):
    """nbdkit --run: its parent process, which runs the command, must not keep the image for itself."""
    write_sparse_disk(tmp_path / 'in.raw', 13)
    run('nbdkit', '-U', '-', PLUGIN, image, '--run', f'nbdcopy --flush {tmp_path}/in.raw "$uri" && nbdinfo "$uri"')
    run(VHDX, 'compare', '-f', 'raw', tmp_path / 'in.raw', image)
    run('qemu-img', 'check', image)


def test_server_that_a_client_starts(tmp_path, image):
    """Socket activation: the client starts nbdkit and hands it a socket."""
    write_sparse_disk(tmp_path / 'in.raw', 14)
    run('nbdcopy', '--flush', tmp_path / 'in.raw', '[', 'nbdkit', PLUGIN, image, ']')
    run('nbdcopy', '--', '[', 'nbdkit', '-r', PLUGIN, image, ']', tmp_path / 'out.raw')
    run('cmp', tmp_path / 'in.raw', tmp_path / 'out.raw')


def test_what_one_writes_another_reads(server):
    one, other = server.connect(), server.connect()
    for block in range(20):
        one.pwrite(bytes([block + 1]) * 5000, block * MIB + 100)
        assert other.pread(5000, block * MIB + 100) == bytes([block + 1]) * 5000


def test_a_flush_covers_the_other_connections(image):
    with Server(image) as server:
        writers = [server.connect() for _ in range(4)]
        for number, writer in enumerate(writers):
            writer.pwrite(bytes([number + 1]) * 100000, number * 7 * MIB)
        server.connect().flush()
        server.kill()
    with Server(image, read_only=True) as server:
        client = server.connect()
        for number in range(4):
            assert client.pread(100000, number * 7 * MIB) == bytes([number + 1]) * 100000
    assert_sound(image)


def random_client(server, seed, first, length, failures):
    """Random requests in a range of its own, beside others in the same blocks, against a plain array."""
    choose = random.Random(seed)
    client = server.connect()
    model = bytearray(length)
    for _ in range(250):
        start = choose.randrange(length)
        count = min(choose.choice((1, 511, 512, 4096, 70000, 3 * MIB)), length - start)
        action = choose.choice(('write', 'write', 'zero', 'trim', 'read', 'flush'))
        if action == 'write':
            data = choose.randbytes(count)
            client.pwrite(data, first + start)
            model[start:start + count] = data
        elif action in ('zero', 'trim'):
            getattr(client, action)(count, first + start)
            model[start:start + count] = bytes(count)
        elif action == 'flush':
            client.flush()
        elif client.pread(count, first + start) != model[start:start + count]:
            failures.append(f'seed {seed}: read of {count} at {first + start}')
    if client.pread(length, first) != model:
        failures.append(f'seed {seed}: at the end')


def test_clients_against_a_plain_array(image):
    """Borders between clients lie inside blocks and inside sectors."""
    share = SIZE // 4 + 12345
    failures = []
    with Server(image) as server:
        threads = []
        for number in range(4):
            first = number * share
            arguments = (server, 100 + number, first, min(share, SIZE - first), failures)
            threads.append(threading.Thread(target=random_client, args=arguments))
            threads[-1].start()
        for thread in threads:
            thread.join()
    assert not failures
    assert_sound(image)


def test_connections_come_and_go(server):
    for number in range(60):
        client = server.connect()
        client.pwrite(b'%04d' % number, number * 4)
        client.shutdown()
    assert server.connect().pread(8, 58 * 4) == b'00580059'


def raw_connection(path):
    """The oldest way into an export, by hand, so that a request can be cut short."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.recv(18, socket.MSG_WAITALL)
    connection.sendall(struct.pack('>I', 3))  # fixed newstyle, no zeroes
    connection.sendall(struct.pack('>8sII', b'IHAVEOPT', 1, 0))
    connection.recv(10, socket.MSG_WAITALL)
    return connection


def test_half_a_payload_never_reaches_the_disk(server):
    connection = raw_connection(server.socket)
    write = 1
    connection.sendall(struct.pack('>IHHQQI', 0x25609513, 0, write, 1, 3 * MIB, MIB))
    connection.sendall(b'x' * (MIB // 2))
    connection.close()
    assert server.connect().pread(MIB, 3 * MIB) == bytes(MIB)
