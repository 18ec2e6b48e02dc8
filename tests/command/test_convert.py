"""vhdx convert."""
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from conftest import MIB, allocated

SHAPES = [[], ["--type", "fixed"], ["--block-size", "1M", "-m", "1"], ["--block-size", "256M", "--threads", "4"],
          ["--no-zero-detect"], ["-S", "0"], ["-S", "4k"]]


@pytest.mark.parametrize("arguments", SHAPES)
def test_there_and_back(vhdx, peer, raw_disk, tmp_path, arguments):
    vhdx("convert", "-f", "raw", *arguments, raw_disk, "a.vhdx")
    assert b"identical" in peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", raw_disk, "a.vhdx")
    assert b"No errors" in peer("qemu-img", "check", "a.vhdx")
    vhdx("check", "a.vhdx")
    vhdx("convert", "a.vhdx", "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == raw_disk.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.vhdx", "back.raw", "disk.raw"]


def test_7_zip_reads_the_same(vhdx, peer, raw_disk):
    os.truncate(raw_disk, 24 * MIB)  # 7-Zip refuses sizes that are no multiple of 4 KiB, qemu-img's images too
    vhdx("convert", raw_disk, "a.vhdx")
    assert peer("7zz", "x", "-so", "-tvhdx", "a.vhdx") == raw_disk.read_bytes()


def test_images_of_qemu(vhdx, peer, raw_disk, tmp_path):
    peer("qemu-img", "convert", "-f", "raw", "-O", "vhdx", raw_disk, "q.vhdx")
    vhdx("convert", "q.vhdx", "back.raw")
    assert (tmp_path / "back.raw").read_bytes() == raw_disk.read_bytes()


def test_holes_and_zero_runs_take_no_space(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    vhdx("convert", "a.vhdx", "back.raw")
    assert allocated(tmp_path / "back.raw") < 4 * MIB
    vhdx("convert", "--no-zero-detect", "--block-size", "1M", raw_disk, "all.vhdx")
    vhdx("convert", "--block-size", "1M", raw_disk, "less.vhdx")
    assert (tmp_path / "less.vhdx").stat().st_size < (tmp_path / "all.vhdx").stat().st_size


def test_an_empty_15_tib_disk_takes_a_moment(vhdx, tmp_path):
    vhdx("create", "a.vhdx", "15T")
    began = time.monotonic()
    vhdx("convert", "a.vhdx", "a.raw")
    assert time.monotonic() - began < 5
    assert (tmp_path / "a.raw").stat().st_size == 15 << 40


def test_sector_sizes_stay_unless_told_otherwise(vhdx):
    vhdx("create", "--logical-sector", "4096", "a.vhdx", "64M")
    vhdx("convert", "a.vhdx", "b.vhdx")
    assert vhdx.json("info", "--json", "b.vhdx")["logical-sector-size"] == 4096
    vhdx("convert", "--logical-sector", "512", "a.vhdx", "c.vhdx")
    assert vhdx.json("info", "--json", "c.vhdx")["logical-sector-size"] == 512


@pytest.mark.parametrize("size", [1, 511, 1000, 4097])
def test_a_raw_disk_of_an_odd_size_is_filled_up(vhdx, tmp_path, size):
    (tmp_path / "odd.raw").write_bytes(b"\xaa" * size)
    vhdx("convert", "odd.raw", "a.vhdx")
    assert vhdx.json("info", "--json", "a.vhdx")["virtual-size"] == -size % 512 + size
    vhdx("compare", "odd.raw", "a.vhdx")


def test_to_a_pipe(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    assert vhdx("convert", "-O", "raw", "a.vhdx", "-") == raw_disk.read_bytes()
    (tmp_path / "streamed.vhdx").write_bytes(vhdx("convert", "-O", "vhdx", "--block-size", "1M", "a.vhdx", "-"))
    vhdx("compare", "streamed.vhdx", raw_disk)
    vhdx("check", "streamed.vhdx")


def test_from_a_pipe(vhdx, raw_disk, tmp_path):
    data = raw_disk.read_bytes()
    vhdx("convert", "--size", str(len(data)), "-", "a.vhdx", input=data)
    vhdx("compare", "a.vhdx", raw_disk)
    vhdx("convert", "--size", str(len(data)), "-f", "raw", "-", "a.raw", input=data)
    assert (tmp_path / "a.raw").read_bytes() == data and allocated(tmp_path / "a.raw") < 4 * MIB


@pytest.mark.parametrize("size, said", [(3 * MIB - 1, "goes on"), (3 * MIB + 1, "ended after 3145728 of 3145729")])
def test_a_pipe_of_another_length_is_no_disk(vhdx, tmp_path, size, said):
    assert said in vhdx.fails(1, "convert", "--size", str(size), "-", "a.vhdx", input=bytes(3 * MIB))
    assert os.listdir(tmp_path) == []


def test_what_a_pipe_cannot_carry(vhdx, tmp_path):
    vhdx("create", "a.vhdx", "10M")
    data = (tmp_path / "a.vhdx").read_bytes()
    assert "--size is needed" in vhdx.fails(2, "convert", "-", "b.vhdx", input=data)
    assert "VHDX file" in vhdx.fails(1, "convert", "--size", str(len(data)), "-", "b.vhdx", input=data)
    assert "cannot be read from a pipe" in vhdx.fails(2, "convert", "-f", "vhdx", "-", "b.vhdx", input=data)
    vhdx.fails(2, "convert", "--size", "1M", "a.vhdx", "b.vhdx")


def test_standard_input_that_is_a_file_may_be_anything(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    with open(tmp_path / "a.vhdx", "rb") as file:
        vhdx("convert", "-", "back.raw", stdin=file)
    assert (tmp_path / "back.raw").read_bytes() == raw_disk.read_bytes()


def test_the_name_tells_the_format_or_O_does(vhdx, raw_disk, tmp_path):
    assert "-O vhdx, vhd or raw" in vhdx.fails(2, "convert", raw_disk, "disk")
    vhdx.fails(2, "convert", "-O", "qcow2", raw_disk, "disk")
    for name, magic in (("a.avhdx", b"vhdxfile"), ("a.img", raw_disk.read_bytes()[:8])):
        vhdx("convert", raw_disk, name)
        assert (tmp_path / name).read_bytes()[:8] == magic


def test_a_vhd_is_not_taken_for_a_raw_disk(vhdx, tmp_path):
    (tmp_path / "old.vhd").write_bytes(bytes(MIB) + b"conectix" + bytes(504))
    assert "VHD footer: checksum" in vhdx.fails(1, "convert", "old.vhd", "a.vhdx")
    vhdx("convert", "-f", "raw", "old.vhd", "a.vhdx")


def test_the_target_is_neither_the_source_nor_something_precious(vhdx, raw_disk, tmp_path):
    before = raw_disk.read_bytes()
    (tmp_path / "link.raw").symlink_to("disk.raw")
    os.link(raw_disk, tmp_path / "hard.raw")
    for name in ("disk.raw", "./disk.raw", "link.raw", "hard.raw"):
        assert "source itself" in vhdx.fails(1, "convert", "--force", "-f", "raw", "disk.raw", name)
    (tmp_path / "there.vhdx").write_bytes(b"precious")
    assert "exists already" in vhdx.fails(1, "convert", "disk.raw", "there.vhdx")
    assert (tmp_path / "there.vhdx").read_bytes() == b"precious" and raw_disk.read_bytes() == before
    vhdx("convert", "--force", "disk.raw", "there.vhdx")
    vhdx("compare", "disk.raw", "there.vhdx")


def test_a_block_device_is_zeroed_where_the_disk_is_zero(vhdx, peer, raw_disk, tmp_path):
    (tmp_path / "backing").write_bytes(b"\xff" * 32 * MIB)
    output = peer("losetup", "-f", "--show", tmp_path / "backing", status=None).decode().strip()
    if not output.startswith("/dev/"):
        pytest.skip("no loop device can be had")
    try:
        vhdx("convert", raw_disk, "a.vhdx")
        assert "exists already" in vhdx.fails(1, "convert", "-O", "raw", "a.vhdx", output)
        assert "block device" in vhdx.fails(1, "convert", "--force", "-O", "vhdx", "a.vhdx", output)
        vhdx("convert", "--force", "-O", "raw", "a.vhdx", output)
        data = raw_disk.read_bytes()
        with open(output, "rb") as device:
            assert device.read(len(data)) == data and device.read(512) == b"\xff" * 512
        vhdx("convert", "--force", "-O", "raw", "--size", str(MIB), "-", output, input=bytes(MIB))
        vhdx("create", "big.vhdx", "64M")
        assert "are needed" in vhdx.fails(1, "convert", "--force", "-O", "raw", "big.vhdx", output)
    finally:
        peer("losetup", "-d", output)
    assert sorted(os.listdir(tmp_path)) == ["a.vhdx", "backing", "big.vhdx", "disk.raw"]


def test_a_failure_leaves_what_was_there(vhdx, tmp_path):
    (tmp_path / "there.vhdx").write_bytes(b"precious")
    vhdx.fails(1, "convert", "--force", "--size", "4M", "-", "there.vhdx", input=bytes(MIB))
    assert (tmp_path / "there.vhdx").read_bytes() == b"precious" and os.listdir(tmp_path) == ["there.vhdx"]


def begin(vhdx, name):
    """A conversion that waits in the middle for more of its pipe."""
    child = vhdx.start("convert", "--size", "8M", "-", name, stdin=subprocess.PIPE)
    child.stdin.write(os.urandom(2 * MIB))
    child.stdin.flush()
    for _ in range(500):
        if any(name.endswith(".partial") for name in os.listdir(vhdx.directory)):
            break
        time.sleep(0.01)
    return child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["a.vhdx", "a.raw"])
def test_a_signal_leaves_nothing(vhdx, tmp_path, name, number):
    child = begin(vhdx, name)
    assert len(os.listdir(tmp_path)) == 1
    child.send_signal(number)
    assert child.wait(timeout=60) == -number
    child.stdin.close()
    assert os.listdir(tmp_path) == []


def test_a_kill_leaves_nothing_that_bears_the_name(vhdx, tmp_path):
    child = begin(vhdx, "a.vhdx")
    child.kill()
    child.wait(timeout=60)
    child.stdin.close()
    assert [name.startswith(".a.vhdx.") and name.endswith(".partial") for name in os.listdir(tmp_path)] == [True]


def test_somebody_else_was_faster(vhdx, tmp_path):
    child = begin(vhdx, "a.vhdx")
    (tmp_path / "a.vhdx").write_bytes(b"precious")
    child.stdin.write(bytes(6 * MIB))
    child.stdin.close()
    assert child.wait(timeout=60) == 1
    assert (tmp_path / "a.vhdx").read_bytes() == b"precious" and os.listdir(tmp_path) == ["a.vhdx"]


def test_progress(vhdx, raw_disk):
    assert vhdx.run("convert", raw_disk, "a.vhdx").stderr == b""
    assert vhdx.run("convert", "-p", raw_disk, "b.vhdx").stderr == b"", "a bar in a pipe"
    reader, writer = os.pipe()
    vhdx("convert", f"--progress={writer}", raw_disk, "c.vhdx", pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as lines:
        assert lines.read().splitlines()[-1] == "100/100"


def on_a_terminal(vhdx, columns, *arguments):
    """What a terminal of that width is shown on standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = vhdx.start(*arguments, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal that nobody holds with EIO
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert child.wait(timeout=60) == 0
    return shown.decode()


def test_a_terminal_gets_a_bar_that_fits(vhdx, raw_disk):
    for columns in 40, 60, 80, 200:
        shown = on_a_terminal(vhdx, columns, "convert", "-p", "--force", raw_disk, "a.vhdx")
        last = re.sub(r".*\x1b\[K", "", shown.rstrip("\r\n"))
        assert re.search(r"100\.00 %  in 0:0\d$", last), shown
        assert ("[" in last) == (columns >= 60) and len(last) < columns
    assert on_a_terminal(vhdx, 80, "convert", "-p", "-q", "--force", raw_disk, "a.vhdx") == ""


def test_a_full_host_is_said_and_leaves_nothing(vhdx, tmp_path):
    """A limit on the length of files stands for the full disk."""
    def limit():
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (6 * MIB, 6 * MIB))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    (tmp_path / "disk.raw").write_bytes(os.urandom(16 * MIB))
    vhdx.fails(1, "convert", "disk.raw", "a.vhdx", preexec_fn=limit)
    assert os.listdir(tmp_path) == ["disk.raw"]
