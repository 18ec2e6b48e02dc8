"""QEMU and the command keep each other out of an image that is being written; readers coexist."""
import contextlib
import json
import subprocess
import tempfile
import time

import nbd
import pytest

from conftest import served, state

Server = served.Server


@contextlib.contextmanager
def qemu_nbd(image, *options):
    """qemu-nbd with the image open, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="vhdx-peer-") as folder:
        socket = f"{folder}/s"
        with subprocess.Popen(["qemu-nbd", "-f", "vhdx", "-t", "-k", socket, *options, str(image)]) as process:
            try:
                yield connect(socket, process)
            finally:
                process.terminate()


def connect(socket, process):
    for _ in range(500):
        assert process.poll() is None, "qemu-nbd did not start"
        client = nbd.NBD()
        with contextlib.suppress(nbd.Error):
            client.connect_unix(socket)
            return client
        time.sleep(0.02)
    raise AssertionError("qemu-nbd does not answer")


@pytest.fixture
def image(vhdx, peer, tmp_path):
    peer("qemu-nbd", "--version")
    vhdx("create", "--block-size", "1M", "a.vhdx", "16M")
    vhdx("bench", "-w", "-q", "-c", "1", "--pattern", "65", "a.vhdx")
    return tmp_path / "a.vhdx"


def assert_in_use(vhdx, *arguments):
    message = vhdx.fails(1, *arguments)
    assert "in use" in message or "is used" in message, message


def test_while_qemu_writes(vhdx, image):
    with qemu_nbd(image):
        before = state(image)
        assert_in_use(vhdx, "bench", "-w", "-q", "-c", "1", image)
        assert_in_use(vhdx, "replay", image)
        assert_in_use(vhdx, "info", image)
        assert_in_use(vhdx, "check", image)
        assert_in_use(vhdx, "convert", "-O", "raw", image, "x.raw")
        assert vhdx.run("info", "--json", image).returncode == 1
        assert vhdx.json("info", "--json", "-U", image)["virtual-size"] == 16 << 20
        assert state(image) == before
    vhdx("bench", "-w", "-q", "-c", "1", image)


def test_the_error_is_a_document(vhdx, image):
    with qemu_nbd(image):
        document = json.loads(vhdx.run("info", "--json", image).stdout)
        assert document["error"]["code"] == "IN_USE"


def test_while_qemu_reads(vhdx, image):
    with qemu_nbd(image, "-r") as client:
        assert client.pread(512, 0) == b"A" * 512
        vhdx("info", image)
        vhdx("check", "-q", image)
        vhdx("convert", "-O", "raw", image, "x.raw")
        assert_in_use(vhdx, "bench", "-w", "-q", "-c", "1", image)
    vhdx("bench", "-w", "-q", "-c", "1", image)


def test_while_we_write(vhdx, peer, image):
    with Server(image) as server:
        client = server.connect()
        client.pwrite(b"B", 0)
        for command in (("qemu-img", "info"), ("qemu-img", "check"), ("qemu-io", "-f", "vhdx", "-c", "write 0 4k"),
                        ("qemu-io", "-r", "-f", "vhdx", "-c", "read 0 4k"),
                        ("qemu-nbd", "-f", "vhdx", "-k", image.with_name("s"))):
            assert b"lock" in peer(*command, image, status=1)
        assert b"file format: vhdx" in peer("qemu-img", "info", "-U", image)
        assert_in_use(vhdx, "info", image)
        assert vhdx.json("info", "--json", "-U", image)["virtual-size"] == 16 << 20
        assert client.pread(1, 0) == b"B"
    peer("qemu-io", "-f", "vhdx", "-c", "write 0 4k", image)


def test_while_we_read(vhdx, peer, image):
    with Server(image, read_only=True) as server:
        assert server.connect().pread(1, 0) == b"A"
        assert b"file format: vhdx" in peer("qemu-img", "info", image)
        peer("qemu-io", "-r", "-f", "vhdx", "-c", "read -P 65 0 4k", image)
        assert b"lock" in peer("qemu-io", "-f", "vhdx", "-c", "write 0 4k", image, status=1)
        vhdx("info", image)
        assert_in_use(vhdx, "bench", "-w", "-q", "-c", "1", image)


def test_a_dirty_image_of_a_writer_at_work(vhdx, peer, image):
    """-U reads it as it is at the moment, and neither disturbs the writer nor writes."""
    with Server(image) as server:
        client = server.connect()
        for block in range(4):
            client.pwrite(b"C" * 4096, block << 20)
            client.flush()
        before = state(image)
        assert vhdx.json("info", "--json", "-U", image)["dirty-flag"] is True
        vhdx("map", "-U", image)
        assert state(image) == before
        client.pwrite(b"D" * 4096, 5 << 20)
        client.flush()
    vhdx("check", "-q", image)
    peer("qemu-io", "-r", "-f", "vhdx", "-c", "read -P 68 5M 4k", image)
