"""Images of ours, read by QEMU, 7-Zip and libvhdi."""
import random
import time

import pytest

from conftest import BLOCK_SIZES, MIB, served

Server = served.Server


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_a_file_system(vhdx, peers, ext4_disk, block_size):
    vhdx("convert", "-O", "vhdx", "--block-size", f"{block_size}M", ext4_disk.path, "a.vhdx")
    vhdx("check", "-q", "a.vhdx")
    peers.assert_sound("a.vhdx")
    peers.assert_same_for_qemu(ext4_disk.path, "a.vhdx")
    peers.assert_same_for_7zip(ext4_disk.digest, peers.folder / "a.vhdx")
    peers.assert_opened_by_libvhdi(ext4_disk.size, "a.vhdx")


@pytest.mark.parametrize("block_size", [1, 2, 32, 256])
def test_a_fixed_one(vhdx, peers, ext4_disk, block_size):
    vhdx("convert", "-O", "vhdx", "--type", "fixed", "--block-size", f"{block_size}M", ext4_disk.path, "a.vhdx")
    vhdx("check", "-q", "a.vhdx")
    assert vhdx.json("info", "--json", "a.vhdx")["type"] == "fixed"
    peers.assert_sound("a.vhdx")
    peers.assert_same_for_qemu(ext4_disk.path, "a.vhdx")
    peers.assert_same_for_7zip(ext4_disk.digest, peers.folder / "a.vhdx")
    peers.assert_opened_by_libvhdi(ext4_disk.size, "a.vhdx")


@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("block_size", [1, 2, 64, 256])
def test_sectors_of_4096(vhdx, peers, ext4_disk, block_size, kind):
    """QEMU knows only those of 512."""
    vhdx("convert", "-O", "vhdx", "--type", kind, "--block-size", f"{block_size}M", "--logical-sector", "4096",
         ext4_disk.path, "a.vhdx")
    vhdx("check", "-q", "a.vhdx")
    peers.assert_same_for_7zip(ext4_disk.digest, peers.folder / "a.vhdx")
    peers.assert_opened_by_libvhdi(ext4_disk.size, "a.vhdx")


@pytest.mark.parametrize("block_size", [1, 2, 32, 256])
def test_over_one_chunk(vhdx, peers, sparse_disk, block_size):
    vhdx("convert", "-O", "vhdx", "--block-size", f"{block_size}M", sparse_disk.path, "a.vhdx")
    vhdx("check", "-q", "a.vhdx")
    peers.assert_sound("a.vhdx")
    peers.assert_same_for_qemu(sparse_disk.path, "a.vhdx")
    peers.assert_opened_by_libvhdi(sparse_disk.size, "a.vhdx")


def test_a_stream(vhdx, peers, ext4_disk):
    """One pass, to a pipe: the layout is another one."""
    with open(peers.folder / "a.vhdx", "wb") as pipe:
        vhdx("convert", "-f", "raw", "-O", "vhdx", ext4_disk.path, "-", stdout=pipe)
    peers.assert_sound("a.vhdx")
    peers.assert_same_for_qemu(ext4_disk.path, "a.vhdx")
    peers.assert_same_for_7zip(ext4_disk.digest, peers.folder / "a.vhdx")


@pytest.mark.parametrize("size", ["512", "1M", "3M", "64M", "2040G", "64T"])
def test_empty_ones(vhdx, peers, size):
    vhdx("create", "a.vhdx", size)
    peers.assert_sound("a.vhdx")
    length = vhdx.json("info", "--json", "a.vhdx")["virtual-size"]
    assert f"({length} bytes)".encode() in peers.peer("qemu-img", "info", "a.vhdx")
    peers.assert_opened_by_libvhdi(length, "a.vhdx")


def scribble(client, size, draw, requests):
    """Writes, zeros, trims and flushes of any size and place."""
    for _ in range(requests):
        length = draw.choice([512, 4096, 65536, MIB, 3 * MIB])
        offset = draw.randrange(0, size - length + 1, 512)
        what = draw.random()
        if what < 0.6:
            client.pwrite(draw.randbytes(512) * (length // 512), offset)
        elif what < 0.75:
            client.trim(length, offset)
        elif what < 0.85:
            client.zero(length, offset)
        elif what < 0.9:
            client.trim(16 * MIB, draw.randrange(size // (16 * MIB)) * 16 * MIB)
        else:
            client.flush()


def assert_peers_read_what_we_read(vhdx, peers):
    """Before the log is replayed into the file, and after."""
    vhdx("convert", "-O", "raw", "--force", "a.vhdx", "seen.raw")
    vhdx("replay", "-q", "a.vhdx")
    assert vhdx.run("check", "-q", "a.vhdx").returncode in (0, 3)
    vhdx("compare", "seen.raw", "a.vhdx")
    peers.assert_sound("a.vhdx")
    peers.assert_same_for_qemu("seen.raw", "a.vhdx")
    peers.assert_same_for_7zip(served.sha256(peers.folder / "seen.raw"), peers.folder / "a.vhdx")
    peers.assert_opened_by_libvhdi((peers.folder / "seen.raw").stat().st_size, "a.vhdx")


@pytest.mark.parametrize("block_size", [1, 2, 16])
def test_after_heavy_use(vhdx, peers, ext4_disk, block_size):
    """Rounds of use over NBD, most of them ended by SIGKILL."""
    draw = random.Random(block_size)
    vhdx("convert", "-O", "vhdx", "--block-size", f"{block_size}M", ext4_disk.path, "a.vhdx")
    for number in range(4):
        with Server(peers.folder / "a.vhdx") as server:
            scribble(server.connect(), ext4_disk.size, draw, 60)
            if number != 2:
                server.kill()
        assert_peers_read_what_we_read(vhdx, peers)


@pytest.mark.parametrize("depth", [1, 16])
def test_killed_bench(vhdx, peers, depth):
    """The command itself, ended at random moments, and each time opened where it was left."""
    draw = random.Random(depth)
    vhdx("create", "--block-size", "1M", "a.vhdx", "48M")
    for number in range(6):
        writer = vhdx.start("bench", "-w", "-q", "-d", depth, "-c", "100000000", "-s", "8K", "-S", "65K",
                            "--random", "--pattern", number + 1, "--flush-interval", draw.choice([1, 7, 100]),
                            "a.vhdx")
        time.sleep(0.05 + draw.random() * 0.3)
        writer.kill()
        writer.wait(60)
        assert_peers_read_what_we_read(vhdx, peers)
