"""vhdx replay, on images whose writer was killed."""
import hashlib
import json
import signal
import time

import pytest


@pytest.fixture
def dirty(vhdx, tmp_path):
    """An image with a log to be replayed: its writer flushes after every write and is killed between two."""
    vhdx("create", "--block-size", "1M", "a.vhdx", "1G")
    child = vhdx.start("bench", "-w", "-q", "-d", "1", "-c", "100000000", "-S", "1M", "--pattern", "65",
                       "--flush-interval", "1", "a.vhdx")
    time.sleep(0.7)
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=60)
    assert vhdx.run("info", "--is", "dirty", "a.vhdx").returncode == 0
    return tmp_path / "a.vhdx"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_reading_replays_in_memory_and_writes_nothing(vhdx, dirty):
    before = digest(dirty)
    assert b"can be replayed" in vhdx("replay", "--dry-run", "a.vhdx")
    assert vhdx.json("info", "--json", "a.vhdx")["dirty-flag"] is True
    vhdx("map", "a.vhdx")
    assert vhdx.run("check", "a.vhdx").returncode in (0, 3)  # 3: space the writer had taken ahead
    vhdx("convert", "a.vhdx", "seen.raw")
    assert digest(dirty) == before


def test_replay_changes_the_file_and_not_the_disk(vhdx, dirty, peer):
    vhdx("convert", "a.vhdx", "before.raw")
    assert vhdx("replay", "a.vhdx") == b"a.vhdx: the log was replayed\n"
    assert vhdx("replay", "a.vhdx") == b"a.vhdx: clean, there is nothing to replay\n"
    assert vhdx("replay", "-q", "a.vhdx") == b""
    vhdx("compare", "before.raw", "a.vhdx")
    assert b"identical" in peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "before.raw", "a.vhdx")
    assert vhdx.run("check", "a.vhdx").returncode in (0, 3)


def test_ignoring_the_log(vhdx, dirty):
    info = vhdx.json("info", "--json", "--ignore-log", "a.vhdx")
    assert info["log"]["ignored"] is True
    assert b"ignored here" in vhdx("info", "--ignore-log", "a.vhdx")


def test_several_files(vhdx, dirty):
    vhdx("create", "clean.vhdx", "10M")
    done = vhdx.run("replay", "--json", "a.vhdx", "none.vhdx", "clean.vhdx")
    assert done.returncode == 1
    first, second, third = json.loads(done.stdout)
    assert first["replayed"] is True and second["error"]["code"] == "NOT_FOUND" and third["was-dirty"] is False
