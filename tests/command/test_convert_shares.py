"""vhdx convert where the host can share or copy extents by itself."""
import os
import random
import re
import shutil
import subprocess

import pytest

from chains import contents, leave_dirty, make_chain
from conftest import COMMAND, MIB, Command


@pytest.fixture(params=["btrfs", "xfs"])
def sharing(request, tmp_path):
    """A file system whose files can share extents."""
    maker = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}[request.param]
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    for tool in (maker[0], "filefrag"):
        if shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"{tool} is not installed")
    image, folder = tmp_path / "host.img", tmp_path / "host"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(400 * MIB)
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run([*maker, image], check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = subprocess.run(["mount", "-o", "loop", image, folder], env=environment, stderr=subprocess.PIPE)
    if done.returncode != 0:
        pytest.skip(f"no mount here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True, env=environment)


def make_source(path):
    """24 MiB of which 17 are data, with stored zeros, holes and odd pieces."""
    draw = random.Random(7)
    with open(path, "wb") as file:
        file.truncate(24 * MIB + 1536)
        for offset, length in ((0, 5 * MIB), (7 * MIB - 300, 700), (9 * MIB + 4096, 12 * MIB), (24 * MIB, 1536)):
            file.seek(offset)
            file.write(draw.randbytes(length))
        file.seek(5 * MIB)
        file.write(bytes(MIB))
        os.fsync(file.fileno())


def shared_bytes(path):
    """Bytes in extents that another file holds, too."""
    os.sync()
    output = subprocess.run(["/usr/sbin/filefrag", "-b1", "-v", path], check=True, stdout=subprocess.PIPE).stdout.decode()
    lengths = re.findall(r"^ *\d+: *\d+\.\. *\d+: *\d+\.\. *\d+: *(\d+):(?=.*shared)", output, re.M)
    return sum(map(int, lengths))


@pytest.mark.parametrize("options", [[], ["-S", "0"]])
def test_extents_are_shared(sharing, options):
    vhdx = Command(sharing)
    source = sharing / "disk.raw"
    make_source(source)
    before = source.read_bytes()
    vhdx("convert", "-q", "-f", "raw", *options, "disk.raw", "a.vhdx")
    vhdx("convert", "-q", *options, "a.vhdx", "b.raw")
    vhdx("convert", "-q", *options, "--block-size=1M", "a.vhdx", "c.vhdx")
    vhdx("convert", "-q", *options, "--type=fixed", "disk.raw", "d.vhdx")
    for name in ("a.vhdx", "b.raw", "c.vhdx", "d.vhdx"):
        assert shared_bytes(sharing / name) > 16 * MIB, name
        if name != "b.raw":
            vhdx("check", name)
            assert contents(vhdx, name) == before
    assert (sharing / "b.raw").read_bytes() == source.read_bytes() == before


def test_a_chain_is_shared(sharing):
    vhdx = Command(sharing)
    make_chain(vhdx)
    before = contents(vhdx, "top.avhdx")
    vhdx("flatten", "-q", "top.avhdx", "alone.vhdx")
    assert contents(vhdx, "alone.vhdx") == before and shared_bytes(sharing / "alone.vhdx") > 3 * MIB


def test_what_is_shared_is_still_two(sharing):
    """A write to the copy leaves the source alone."""
    vhdx = Command(sharing)
    make_source(sharing / "disk.raw")
    before = (sharing / "disk.raw").read_bytes()
    vhdx("convert", "-q", "disk.raw", "a.vhdx")
    vhdx("bench", "-q", "-w", "--pattern", "9", "-c", "24", "-d", "1", "-s", "1M", "a.vhdx")
    assert (sharing / "disk.raw").read_bytes() == before


@pytest.mark.parametrize("options", [[], ["-S", "0"], ["-S", "0", "-m", "1"]])
def test_the_system_is_asked_once_and_copies_what_nobody_looks_at(vhdx, tmp_path, peer, options):
    peer("strace", "-V")
    make_source(tmp_path / "disk.raw")
    trace = tmp_path / "trace"
    subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=ioctl,copy_file_range", COMMAND, "convert", "-q",
                    *options, "disk.raw", "a.vhdx"], cwd=tmp_path, check=True)
    assert contents(vhdx, "a.vhdx") == (tmp_path / "disk.raw").read_bytes()
    vhdx("check", "a.vhdx")
    text = trace.read_text()
    if "EXDEV" in text or " = 0\n" in text.replace("exited with 0", ""):
        pytest.skip("this file system shares, or cannot copy")
    copies = sum(map(int, re.findall(r"copy_file_range.* = (\d+)$", text, re.M)))
    assert (copies > 16 * MIB) == bool(options)


def test_a_dirty_source_is_read_through_its_log(vhdx, tmp_path):
    leave_dirty(vhdx, "a.vhdx")
    for options in ([], ["-S", "0"]):
        vhdx("convert", "-q", "-O", "raw", *options, "a.vhdx", "b.raw")
        assert (tmp_path / "b.raw").read_bytes() == contents(vhdx, "a.vhdx")
        os.remove(tmp_path / "b.raw")
