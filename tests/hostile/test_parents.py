"""Locators made to open what they should not: each a clear error, and no file outside the allowed folders opened."""
import os
import re
import shutil
import subprocess

import pytest

import builder
from builder import PARENT_LINKAGE
from conftest import command

LINKAGE = ("parent_linkage", PARENT_LINKAGE)
PATHS = ["/etc/passwd", r"..\secret.vhdx", r"..\..\..\..\..\..\etc\passwd", "/dev/zero", "/proc/self/mem", ".",
         r".\link.vhdx", r".\linked\secret.vhdx", r".\fifo.vhdx", r".\raw.vhdx", r".\qcow2.vhdx", r".\self.vhdx",
         "nbd://127.0.0.1:1/x", "a" * 32000]
OTHERS = [[("absolute_win32_path", r"C:\etc\passwd")], [("absolute_win32_path", r"\\attacker\share\x.vhdx")],
          [(f"key{number}", "x") for number in range(2000)] + [("relative_path", r"..\secret.vhdx")]]


@pytest.fixture
def folder(tmp_path):
    """A folder with children; beside it the image that they may not reach, which is what their linkage asks for."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    builder.Image().write(tmp_path / "secret.vhdx")
    (folder / "link.vhdx").symlink_to("../secret.vhdx")
    (folder / "linked").symlink_to("..")
    os.mkfifo(folder / "fifo.vhdx")
    (folder / "raw.vhdx").write_bytes(b"r" * (1 << 20))
    (folder / "qcow2.vhdx").write_bytes(b"QFI\xfb\0\0\0\3" + b"/etc/passwd".ljust(1 << 20, b"\0"))
    return folder


def write_child(path, pairs):
    image = builder.Image()
    image.make_child([LINKAGE, *pairs])
    image.write(path)


@pytest.mark.parametrize("allowed", ["same-dir", "folder"])
def test_nothing_outside_is_opened(folder, tmp_path, allowed):
    if shutil.which("strace") is None or not command.COMMAND.exists() or subprocess.run(
            ["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("strace cannot run here")
    child = folder / "self.vhdx"
    parents = "same-dir" if allowed == "same-dir" else folder
    for pairs in [[("relative_path", path)] for path in PATHS] + OTHERS:
        write_child(child, pairs)
        log = tmp_path / "strace"
        done = subprocess.run(["strace", "-f", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o", log,
                               command.COMMAND, "compare", f"--parents={parents}", child, child],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20, check=False)
        assert done.returncode > 0 and b"parent" in done.stderr, (pairs[-1], done)
        # After the image itself only the folder and what lies in it may have been opened, and what the system tells of
        # the file system the image is on.
        lines = log.read_text().splitlines()
        first = next(number for number, line in enumerate(lines) if "self.vhdx" in line)
        opened = [path for line in lines[first:] for path in re.findall(r"= \d+<([^>]*)>", line)]
        outside = [path for path in opened if not (path + "/").startswith((f"{folder}/", "/proc/fs/"))]
        assert outside == [], (pairs[-1], outside)
        assert not any(path.endswith(("fifo.vhdx", "secret.vhdx")) for path in opened), opened
