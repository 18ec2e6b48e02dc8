"""vhdx mount and unmount: a disk as files."""
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import COMMAND, MIB, MOUNT_HELPER, allocated

ASK_PROCESS = 2 << 30 | 4 << 16 | ord("V") << 8 | 1
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
LIBC = ctypes.CDLL(None, use_errno=True)
IS_ROOT = os.geteuid() == 0


@pytest.fixture(autouse=True)
def fuse():
    if not MOUNT_HELPER.exists():
        pytest.skip("built without libfuse3")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    if not IS_ROOT and shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")


@pytest.fixture
def mounted(vhdx, tmp_path):
    """mounted(FILE, OPTIONS..) mounts a file until the block ends, and gives the folder."""

    @contextlib.contextmanager
    def mount(file, *options, at="mnt"):
        folder = tmp_path / at
        folder.mkdir(exist_ok=True)
        vhdx("mount", *options, file, at)
        try:
            yield folder
            if is_mounted(folder):
                vhdx("unmount", at)
        finally:
            subprocess.run(["umount", "-l", folder] if IS_ROOT else ["fusermount3", "-uz", folder],
                           stderr=subprocess.DEVNULL)

    return mount


def is_mounted(folder):
    """Also when its server is gone or answers somebody else only."""
    return any(line.split(" ")[1] == str(folder) for line in open("/proc/self/mounts"))


def keeper_of(folder):
    with open_folder(folder) as descriptor:
        return struct.unpack("i", fcntl.ioctl(descriptor, ASK_PROCESS, bytes(4)))[0]


@contextlib.contextmanager
def open_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def server_of(folder):
    keeper = keeper_of(folder)
    return int(pathlib.Path(f"/proc/{keeper}/task/{keeper}/children").read_text())


def wait_until(is_so, what):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def fallocate(path, mode, offset, length):
    """0 or an errno."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        done = LIBC.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
        return 0 if done == 0 else ctypes.get_errno()
    finally:
        os.close(descriptor)


def put(path, offset, data, flags=0):
    descriptor = os.open(path, os.O_WRONLY | flags)
    try:
        return os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def get(path, offset, length):
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)


def is_clean(vhdx, file):
    return not vhdx.json("info", "--json", file)["dirty-flag"]


def write_mbr(path, partitions):
    """Partitions as (first, count) in sectors; the fourth becomes an extended one that holds the rest."""
    def row(kind, first, count):
        return struct.pack("<B3sB3sII", 0, b"\0\0\0", kind, b"\0\0\0", first, count)

    with open(path, "r+b") as file:
        inner = partitions[3:]
        first_logical, end = (inner[0][0] - 2048, sum(inner[-1])) if inner else (0, 0)
        rows = b"".join(row(0x83, *p) for p in partitions[:3])
        rows += row(0x05, first_logical, end - first_logical) if inner else b""
        file.seek(446)
        file.write(rows.ljust(64, b"\0") + b"\x55\xaa")
        for i, (first, count) in enumerate(inner):
            file.seek((first - 2048) * 512 + 446)
            more = inner[i + 1:i + 2]
            rows = row(0x83, 2048, count)
            rows += row(0x05, more[0][0] - 2048 - first_logical, more[0][1] + 2048) if more else b""
            file.write(rows.ljust(64, b"\0") + b"\x55\xaa")


PARTITIONS = [(2048, 4096), (8192, 2048), (10240, 1), (16384, 2048), (22528, 4096)]  # the last two: 5 and 6


@pytest.fixture
def disk(vhdx, raw_disk):
    """a.vhdx, with partitions 1, 2, 3, 5 and 6, and the raw disk it was made of."""
    write_mbr(raw_disk, PARTITIONS)
    vhdx("convert", raw_disk, "a.vhdx")
    return raw_disk.read_bytes()


# --- reading ---


def test_the_disk_and_its_partitions(vhdx, mounted, disk, tmp_path):
    before = (tmp_path / "a.vhdx").read_bytes()
    with mounted("a.vhdx") as folder:
        names = {"p1.raw": 0, "p2.raw": 1, "p3.raw": 2, "p5.raw": 3, "p6.raw": 4}
        assert sorted(os.listdir(folder)) == sorted(["disk.raw", "info.json", *names])
        assert (folder / "disk.raw").read_bytes() == disk
        for name, index in names.items():
            first, count = PARTITIONS[index]
            assert (folder / name).read_bytes() == disk[first * 512:(first + count) * 512], name
        assert json.loads((folder / "info.json").read_text()) == vhdx.json("info", "--json", "a.vhdx")
        status = os.stat(folder / "disk.raw")
        assert status.st_mode & 0o777 == 0o400 and status.st_uid == os.geteuid() and status.st_size == len(disk)
        assert os.stat(folder / "p3.raw").st_size == 512
        assert not (folder / "p4.raw").exists() and not (folder / "layers").exists()
        with pytest.raises(OSError) as caught:
            open(folder / "disk.raw", "r+b")
        assert caught.value.errno == errno.EROFS
        with pytest.raises(OSError) as caught:
            open(folder / "new", "wb")
        assert caught.value.errno in (errno.EROFS, errno.EPERM, errno.EACCES)
    assert (tmp_path / "a.vhdx").read_bytes() == before


def test_du_and_holes_tell_where_data_is(vhdx, mounted, disk):
    with mounted("a.vhdx") as folder:
        expected = sum(any(disk[at:at + 4096]) for at in range(0, len(disk), 4096)) * 4096
        assert abs(os.stat(folder / "disk.raw").st_blocks * 512 - expected) <= 8 * 4096
        assert os.stat(folder / "p6.raw").st_blocks == 0 < os.stat(folder / "p1.raw").st_blocks
        with open(folder / "disk.raw", "rb") as file:
            at = os.lseek(file.fileno(), 9 * MIB, os.SEEK_HOLE)
            assert 9 * MIB < at <= 11 * MIB
            data = os.lseek(file.fileno(), at, os.SEEK_DATA)
            assert data > at and not any(disk[at:data])
            end = os.lseek(file.fileno(), 24 * MIB, os.SEEK_HOLE)
            assert end == len(disk)
            with pytest.raises(OSError) as caught:
                os.lseek(file.fileno(), len(disk), os.SEEK_DATA)
            assert caught.value.errno == errno.ENXIO
        with open(folder / "p6.raw", "rb") as file, pytest.raises(OSError):
            os.lseek(file.fileno(), 0, os.SEEK_DATA)


def test_a_vhd(vhdx, mounted, raw_disk):
    vhdx("convert", "-O", "vhd", "--type", "fixed", raw_disk, "a.vhd")
    with mounted("a.vhd", "-w") as folder:
        length = raw_disk.stat().st_size
        assert get(folder / "disk.raw", 0, 12 * MIB) == raw_disk.read_bytes()[:12 * MIB]
        put(folder / "disk.raw", length - 700, b"end")
        assert json.loads((folder / "info.json").read_text())["format"] == "vhd"
    with mounted("a.vhd") as folder:
        assert get(folder / "disk.raw", length - 700, 3) == b"end"


def test_layers(vhdx, mounted, raw_disk, tmp_path):
    """Each parent as a disk: what a guest saw before the layers above were there."""
    vhdx("convert", raw_disk, "base.vhdx")
    states = [raw_disk.read_bytes()]
    for parent, child in (("base.vhdx", "one.avhdx"), ("one.avhdx", "two.avhdx")):
        vhdx("create", "--parent", parent, child)
        with mounted(child, "-w") as folder:
            put(folder / "disk.raw", 7 * MIB + 512, child.encode() * 100)
            put(folder / "disk.raw", 3 * MIB, child.encode() * 100)
        vhdx("convert", child, "out.raw", "--force")
        states.insert(0, (tmp_path / "out.raw").read_bytes())
    assert len(set(states)) == 3
    with mounted("two.avhdx", "-w") as folder:
        assert sorted(os.listdir(folder / "layers")) == ["1.raw", "2.raw"]
        put(folder / "disk.raw", 20 * MIB, b"x")
        assert (folder / "layers/1.raw").read_bytes() == states[1]
        assert (folder / "layers/2.raw").read_bytes() == states[2]
        assert json.loads((folder / "info.json").read_text())["backing-filename"] == str(tmp_path / "one.avhdx")
        with pytest.raises(OSError) as caught:
            open(folder / "layers/1.raw", "r+b")
        assert caught.value.errno in (errno.EROFS, errno.EACCES)


def test_parents_of_another_folder(vhdx, mounted, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "base.vhdx")
    (tmp_path / "children").mkdir()
    (tmp_path / "mnt").mkdir()
    vhdx("create", "--parent", "base.vhdx", "children/a,b.avhdx")
    message = vhdx.fails(1, "mount", "children/a,b.avhdx", "mnt")
    assert "base.vhdx: outside of the folder of the child" in message and "--parents=any" in message
    for options in (["--parents=any"], [f"--parents=/usr,{tmp_path}"], ["-o", f"parents=/usr,parents={tmp_path}"],
                    [f"--parents={tmp_path}", "--map=\\\\server\\a,b=/usr"]):
        with mounted("children/a,b.avhdx", *options) as folder:
            assert (folder / "disk.raw").read_bytes() == raw_disk.read_bytes()


def test_blocks_that_are_damaged(vhdx, disk, tmp_path):
    """They are EIO, the others can be read, and whoever watches is told."""
    info = vhdx.json("info", "--json", "a.vhdx")
    with open(tmp_path / "a.vhdx", "r+b") as file:
        file.seek(info["bat"]["offset"] + 8 * 4)  # the block at 8 MiB
        file.write(struct.pack("<Q", 1 << 50 | 6))
    (tmp_path / "mnt").mkdir()
    server = vhdx.start("mount", "-f", "a.vhdx", "mnt", stderr=subprocess.PIPE)
    try:
        folder = tmp_path / "mnt"
        wait_until(lambda: is_mounted(folder), "mounted")
        assert get(folder / "disk.raw", 0, 4096) == disk[:4096]
        with pytest.raises(OSError) as caught:
            get(folder / "disk.raw", 8 * MIB, 4096)
        assert caught.value.errno == errno.EIO
        with open(folder / "disk.raw", "rb") as file, pytest.raises(OSError) as caught:
            os.lseek(file.fileno(), 8 * MIB, os.SEEK_HOLE)
        assert caught.value.errno == errno.EIO
    finally:
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=20)[1].decode()
    assert server.returncode == 0 and "a.vhdx: BAT entry" in said, said


# --- writing ---


def test_partitions_and_disk_show_the_same_at_once(vhdx, mounted, disk, tmp_path):
    expected = bytearray(disk)
    draw = random.Random(5)
    with mounted("a.vhdx", "-w") as folder:
        for round_number in range(40):
            index = draw.choice([1, 2, 5, 6])
            first, count = PARTITIONS[index - 1 if index < 4 else index - 2]
            offset = draw.randrange(count * 512 - 9000)
            data = draw.randbytes(draw.choice([1, 512, 4096, 9000]))
            at = first * 512 + offset
            if round_number % 2:
                put(folder / f"p{index}.raw", offset, data)
                assert get(folder / "disk.raw", at, len(data)) == data
            else:
                assert get(folder / f"p{index}.raw", offset, len(data)) == expected[at:at + len(data)]
                put(folder / "disk.raw", at, data)
                assert get(folder / f"p{index}.raw", offset, len(data)) == data
            expected[at:at + len(data)] = data
        assert json.loads((folder / "info.json").read_text())["file-size"] == os.stat(tmp_path / "a.vhdx").st_size
    vhdx("convert", "a.vhdx", "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == expected
    assert is_clean(vhdx, "a.vhdx")
    vhdx("check", "a.vhdx")


def test_writes_stay_inside(vhdx, mounted, disk, tmp_path):
    """A partition ends as a block device does."""
    first, count = PARTITIONS[1]
    length = count * 512
    with mounted("a.vhdx", "-w") as folder:
        partition = folder / "p2.raw"
        assert put(partition, length - 100, b"a" * 300) == 100
        for offset in (length, length + MIB):
            with pytest.raises(OSError) as caught:
                put(partition, offset, b"b")
            assert caught.value.errno == errno.ENOSPC
        assert get(partition, length - 100, 300) == b"a" * 100
        assert put(partition, 0, b"c", os.O_TRUNC) == 1
        assert os.stat(partition).st_size == length and get(partition, length - 1, 1) == b"a"
        os.truncate(partition, length)
        for size in (0, length + 512):
            with pytest.raises(PermissionError):
                os.truncate(partition, size)
        os.utime(partition)
        assert fallocate(partition, PUNCH_HOLE | KEEP_SIZE, length - 512, 5 * MIB) == 0
        assert fallocate(partition, PUNCH_HOLE | KEEP_SIZE, 64 * MIB, 512) == 0
        assert fallocate(partition, ZERO_RANGE, length - 512, 5 * MIB) == errno.ENOSPC
        assert fallocate(partition, 0, 0, 4096) == errno.EOPNOTSUPP
        with pytest.raises(OSError):
            os.unlink(partition)
    expected = bytearray(disk)
    expected[first * 512] = ord("c")
    expected[first * 512 + length - 512:first * 512 + length] = bytes(512)
    vhdx("convert", "a.vhdx", "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == expected


def test_punched_holes_are_given_back(vhdx, mounted, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    data = random.Random(7).randbytes(32 * MIB)
    with mounted("a.vhdx", "-w") as folder:
        disk = folder / "disk.raw"
        put(disk, 0, data)
        assert os.stat(disk).st_blocks == 32 * MIB // 512
        full = allocated(tmp_path / "a.vhdx")
        assert fallocate(disk, PUNCH_HOLE | KEEP_SIZE, 2 * MIB, 28 * MIB + 4096) == 0
        assert os.stat(disk).st_blocks == (4 * MIB - 4096) // 512
        with open(disk, "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 2 * MIB
            assert os.lseek(file.fileno(), 2 * MIB, os.SEEK_DATA) == 30 * MIB + 4096
            os.fsync(file.fileno())
        assert get(disk, 2 * MIB - 512, 1024) == data[2 * MIB - 512:2 * MIB] + bytes(512)
        assert get(disk, 30 * MIB, 8192) == bytes(4096) + data[30 * MIB + 4096:30 * MIB + 8192]
        assert allocated(tmp_path / "a.vhdx") < full - 27 * MIB
        assert fallocate(disk, ZERO_RANGE, 0, 2 * MIB) == 0 and not any(get(disk, 0, 2 * MIB))


def test_punching_what_a_parent_holds(vhdx, mounted, raw_disk):
    """A hole reads as zeros, whatever is below."""
    vhdx("convert", raw_disk, "base.vhdx")
    vhdx("create", "--parent", "base.vhdx", "a.avhdx")
    with mounted("a.avhdx", "-w") as folder:
        for length in (1536, MIB):
            assert any(get(folder / "disk.raw", 8 * MIB + 512, length))
            assert fallocate(folder / "disk.raw", PUNCH_HOLE | KEEP_SIZE, 8 * MIB + 512, length) == 0
            assert not any(get(folder / "disk.raw", 8 * MIB + 512, length))
        assert any(get(folder / "disk.raw", 8 * MIB, 512))


def test_fixed_images_keep_their_space(vhdx, mounted):
    vhdx("create", "--type", "fixed", "a.vhdx", "8M")
    with mounted("a.vhdx", "-w") as folder:
        put(folder / "disk.raw", 0, b"x" * MIB)
        assert fallocate(folder / "disk.raw", PUNCH_HOLE | KEEP_SIZE, 0, MIB) == errno.EOPNOTSUPP
        assert fallocate(folder / "disk.raw", ZERO_RANGE | KEEP_SIZE, 0, 4096) == 0
        assert get(folder / "disk.raw", 0, 8192) == bytes(4096) + b"x" * 4096


def test_several_writers(vhdx, mounted, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    piece = 64 * 1024

    def work(number):
        for i in range(number, 256, 8):
            put(folder / "disk.raw", i * piece, bytes([i]) * piece)

    with mounted("a.vhdx", "-w") as folder:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    vhdx("convert", "a.vhdx", "out.raw")
    with open(tmp_path / "out.raw", "rb") as file:
        assert all(file.read(piece) == bytes([i]) * piece for i in range(256))


def test_a_full_host(vhdx, mounted, tmp_path):
    if not IS_ROOT:
        pytest.skip("a small file system to fill needs root")
    (tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12M", "tmpfs", tmp_path / "small"], check=True)
    try:
        vhdx("create", "small/a.vhdx", "64M")
        with mounted("small/a.vhdx", "-w") as folder:
            put(folder / "disk.raw", 0, b"k" * MIB)
            with open(folder / "disk.raw", "rb") as file:
                os.fsync(file.fileno())
            with pytest.raises(OSError) as caught:
                for i in range(1, 64):
                    put(folder / "disk.raw", i * MIB, b"y" * MIB)
            assert caught.value.errno == errno.ENOSPC
            assert get(folder / "disk.raw", 0, MIB) == b"k" * MIB
        vhdx("check", "small/a.vhdx")
        assert is_clean(vhdx, "small/a.vhdx")
    finally:
        subprocess.run(["umount", "-l", tmp_path / "small"], check=True)


# --- its end ---


@pytest.mark.parametrize("how", ["fsync", "O_DSYNC"])
def test_what_was_flushed_outlives_the_server(vhdx, mounted, tmp_path, how):
    vhdx("create", "a.vhdx", "64M")
    with mounted("a.vhdx", "-w") as folder:
        server = server_of(folder)
        put(folder / "disk.raw", 5 * MIB, b"kept" * 1024, os.O_DSYNC if how == "O_DSYNC" else 0)
        if how == "fsync":
            with open(folder / "disk.raw", "rb") as file:
                os.fsync(file.fileno())
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not is_mounted(folder), "unmounted by the keeper")
    vhdx("convert", "a.vhdx", "out.raw")
    assert (tmp_path / "out.raw").read_bytes()[5 * MIB:5 * MIB + 4096] == b"kept" * 1024


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(vhdx, tmp_path, number):
    vhdx("create", "a.vhdx", "64M")
    folder = tmp_path / "mnt"
    folder.mkdir()
    process = vhdx.start("mount", "-wf", "a.vhdx", "mnt")
    try:
        wait_until(lambda: is_mounted(folder), "mounted")
        assert keeper_of(folder) == process.pid
        with open(folder / "disk.raw", "r+b", buffering=0) as file:
            file.write(b"z" * 4096)
            process.send_signal(number)
            assert process.wait(20) == 0, "also while a file is open"
        assert not is_mounted(folder)
        assert is_clean(vhdx, "a.vhdx")
        vhdx("convert", "a.vhdx", "out.raw")
        assert (tmp_path / "out.raw").read_bytes()[:4096] == b"z" * 4096
    finally:
        process.kill()
        process.wait()
        subprocess.run(["umount", "-l", folder], stderr=subprocess.DEVNULL)


def test_the_keeper_is_killed(vhdx, mounted):
    """The server closes the image; what is left in the list of mounts can be removed."""
    vhdx("create", "a.vhdx", "64M")
    with mounted("a.vhdx", "-w") as folder:
        put(folder / "disk.raw", 0, b"q" * 512)
        os.kill(keeper_of(folder), signal.SIGKILL)
        wait_until(lambda: vhdx.run("info", "a.vhdx").returncode == 0, "closed by the server")
        assert is_clean(vhdx, "a.vhdx")
        assert "vhdx unmount mnt removes it" in vhdx.fails(1, "mount", "a.vhdx", "mnt")
        vhdx("unmount", "mnt")
        assert not is_mounted(folder)


def test_unmounting_waits_until_the_image_is_closed(vhdx, mounted, tmp_path):
    vhdx("create", "a.vhdx", "256M")
    for _ in range(2):
        with mounted("a.vhdx", "-w") as folder:
            put(folder / "disk.raw", 0, random.randbytes(8 * MIB))
            vhdx("unmount", f"{folder}/")
            assert is_clean(vhdx, "a.vhdx")
            with mounted("a.vhdx", "-w", at="other"):
                pass


def test_unmounting_what_is_in_use(vhdx, mounted, disk):
    with mounted("a.vhdx") as folder:
        with open(folder / "disk.raw", "rb") as file:
            message = vhdx.fails(1, "unmount", "mnt")
            assert "in use" in message and "fuser -vm mnt" in message
            assert file.read(512) == disk[:512]


def test_unmounting_what_is_not_ours(vhdx, tmp_path):
    for folder in (".", "/proc", "none", "none/none", "/"):
        assert vhdx.fails(1, "unmount", folder).startswith(f"vhdx: {folder}: ")
    assert "too many" in vhdx.fails(2, "unmount", "a", "b")


# --- refusals ---


def test_what_cannot_be_mounted(vhdx, mounted, disk, raw_disk, tmp_path):
    (tmp_path / "mnt").mkdir()
    (tmp_path / "file").touch()
    for file, folder, said in (
        ("none.vhdx", "mnt", "vhdx: none.vhdx: cannot open: No such file"),
        (".", "mnt", "vhdx: .: "),
        (raw_disk.name, "mnt", "signature"),
        ("a.vhdx", "none", "vhdx: none: No such file"),
        ("a.vhdx", "file", "vhdx: file: not a folder"),
    ):
        assert said in vhdx.fails(1, "mount", file, folder), (file, folder)
        assert not is_mounted(tmp_path / "mnt")
    with mounted("a.vhdx", "-w"):
        (tmp_path / "other").mkdir()
        assert "in use" in vhdx.fails(1, "mount", "a.vhdx", "other")


@pytest.mark.parametrize("arguments, said", [
    (["a.vhdx"], "something is missing"),
    (["a.vhdx", "mnt", "x"], "one argument too many"),
    (["-o", "frobnicate", "a.vhdx", "mnt"], "there is no option 'frobnicate'"),
    (["-o", "uid=me", "a.vhdx", "mnt"], "'me' is no number"),
    (["-o", "umask=888", "a.vhdx", "mnt"], "no octal number"),
    (["-o", "parents", "a.vhdx", "mnt"], "parents needs a value"),
    (["-o", "ro=1", "a.vhdx", "mnt"], "ro takes no value"),
    (["--parents=/nowhere/at/all", "a.vhdx", "mnt"], "/nowhere/at/all"),
    (["--map=C:", "a.vhdx", "mnt"], "C:"),
])
def test_wrong_options(vhdx, tmp_path, arguments, said):
    (tmp_path / "mnt").mkdir()
    message = vhdx.fails(2, "mount", *arguments)
    assert said in message and "Try 'vhdx mount --help'" in message


def test_an_image_that_others_depend_on(vhdx, mounted, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "base.vhdx")
    vhdx("create", "--parent", "base.vhdx", "b.avhdx")
    (tmp_path / "mnt").mkdir()
    message = vhdx.fails(1, "mount", "-w", "base.vhdx", "mnt")
    assert "b.avhdx depends on it" in message and "--orphan-children" in message
    with mounted("base.vhdx"):
        pass
    with mounted("base.vhdx", "-w", "--orphan-children"):
        pass


def test_a_log_that_is_ignored(vhdx, mounted, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    with mounted("a.vhdx", "-w") as folder:
        put(folder / "disk.raw", 0, b"d" * 4096, os.O_DSYNC)
        os.kill(server_of(folder), signal.SIGKILL)
        wait_until(lambda: not is_mounted(folder), "unmounted by the keeper")
    before = (tmp_path / "a.vhdx").read_bytes()
    with mounted("a.vhdx") as folder:
        assert get(folder / "disk.raw", 0, 1) == b"d"
        assert json.loads((folder / "info.json").read_text())["dirty-flag"]
    with mounted("a.vhdx", "-w", "--ignore-log") as folder:
        assert json.loads((folder / "info.json").read_text())["log"]["ignored"]
        with pytest.raises(OSError):
            put(folder / "disk.raw", 0, b"x")
    assert (tmp_path / "a.vhdx").read_bytes() == before


def test_without_the_helper(vhdx, monkeypatch, tmp_path):
    monkeypatch.setenv("VHDX_MOUNT_HELPER", "/nowhere/at/all")
    assert "not installed" in vhdx.fails(1, "mount", "a.vhdx", "mnt")


# --- around it ---


def test_the_server_is_confined(vhdx, mounted):
    vhdx("create", "a.vhdx", "64M")

    def status():
        lines = pathlib.Path(f"/proc/{server_of(folder)}/status").read_text().splitlines()
        return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}

    has = vhdx("--version").decode()
    if "seccomp" not in has:
        pytest.skip("this kernel has no seccomp")
    with mounted("a.vhdx", "-w") as folder:
        assert status()["NoNewPrivs"] == "1" and status()["Seccomp"] == "2"
        assert set(os.listdir(f"/proc/{server_of(folder)}/fd")) >= {"0", "1", "2"}
        assert os.readlink(f"/proc/{server_of(folder)}/fd/1") == "/dev/null"
        assert os.readlink(f"/proc/{server_of(folder)}/cwd") == "/"
    with mounted("a.vhdx", "-w", "--no-sandbox") as folder:
        assert status()["NoNewPrivs"] == "0"


def test_owner_and_rights(vhdx, mounted, disk):
    if not IS_ROOT:
        pytest.skip("files of others need root")
    with mounted("a.vhdx", "-w", "-o", "uid=12,gid=34,umask=0027,allow_other,nofail,x-systemd.automount") as folder:
        status = os.stat(folder / "disk.raw")
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12, 34, 0o640)
        assert os.stat(folder).st_mode & 0o777 == 0o550
        assert os.stat(folder / "info.json").st_mode & 0o777 == 0o440


def test_a_service_manager_is_told(vhdx, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    (tmp_path / "mnt").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0vhdx-test-%d" % os.getpid())
        listener.settimeout(20)
        process = vhdx.start("mount", "-f", "a.vhdx", "mnt",
                             env={**os.environ, "NOTIFY_SOCKET": "@vhdx-test-%d" % os.getpid()})
        assert listener.recv(100) == b"READY=1"
        assert is_mounted(tmp_path / "mnt")
        vhdx("unmount", "mnt")
        assert process.wait(20) == 0


def test_without_root(vhdx, raw_disk):
    """Another user mounts, writes and unmounts by fusermount3, although the server is confined."""
    if not IS_ROOT or shutil.which("setpriv") is None or shutil.which("fusermount3") is None:
        pytest.skip("to be another user needs root, setpriv and fusermount3")
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vhdx-test-"))
    try:
        vhdx("convert", raw_disk, folder / "a.vhdx")
        (folder / "mnt").mkdir()
        for path in (folder, folder / "a.vhdx", folder / "mnt"):
            os.chown(path, 65534, 65534)
        done = subprocess.run([*as_nobody, COMMAND, "mount", "-w", "a.vhdx", "mnt"], cwd=folder, capture_output=True)
        if b"annot be started" in done.stderr or b"Permission denied" in done.stderr:
            pytest.skip("nobody may not run the build")
        assert done.returncode == 0, done.stderr
        script = "dd if=mnt/disk.raw bs=1M status=none | cmp - %s && echo hello | dd of=mnt/disk.raw conv=notrunc" % raw_disk.name
        shutil.copy(raw_disk, folder)
        subprocess.run([*as_nobody, "sh", "-c", script], cwd=folder, check=True, capture_output=True)
        subprocess.run([*as_nobody, COMMAND, "unmount", "mnt"], cwd=folder, check=True)
        assert not is_mounted(folder / "mnt") and is_clean(vhdx, folder / "a.vhdx")

        done = subprocess.run([*as_nobody, COMMAND, "mount", "-w", "a.vhdx", "mnt"], cwd=folder, check=True)
        keeper = subprocess.run([*as_nobody, "/usr/bin/python3", "-c", f"import fcntl, os; print(int.from_bytes(fcntl.ioctl("
                                 f"os.open('mnt', 0), {ASK_PROCESS}, bytes(4)), 'little'))"], cwd=folder, check=True,
                                capture_output=True).stdout
        os.kill(int(keeper), signal.SIGTERM)
        wait_until(lambda: not is_mounted(folder / "mnt"), "unmounted after a signal")
        assert is_clean(vhdx, folder / "a.vhdx")
        assert vhdx.json("map", "--json", folder / "a.vhdx")
    finally:
        subprocess.run(["umount", "-l", folder / "mnt"], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def test_mount_and_fstab(vhdx, disk, tmp_path):
    """mount(8) finds us by name.  Here in a namespace of its own, where we stand in for the helper that every fuse has."""
    stand_in = pathlib.Path("/usr/sbin/mount.fuse3")
    if not IS_ROOT or not stand_in.exists() or shutil.which("unshare") is None:
        pytest.skip("needs root, unshare and Debian's package fuse3")
    (tmp_path / "mnt").mkdir()
    (tmp_path / "helper").write_text(f'#!/bin/sh\nexec {MOUNT_HELPER} "$@"\n')
    (tmp_path / "helper").chmod(0o755)
    (tmp_path / "fstab").write_text(f"{tmp_path}/a.vhdx {tmp_path}/mnt fuse.vhdx ro,noauto,nofail,uid=5 0 0\n")
    script = f"""
        set -e
        mount --bind helper {stand_in}
        mount -T fstab {tmp_path}/mnt
        cmp mnt/disk.raw disk.raw
        stat -c %u mnt/disk.raw
        findmnt -n -o FSTYPE,SOURCE {tmp_path}/mnt
        umount mnt
        for i in $(seq 100); do mount -t fuse.vhdx -o rw a.vhdx mnt 2>/dev/null && break; sleep 0.05; done
        echo written | dd of=mnt/disk.raw conv=notrunc status=none
        {COMMAND} unmount mnt
    """
    # slave: what other tests unmount meanwhile goes here, too
    done = subprocess.run(["unshare", "-m", "--propagation", "slave", "sh", "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, timeout=60)
    if done.returncode != 0 and not done.stdout:
        pytest.skip("no mount namespace here")
    assert done.returncode == 0
    assert done.stdout.split() == [b"5", b"fuse.vhdx", os.fsencode(tmp_path / "a.vhdx")]
    vhdx("convert", "a.vhdx", "out.raw")
    assert (tmp_path / "out.raw").read_bytes()[:8] == b"written\n"


# --- real clients ---


@contextlib.contextmanager
def loop_device(file):
    if not IS_ROOT or not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices here")
    done = subprocess.run(["losetup", "-f", "--show", file], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no loop device to be had")
    device = done.stdout.decode().strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_fstrim_on_a_loop_device_shrinks_the_image(vhdx, mounted, peer, tmp_path, kind):
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    vhdx("create", "a.vhdx", "320M")
    inside = tmp_path / "inside"
    inside.mkdir()
    data = random.Random(3).randbytes(24 * MIB)
    with mounted("a.vhdx", "-w") as folder, loop_device(folder / "disk.raw") as device:
        peer(f"mkfs.{kind}", "-q", device)
        peer("mount", device, inside)
        try:
            (inside / "kept").write_bytes(data[:MIB])
            (inside / "gone").write_bytes(data)
            peer("sync", "-f", inside)
            full = allocated(tmp_path / "a.vhdx")
            assert os.stat(folder / "disk.raw").st_blocks * 512 > 25 * MIB
            (inside / "gone").unlink()

            def has_shrunk():
                peer("sync", "-f", inside)
                peer("fstrim", inside)
                with open(folder / "disk.raw", "rb") as file:
                    os.fsync(file.fileno())
                return allocated(tmp_path / "a.vhdx") < full - 20 * MIB

            wait_until(has_shrunk, "XFS frees what was removed in the background; what fstrim sees is given back")
            assert os.stat(folder / "disk.raw").st_blocks * 512 < 12 * MIB
        finally:
            peer("umount", inside)
        peer("mount", "-o", "ro", device, inside)
        try:
            assert (inside / "kept").read_bytes() == data[:MIB]
        finally:
            peer("umount", inside)
        peer(*(("e2fsck", "-fn") if kind == "ext4" else ("xfs_repair", "-n")), device)
    assert vhdx.run("check", "a.vhdx").returncode in (0, 3), "what was freed may lie in the middle of the file"


def test_e2fsck_discards_and_debugfs_reads(vhdx, mounted, peer, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    (tmp_path / "hello").write_text("hello from outside\n")
    (tmp_path / "large").write_bytes(random.Random(4).randbytes(3 * MIB))
    with mounted("a.vhdx", "-w") as folder:
        disk = folder / "disk.raw"
        peer("mke2fs", "-q", "-t", "ext4", disk)
        peer("debugfs", "-w", "-R", "write hello hello", disk)
        peer("debugfs", "-w", "-R", "write large large", disk)
        peer("debugfs", "-w", "-R", "rm large", disk)
        full = os.stat(disk).st_blocks
        peer("e2fsck", "-fy", "-E", "discard", disk, status=None)
        assert os.stat(disk).st_blocks < full - 2 * MIB // 512
        assert peer("debugfs", "-R", "cat hello", disk).endswith(b"hello from outside\n")
        peer("e2fsck", "-fn", disk)


def test_mtools_in_a_partition(vhdx, mounted, peer, raw_disk, tmp_path):
    write_mbr(raw_disk, [(2048, 20480)])
    vhdx("convert", raw_disk, "a.vhdx")
    (tmp_path / "hello").write_text("hello from outside\n")
    with mounted("a.vhdx", "-w") as folder:
        peer("mkfs.vfat", "-F", "16", folder / "p1.raw")
        peer("mcopy", "-i", folder / "p1.raw", "hello", "::HELLO.TXT")
        assert peer("mtype", "-i", folder / "p1.raw", "::HELLO.TXT") == b"hello from outside\n"
        assert peer("mtype", "-i", f"{folder}/disk.raw@@1M", "::HELLO.TXT") == b"hello from outside\n"


def test_cp_keeps_the_holes(vhdx, mounted, peer, tmp_path):
    vhdx("create", "a.vhdx", "64M")
    with mounted("a.vhdx", "-w") as folder:
        put(folder / "disk.raw", 40 * MIB, b"x" * MIB)
        peer("cp", folder / "disk.raw", "out.raw")
        assert allocated(tmp_path / "out.raw") <= 3 * MIB
        peer("cmp", folder / "disk.raw", "out.raw")
