"""vhdx rebase: another parent, another place of it, or none."""
import json
import os
import shutil
import signal

import pytest

from chains import Halted, assert_sound, contents, contents_for_7zip, expected_chain, files, make_chain, write
from conftest import MIB


def parent_of(vhdx, image):
    """The file name in the locator."""
    line = next(line for line in vhdx("info", image).decode().splitlines() if "relative path" in line)
    return line.split("\\")[-1]


def assert_whole(vhdx, image):
    """Sound, but for the space of the sector bitmaps that it gave up."""
    assert vhdx.run("check", image).returncode in (0, 3)


def test_relink_to_where_the_parent_is_now(vhdx, tmp_path):
    make_chain(vhdx)
    (tmp_path / "store").mkdir()
    os.rename(tmp_path / "middle.avhdx", tmp_path / "store" / "middle.avhdx")
    os.rename(tmp_path / "base.vhdx", tmp_path / "store" / "moved.vhdx")
    before = (tmp_path / "store" / "middle.avhdx").read_bytes()
    assert "vhdx rebase --relink" in vhdx.fails(1, "convert", "-O", "raw", "top.avhdx", "-")
    # The parent's own parent is not found, and is not needed for this.
    assert "linked top.avhdx with parent store/middle.avhdx\n" in \
        vhdx("rebase", "--relink", "store/middle.avhdx", "top.avhdx").decode()
    assert (tmp_path / "store" / "middle.avhdx").read_bytes() == before
    document = json.loads(vhdx("rebase", "--json", "--relink", "store/moved.vhdx", "store/middle.avhdx"))
    assert document["action"] == "relink" and document["parent"] == "store/moved.vhdx"
    assert document["images-relinked"] == 1 and document["bytes-copied"] == 0
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]


def test_relink_wants_proof(vhdx, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "other.vhdx", "10M")
    vhdx("convert", "-O", "vhdx", "base.vhdx", "copy.vhdx")
    vhdx("rebase", "-q", "--relink", "copy.vhdx", "middle.avhdx")  # the old parent is there and reads the same
    assert parent_of(vhdx, "middle.avhdx") == "copy.vhdx"
    before = files(tmp_path)
    text = vhdx.fails(1, "rebase", "--relink", "other.vhdx", "middle.avhdx")
    assert "it reads differently than the old parent" in text and "--force" in text
    # By force its own child would show the mixture, too.
    text = vhdx.fails(1, "rebase", "--force", "--relink", "other.vhdx", "middle.avhdx")
    assert "middle.avhdx: ./top.avhdx depends on it" in text and "--orphan-children" in text
    assert files(tmp_path) == before
    assert "without proof" in vhdx("rebase", "--force", "--orphan-children", "--relink", "other.vhdx",
                                   "middle.avhdx").decode()
    assert contents(vhdx, "top.avhdx")[:MIB - 512] == bytes(MIB - 512)


def test_to_another_parent_with_the_contents_kept(vhdx, peer, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "other.vhdx", "10M")
    write(vhdx, "other.vhdx", "o", 0, 4 * MIB)
    planned = json.loads(vhdx("rebase", "--dry-run", "--json", "--parent", "other.vhdx", "middle.avhdx"))
    text = vhdx("rebase", "--parent", "other.vhdx", "middle.avhdx").decode()
    assert "into middle.avhdx, whose parent is other.vhdx\n" in text and "Done." in text
    assert planned["bytes-copied"] > 0 and planned["action"] == "parent"
    os.remove(tmp_path / "base.vhdx")
    top, middle, _ = expected_chain()
    for image, expected in (("top.avhdx", top), ("middle.avhdx", middle)):
        assert contents(vhdx, image) == expected
        assert contents_for_7zip(peer, tmp_path, image) == expected
    assert_sound(vhdx, "top.avhdx", "middle.avhdx")


def test_to_its_grandparent(vhdx, tmp_path):
    make_chain(vhdx)
    vhdx("rebase", "-q", "-b", "base.vhdx", "top.avhdx")
    os.remove(tmp_path / "middle.avhdx")
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]


def test_flatten(vhdx, peer, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "-b", "top.avhdx", "leaf.avhdx")
    write(vhdx, "leaf.avhdx", "l", 9 * MIB)
    expected = contents(vhdx, "leaf.avhdx")
    (tmp_path / "top.avhdx.rct").write_bytes(b"tracking")
    text = vhdx("rebase", "--flatten", "top.avhdx").decode()
    assert "into top.avhdx, which needs no parent any more\n" in text and "top.avhdx.rct is stale now" in text
    os.remove(tmp_path / "base.vhdx")
    os.remove(tmp_path / "middle.avhdx")
    assert vhdx.json("info", "--json", "top.avhdx")["type"] == "dynamic"
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
    assert contents_for_7zip(peer, tmp_path, "top.avhdx") == expected_chain()[0]
    assert contents(vhdx, "leaf.avhdx") == expected
    assert_whole(vhdx, "top.avhdx")
    assert "nothing to do" in vhdx("rebase", "--flatten", "top.avhdx").decode()


@pytest.mark.parametrize("way", [["--flatten"], ["--parent", "base.vhdx"], ["--relink", "middle.avhdx"]])
def test_a_dry_run_writes_nothing(vhdx, tmp_path, way):
    make_chain(vhdx)
    before = files(tmp_path)
    assert "Nothing was written" in vhdx("rebase", "-n", *way, "top.avhdx").decode()
    assert json.loads(vhdx("rebase", "--dry-run", "--json", *way, "top.avhdx"))["dry-run"] is True
    assert files(tmp_path) == before


@pytest.mark.parametrize("way", [["--flatten"], ["--parent", "other.vhdx"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_called_again(vhdx, tmp_path, way, number):
    vhdx("create", "-q", "base.vhdx", "32M")
    write(vhdx, "base.vhdx", "b", 0, 32 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx")
    write(vhdx, "child.avhdx", "c", 3 * MIB, 512)
    vhdx("create", "-q", "other.vhdx", "32M")
    expected = contents(vhdx, "child.avhdx")
    _, said = Halted(vhdx, "rebase", *way, "child.avhdx").end_by(number)
    if number == signal.SIGINT:
        assert "the same command again finishes" in said
    assert parent_of(vhdx, "child.avhdx") == "base.vhdx" and contents(vhdx, "child.avhdx") == expected
    vhdx("rebase", *way, "child.avhdx")
    os.remove(tmp_path / "base.vhdx")
    assert contents(vhdx, "child.avhdx") == expected
    assert_whole(vhdx, "child.avhdx")


REFUSED = [
    (["--flatten", "none.avhdx"], "none.avhdx: cannot open: No such file"),
    (["--flatten", "text"], "text: "),
    (["--parent", "none.vhdx", "top.avhdx"], "none.vhdx: cannot open: No such file"),
    (["--relink", "text", "top.avhdx"], "text: "),
    (["--parent", "base.vhdx", "other.vhdx"], "other.vhdx has no parent"),
    (["--relink", "base.vhdx", "other.vhdx"], "other.vhdx has no parent"),
    (["--parent", "top.avhdx", "middle.avhdx"], "it stands on it"),
    (["--relink", "top.avhdx", "top.avhdx"], "they are one file"),
    (["--parent", "large-sectors.vhdx", "top.avhdx"], "another logical sector size"),
]


def test_refused(vhdx, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "other.vhdx", "10M")
    vhdx("create", "-q", "--logical-sector", "4096", "large-sectors.vhdx", "10M")
    (tmp_path / "text").write_text("no image\n" * 100)
    before = files(tmp_path)
    for arguments, said in REFUSED:
        done = vhdx.run("rebase", "--json", *arguments)
        assert done.returncode == 1 and said in done.stderr.decode(), (arguments, done)
        assert said in json.loads(done.stdout)["error"]["message"]
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["top.avhdx"], "--parent, --relink or --flatten"),
        (["--flatten", "--relink", "a", "top.avhdx"], "at a time"),
        (["--force", "--parent", "a", "top.avhdx"], "--force is for --relink"),
        (["--flatten", "a", "b"], "one argument too many"),
    ],
)
def test_bad_usage(vhdx, arguments, said):
    assert said in vhdx.fails(2, "rebase", *arguments)


def test_a_copy_of_a_parent_is_told_by_its_guid(vhdx, tmp_path):
    make_chain(vhdx)
    shutil.copy(tmp_path / "middle.avhdx", tmp_path / "twin.avhdx")
    vhdx("rebase", "-q", "--relink", "twin.avhdx", "top.avhdx")
    os.remove(tmp_path / "middle.avhdx")
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
