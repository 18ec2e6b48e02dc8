"""The Python module: what its documentation says, and what a user of file objects expects."""
import doctest
import hashlib
import io
import os
import pathlib
import subprocess
import threading
import time
import uuid

import pytest

MIB = 1 << 20
SOURCE = pathlib.Path(__file__).parents[2]


@pytest.fixture
def disk(vhdx):
    vhdx.create("a.vhdx", 32 * MIB, block_size=MIB)
    with vhdx.open("a.vhdx", "r+") as opened:
        yield opened


def test_every_example_of_the_documentation(vhdx):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testfile(str(SOURCE / "docs/python.md"), module_relative=False, optionflags=flags)
    assert tried > 20 and failed == 0


def test_annotations_hold_for_a_type_checker(vhdx):
    mypy = pytest.importorskip("mypy.api", reason="no python3-mypy")
    said, errors, status = mypy.run(["--strict", "--cache-dir=/dev/null", str(SOURCE / "python/vhdx")])
    assert status == 0, said + errors


# ---- as a file ----

def test_reads_like_any_file(vhdx, disk):
    disk.pwrite(b"one\ntwo\n" + bytes(100), 0)
    assert disk.readline() == b"one\n" and disk.tell() == 4
    assert disk.seek(-1, os.SEEK_END) == 32 * MIB - 1
    assert disk.read(10) == b"\0" and disk.read(10) == b"" and disk.read() == b""
    disk.seek(0)
    assert io.BufferedReader(disk).readlines(7) == [b"one\n", b"two\n"]
    with pytest.raises(ValueError):
        disk.seek(-1)


def test_write_moves_the_position_and_stops_at_the_end(vhdx, disk):
    assert disk.write(b"abc") == 3 and disk.write(memoryview(b"def")) == 3 and disk.tell() == 6
    assert disk.pread(6, 0) == b"abcdef"
    disk.seek(0, os.SEEK_END)
    with pytest.raises(vhdx.RangeError) as caught:
        disk.write(b"x")
    assert caught.value.code == "RANGE"
    assert disk.pread(100, 40 * MIB) == b""


def test_a_whole_disk_reads_as_the_command_converts_it(vhdx, disk):
    for at in range(0, 32, 3):
        disk.pwrite(os.urandom(5000), at * MIB + 777)
    disk.flush()
    disk.seek(0)
    whole = disk.read()
    disk.close()
    command = os.environ.get("VHDX_BUILD", "build") + "/tools/vhdx/vhdx"
    subprocess.run([command, "convert", "a.vhdx", "a.raw"], check=True)
    assert hashlib.md5(pathlib.Path("a.raw").read_bytes()).digest() == hashlib.md5(whole).digest()


def test_reading_is_all_a_reader_may_do(vhdx, disk):
    disk.close()
    with vhdx.open("a.vhdx") as reader:
        assert reader.readable() and not reader.writable() and reader.mode == "rb"
        for call in (lambda: reader.write(b"x"), lambda: reader.pwrite(b"x", 0), lambda: reader.trim(0, 1),
                     lambda: reader.zero(0, 1)):
            with pytest.raises(io.UnsupportedOperation):
                call()
    with pytest.raises(ValueError):
        vhdx.open("a.vhdx", "w")


# ---- buffers ----

def test_buffers_of_every_kind(vhdx, disk):
    disk.pwrite(b"\1\2\3\4" * 1024, 0)
    target = bytearray(4096)
    disk.pread_into(target, 0)
    assert target == b"\1\2\3\4" * 1024
    disk.pread_into(memoryview(target)[:4], 2)
    assert target[:4] == b"\3\4\1\2"
    with pytest.raises((TypeError, BufferError)):
        disk.pread_into(b"read-only", 0)
    with pytest.raises((TypeError, BufferError)):
        disk.pread_into(memoryview(target)[::2], 0)
    with pytest.raises(TypeError):
        disk.pwrite("text", 0)
    import array
    numbers = array.array("I", [7] * 8)
    disk.seek(0)
    assert disk.readinto(numbers) == 32 and numbers[0] == 0x04030201


def test_threads_do_not_wait_for_each_other(vhdx, disk):
    """Many threads over one disk: right bytes, and the interpreter runs meanwhile."""
    block = os.urandom(MIB)
    wrong, turns = [], 0

    def work(number):
        for at in range(number, 32, 8):
            disk.pwrite(block, at * MIB)
            if disk.pread(MIB, at * MIB) != block:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        turns += 1
        time.sleep(0.0005)
    assert not wrong and turns > 0


def test_close_waits_for_calls_in_flight(vhdx, disk):
    """Reading while another thread closes: a read ends well or says that the disk is closed."""
    unexpected = []

    def read():
        try:
            while True:
                disk.pread(MIB, 0)
        except ValueError:
            pass
        except BaseException as error:  # noqa: BLE001
            unexpected.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    disk.close()
    for thread in threads:
        thread.join()
    assert not unexpected and disk.closed
    disk.close()


def test_a_job_keeps_its_disks_open(vhdx, disk):
    vhdx.create("b.vhdx", 32 * MIB)
    disk.pwrite(os.urandom(8 * MIB), 0)
    with vhdx.open("b.vhdx", "r+") as target:
        with pytest.raises(ValueError, match="a job is using"):
            vhdx.copy(disk, target, progress=lambda done, total: disk.close())
    assert disk.pread(1, 0)


# ---- what lies where ----

def test_extents_cover_the_disk_however_many_there_are(vhdx):
    vhdx.create("b.vhdx", 1024 * MIB, block_size=MIB)
    with vhdx.open("b.vhdx", "r+") as disk:
        for at in range(0, 1024, 2):
            disk.pwrite(b"x", at * MIB)
        extents = list(disk.extents())
        assert len(extents) == 1024 and extents[0].is_present and not extents[1].is_present
        position = 0
        for extent in extents:
            assert extent.offset == position and extent.is_zero == (extent.file_offset is None)
            position += extent.length
        assert position == disk.size
        assert list(disk.extents(MIB, 0)) == []


def test_info_and_chain(vhdx, disk):
    disk_id = uuid.uuid4()
    disk.close()
    vhdx.create("b.vhdx", 10 * MIB, type="fixed", logical_sector_size=4096, disk_id=disk_id, preallocation="off")
    with vhdx.open("b.vhdx") as fixed:
        info = fixed.info
        assert (info.type, info.format, info.logical_sector_size, info.disk_id) == ("fixed", "vhdx", 4096, disk_id)
    vhdx.create("child.vhdx", parent="a.vhdx")
    with vhdx.open("child.vhdx", parents=[os.getcwd()]) as child:
        top, base = child.chain
        assert top.parent_linkage == base.data_write_guid and os.path.samefile(base.filename, "a.vhdx")
    with vhdx.open("child.vhdx", parents="none") as child:
        assert len(child.chain) == 1
    os.mkdir("empty")
    with pytest.raises(vhdx.NoParentError):
        vhdx.open("child.vhdx", parents=["empty"])


# ---- errors, jobs ----

def test_errors_have_places_and_classes(vhdx, disk):
    disk.close()
    with open("a.vhdx", "r+b") as file:
        file.seek(192 << 10)
        file.write(b"none" * 20000)
        file.seek(256 << 10)
        file.write(b"none" * 10000)
    with pytest.raises(vhdx.BadRegionError) as caught:
        vhdx.open("a.vhdx")
    error = caught.value
    assert (error.rule, error.severity, error.part, error.filename) == (55, "refuse", "region table", "a.vhdx")
    assert isinstance(error, vhdx.Error) and isinstance(error, OSError) and error.errno > 0
    report = vhdx.check("a.vhdx")
    assert report.is_damaged and not report.is_complete and 55 in [finding.rule for finding in report.findings]
    with pytest.raises(FileExistsError):
        vhdx.create("a.vhdx", MIB)
    with pytest.raises(vhdx.InvalidError):
        vhdx.create("c.vhdx", 12345)
    assert not os.path.exists("c.vhdx")


def test_a_writer_keeps_others_out(vhdx, disk):
    with pytest.raises(vhdx.InUseError):
        vhdx.open("a.vhdx", "r+")
    with pytest.raises(vhdx.InUseError):
        vhdx.check("a.vhdx")


def test_what_a_callback_raises_ends_the_job(vhdx):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    with open("a.raw", "wb") as file:
        file.write(os.urandom(64 * MIB))
    vhdx.create("a.vhdx", 64 * MIB)
    for progress, raised in (stop, Stop), (lambda done, total: True, vhdx.CancelledError):
        with vhdx.open("a.raw", format="raw") as source, vhdx.open("a.vhdx", "r+") as target:
            with pytest.raises(raised):
                vhdx.copy(source, target, progress=progress)
    with vhdx.open("a.raw", format="raw") as source, vhdx.open("a.vhdx", "r+") as target:
        seen = []
        vhdx.copy(source, target, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] == 64 * MIB
        assert target.pread(64 * MIB, 0) == source.pread(64 * MIB, 0)


def test_lines_of_a_merge(vhdx, disk):
    disk.close()
    vhdx.create("child.vhdx", parent="a.vhdx")
    with vhdx.open("child.vhdx", "r+") as child:
        child.pwrite(b"child", 5 * MIB)
    lines = []
    planned = vhdx.merge("child.vhdx", dry_run=True, say=lines.append)
    assert planned.bytes_copied > 0 and any("child.vhdx" in line for line in lines)
    assert vhdx.merge("child.vhdx").bytes_copied == planned.bytes_copied
    with vhdx.open("a.vhdx") as merged:
        assert merged.pread(5, 5 * MIB) == b"child"


def test_a_disk_that_was_forgotten_is_closed_well(vhdx):
    vhdx.create("a.vhdx", 10 * MIB)
    disk = vhdx.open("a.vhdx", "r+")
    disk.pwrite(b"kept", 0)
    del disk
    assert not vhdx.check("a.vhdx").is_dirty
    with vhdx.open("a.vhdx") as again:
        assert again.read(4) == b"kept"
