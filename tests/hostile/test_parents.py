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
    (b"a\0" * 32767 + b"a", "relative_path of pair 1 of 65535 bytes is not well-formed"),
    (b"\0\xd8.\0v\0h\0d\0x\0", "relative_path of pair 1 of 12 bytes is not well-formed"),  # a high surrogate
    (b"\0\xdc.\0v\0", "relative_path of pair 1 of 6 bytes is not well-formed"),  # a low one
    (b".\0\\\0a\0\0\xd8", "relative_path of pair 1 of 8 bytes is not well-formed"),  # cut off by the end
    (b"\0\xdc\0\xd8", "relative_path of pair 1 of 4 bytes is not well-formed"),  # in the wrong order
    ([("absolute_win32_path", b"\0\xdc.\0v\0")], "absolute_win32_path of pair 1 of 6 bytes is not well-formed"),
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


def trace(folder, log, verb, *arguments):
    """Run the command; what it says, and which files it opened outside of the folder, or inside though it must not.

    After the image itself only the folder and what lies in it may be opened, and what the system tells of the file
    system the image is on.
    """
    done = subprocess.run(["strace", "-f", "-y", "-qq", "-e", "trace=open,openat,openat2", "-o", log,
                           command.COMMAND, verb, *arguments],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20, check=False)
    lines = log.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if "self.vhdx" in line)
    opened = [path for line in lines[first:] for path in re.findall(r"= \d+<([^>]*)>", line)]
    return done, [path for path in opened if not (path + "/").startswith((f"{folder}/", "/proc/fs/")) or
                  path.endswith(("fifo.vhdx", "secret.vhdx"))]


@pytest.mark.parametrize("allowed", ["same-dir", "folder"])
def test_nothing_outside_is_opened(folder, tmp_path, allowed):
    """By what reads through the chain, which fails, and by info, which looks for the parent only to name it."""
    if shutil.which("strace") is None or not command.COMMAND.exists() or subprocess.run(
            ["strace", "-o", "/dev/null", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        pytest.skip("strace cannot run here")
    child = folder / "self.vhdx"
    parents = f"--parents={'same-dir' if allowed == 'same-dir' else folder}"
    for number, (given, words) in enumerate(CASES):
        pairs = given if isinstance(given, list) else [("relative_path", given)]
        write_child(child, pairs)
        reader = [["compare", parents, child, child], ["map", parents, child],
                  ["convert", parents, "-O", "raw", child, "-"], ["info", "--chain", parents, child]][number % 4]
        done, forbidden = trace(folder, tmp_path / "strace", *reader)
        assert done.returncode > 0 and words in done.stderr.decode(), (pairs[-1], done)
        assert forbidden == [], (pairs[-1], reader[0], forbidden)
        _, forbidden = trace(folder, tmp_path / "strace", "info", parents, child)
        assert forbidden == [], (pairs[-1], "info", forbidden)


def test_a_circle_of_two(meter, tmp_path):
    write_link(tmp_path / "a.vhdx", numbered_guid(1), numbered_guid(2), ".\\b.vhdx")
    write_link(tmp_path / "b.vhdx", numbered_guid(2), numbered_guid(1), ".\\a.vhdx")
    done = meter("compare", "a.vhdx", "b.vhdx")
    assert done.status > 0 and b"in the chain already (V125)" in done.error, done


@pytest.mark.parametrize("source, target, relative_path", [(".", "sub", ".\\sub\\self.vhdx"),
                                                          ("self.vhdx", "b.vhdx", ".\\b.vhdx")])
def test_a_circle_of_mounts(tmp_path, source, target, relative_path):
    """One file under two names, which no link shows.  The mount is in a namespace that ends with the command."""
    def run(*arguments):
        return subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c",
                               'mount --bind "$0" "$1" && shift && exec "$@"', source, target, *arguments],
                              cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=20,
                              check=False)

    (tmp_path / "sub").mkdir()
    (tmp_path / "b.vhdx").touch()
    write_link(tmp_path / "self.vhdx", numbered_guid(1), numbered_guid(1), relative_path)
    if shutil.which("unshare") is None or not command.COMMAND.exists() or run("true").returncode != 0:
        pytest.skip("nothing can be mounted here")
    done = run(command.COMMAND, "map", "--parents=any", "self.vhdx")
    assert done.returncode == 1 and b"in the chain already (V125)" in done.stderr, done


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
    # Not timed, but measured: 64 layers take what one takes, and a little for each.
    alone, chain = (meter("map", name).resident for name in ("0.vhdx", "64.vhdx"))
    is_sanitized = alone > 12 * builder.MIB  # which keeps what was freed
    assert is_sanitized or chain - alone <= 8 * builder.MIB, (alone, chain)
    done = meter("map", "257.vhdx")
    assert done.status == 1 and b"deeper than the limit of 256 parents" in done.error, done
