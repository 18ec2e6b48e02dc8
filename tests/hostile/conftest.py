"""Tests of damaged and hostile images.  VHDX_BUILD names the build directory."""
import json
import pathlib
import shutil
import subprocess
import sys
import types

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

import guest  # noqa: E402

command = guest.load_conftest("command")
SECONDS = 20  # after this it hangs, however busy the machine is


@pytest.fixture(scope="session")
def meter_process():
    with subprocess.Popen(["/usr/bin/python3", "-I", "-S", str(HERE / "meter.py")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def meter(meter_process, tmp_path):
    """Run the command; what comes back has status, output, error, seconds, cpu_seconds and resident.

    The images take gigabytes together, so each goes when its test ends.
    """
    if not command.COMMAND.exists():
        pytest.skip(f"no {command.COMMAND}: set VHDX_BUILD")

    def run(*arguments):
        request = {"command": [str(command.COMMAND), *map(str, arguments)], "directory": str(tmp_path),
                   "seconds": SECONDS}
        print(json.dumps(request), file=meter_process.stdin, flush=True)
        answer = types.SimpleNamespace(**json.loads(meter_process.stdout.readline()))
        answer.output = (tmp_path / "out").read_bytes()
        answer.error = (tmp_path / "err").read_bytes()
        return answer

    yield run
    shutil.rmtree(tmp_path)
