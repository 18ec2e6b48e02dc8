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
# The relative path, or other pairs, and what the answer says of it.
CASES = [
    ("/etc/passwd", "not relative"),
    (r"..\secret.vhdx", "outside of the"),
    (r"..\..\..\..\..\..\..\..\..\..\..\..\etc\passwd", "climbs above the root"),
    ("/dev/zero", "not relative"),
    ("/proc/self/mem", "not relative"),
    (".", "names no file"),
    (r".\link.vhdx", "leads out of the allowed folder"),
    (r".\linked\secret.vhdx", "leads out of the allowed folder"),
    (r".\fifo.vhdx", "a device, a pipe or a socket"),
    (r".\raw.vhdx", "no VHDX file"),
    (r".\qcow2.vhdx", "no VHDX file"),
    (r".\self.vhdx", "in the chain already"),
    ("nbd://127.0.0.1:1/x", "a drive or a protocol"),
    ("a" * 32000, "too long"),
    (b"a\0" * 32767, "too long"),
    (b"\0\xd8.\0v\0h\0d\0x\0", "parent locator: relative_path"),
    ([("absolute_win32_path", r"C:\etc\passwd")], "outside of the"),
    ([("absolute_win32_path", r"\\attacker\share\x.vhdx")], "no map says"),
    ([(f"key{number}", "x") for number in range(2000)] + [("relative_path", r"..\secret.vhdx")], "outside of the"),
]


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


def write_link(path, own, linkage, relative_path):
    """An image with this DataWriteGuid, and another one's as its linkage."""
    image = builder.Image().empty_disk()
    image.change_headers(data_write_guid=builder.guid(own))
    if linkage is not None:
        image.make_child([("parent_linkage", f"{{{linkage}}}"), ("relative_path", relative_path)])
    image.write(path)


def numbered_guid(number):
    return f"00000000-0000-4000-8000-{number:012x}"


@pytest.mark.parametrize("allowed", ["same-dir", "folder"])
def test_nothing_outside_is_opened(folder, tmp_path, allowed):
    if shutil.which("strace") is None or not command.COMMAND.exists() or subprocess.run(
            ["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("strace cannot run here")
    child = folder / "self.vhdx"
    parents = "same-dir" if allowed == "same-dir" else folder
    for number, (given, words) in enumerate(CASES):
        pairs = given if isinstance(given, list) else [("relative_path", given)]
        write_child(child, pairs)
        verb = [["compare", child, child], ["map", child], ["convert", "-O", "raw", child, "-"]][number % 3]
        log = tmp_path / "strace"
        done = subprocess.run(["strace", "-f", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o", log,
                               command.COMMAND, verb[0], f"--parents={parents}", *verb[1:]],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20, check=False)
        assert done.returncode > 0 and words in done.stderr.decode(), (pairs[-1], done)
        # After the image itself only the folder and what lies in it may have been opened, and what the system tells of
        # the file system the image is on.
        lines = log.read_text().splitlines()
        first = next(number for number, line in enumerate(lines) if "self.vhdx" in line)
        opened = [path for line in lines[first:] for path in re.findall(r"= \d+<([^>]*)>", line)]
        outside = [path for path in opened if not (path + "/").startswith((f"{folder}/", "/proc/fs/"))]
        assert outside == [], (pairs[-1], outside)
        assert not any(path.endswith(("fifo.vhdx", "secret.vhdx")) for path in opened), opened


def test_a_circle_of_two(meter, tmp_path):
    write_link(tmp_path / "a.vhdx", numbered_guid(1), numbered_guid(2), ".\\b.vhdx")
    write_link(tmp_path / "b.vhdx", numbered_guid(2), numbered_guid(1), ".\\a.vhdx")
    done = meter("compare", "a.vhdx", "b.vhdx")
    assert done.status > 0 and b"in the chain already (V125)" in done.error, done


def test_another_parent_than_wanted(meter, tmp_path):
    """Both GUIDs are named, and the remedy."""
    write_link(tmp_path / "base.vhdx", numbered_guid(1), None, None)
    write_link(tmp_path / "child.vhdx", numbered_guid(2), numbered_guid(9), ".\\base.vhdx")
    done = meter("map", "child.vhdx")
    assert done.status == 1 and b"vhdx rebase --relink" in done.error, done
    assert all(numbered_guid(number).encode() in done.error for number in (1, 9)), done


def test_the_depth_limit(meter, tmp_path):
    """256 parents, and one more."""
    for number in range(258):
        write_link(tmp_path / f"{number}.vhdx", numbered_guid(number + 1), numbered_guid(number) if number else None,
                   f".\\{number - 1}.vhdx")
    assert meter("map", "256.vhdx").status == 0
    done = meter("map", "257.vhdx")
    assert done.status == 1 and b"256" in done.error, done
