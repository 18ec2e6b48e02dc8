"""Tests of damaged and hostile images.  VHDX_BUILD names the build directory."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import batch  # noqa: E402
import guest  # noqa: E402

command = guest.load_conftest("command")
SECONDS = 20  # after this it hangs, however busy the machine is
ROOM = 1 << 30


def find_scratch():
    """Where images lie: in memory when there is room, since most are holes that a disk would fill with zeros."""
    memory = pathlib.Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOM:
        return memory
    return None


@pytest.fixture
def tmp_path():
    """The images take gigabytes together, so each goes when its test ends."""
    with tempfile.TemporaryDirectory(prefix="vhdx-hostile-", dir=find_scratch()) as name:
        yield pathlib.Path(name)


@pytest.fixture(scope="session")
def meter_process():
    with subprocess.Popen(["/usr/bin/python3", "-I", "-S", str(HERE / "meter.py")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="session")
def run_metered(meter_process):
    """Run the command; what comes back has status, output, error, seconds, cpu_seconds and resident."""
    if not command.COMMAND.exists():
        pytest.skip(f"no {command.COMMAND}: set VHDX_BUILD")

    def run(directory, *arguments):
        request = {"command": [str(command.COMMAND), *map(str, arguments)], "directory": str(directory),
                   "seconds": SECONDS}
        print(json.dumps(request), file=meter_process.stdin, flush=True)
        answer = types.SimpleNamespace(**json.loads(meter_process.stdout.readline()))
        answer.output = (directory / "out").read_bytes()
        answer.error = (directory / "err").read_bytes()
        return answer

    return run


@pytest.fixture
def meter(run_metered, tmp_path):
    return lambda *arguments: run_metered(tmp_path, *arguments)


@pytest.fixture(scope="session")
def batches(run_metered):
    """Case -> its Subject, looked at together with the others of its batch."""
    current = batch.Batches(run_metered, find_scratch())
    yield current
    current.close()
