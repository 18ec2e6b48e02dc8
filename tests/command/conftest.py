"""Tests of the vhdx command, run as a user runs it.

VHDX_BUILD names the build directory.  Peers (qemu-img, 7zz, nbdkit, nbdinfo, nbdcopy) are used where they are
installed.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("VHDX_BUILD", "build")).resolve()
COMMAND = BUILD / "tools" / "vhdx" / "vhdx"
MOUNT_HELPER = BUILD / "fuse" / "mount.fuse.vhdx"
PLUGIN = BUILD / "plugins" / "nbdkit" / "nbdkit-vhdx-plugin.so"
MIB = 1024 * 1024
# Readers of file systems are of this build, not what may be installed.
os.environ["VHDX_MODULE_PATH"] = str(BUILD / "modules")
os.environ["VHDX_MOUNT_HELPER"] = str(MOUNT_HELPER)

# Under nohup, or in the background of a script, these are ignored, and whoever is started here would ignore them too.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class Command:
    """The command; `vhdx(...)` expects success, `vhdx.fails(STATUS, ...)` that exit status."""

    def __init__(self, directory):
        self.directory = directory

    def run(self, *arguments, **more):
        more.setdefault("stdout", subprocess.PIPE)
        more.setdefault("stderr", subprocess.PIPE)
        return subprocess.run([str(COMMAND), *map(os.fsdecode, arguments)], cwd=self.directory, timeout=120, **more)

    def __call__(self, *arguments, **more):
        done = self.run(*arguments, **more)
        assert done.returncode == 0, (arguments, done.returncode, done.stderr)
        return done.stdout

    def fails(self, status, *arguments, **more):
        done = self.run(*arguments, **more)
        assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stderr.decode(errors="surrogateescape")

    def json(self, *arguments):
        return json.loads(self(*arguments))

    def start(self, *arguments, **more):
        return subprocess.Popen([str(COMMAND), *map(str, arguments)], cwd=self.directory, **more)


@pytest.fixture
def vhdx(tmp_path):
    if not COMMAND.exists():
        pytest.skip(f"no {COMMAND}: set VHDX_BUILD")
    return Command(tmp_path)


@pytest.fixture
def peer(tmp_path):
    """Run another program, or skip the test when it is not installed."""

    def run(*command, status=0):
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        done = subprocess.run([*map(str, command)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=120)
        assert status is None or done.returncode == status, (command, done.returncode, done.stdout)
        return done.stdout

    return run


@pytest.fixture
def raw_disk(tmp_path):
    """A 24 MiB raw disk: data, holes, zeros that are stored, and a last piece that is no whole block."""
    path = tmp_path / "disk.raw"
    draw = random.Random(20)
    with open(path, "wb") as file:
        file.truncate(24 * MIB + 512 * 3)
        for offset, length in ((0, 4096), (3 * MIB - 700, 5000), (8 * MIB, 2 * MIB), (24 * MIB, 1536)):
            file.seek(offset)
            file.write(draw.randbytes(length))
        file.seek(12 * MIB)
        file.write(bytes(MIB))
    return path


def allocated(path):
    return os.stat(path).st_blocks * 512
