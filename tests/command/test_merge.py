"""vhdx merge."""
import json
import os
import signal

import pytest

from chains import (Halted, SIZE, assert_sound, contents, contents_for_7zip, expected_chain, files, make_chain,
                    write)
from conftest import MIB


def test_into_the_parent(vhdx, peer, tmp_path):
    make_chain(vhdx)
    text = vhdx("merge", "top.avhdx").decode()
    assert "copies 1.0 MiB from top.avhdx to " in text and "top.avhdx is obsolete then\n" in text and "Done." in text
    top, _, base = expected_chain()
    for image, expected in (("top.avhdx", top), ("middle.avhdx", top), ("base.vhdx", base)):
        assert contents(vhdx, image) == expected
        assert contents_for_7zip(peer, tmp_path, image) == expected
    assert_sound(vhdx, "top.avhdx", "middle.avhdx", "base.vhdx")


def test_into_an_ancestor_and_away_with_the_files(vhdx, peer, tmp_path):
    make_chain(vhdx)
    assert "deletes top.avhdx\n" in vhdx("merge", "--into", "base.vhdx", "--delete", "top.avhdx").decode()
    assert os.listdir(tmp_path) == ["base.vhdx"]
    assert contents(vhdx, "base.vhdx") == expected_chain()[0]
    assert contents_for_7zip(peer, tmp_path, "base.vhdx") == expected_chain()[0]
    assert_sound(vhdx, "base.vhdx")


def test_children_of_the_merged_image_get_the_ancestor(vhdx, tmp_path):
    make_chain(vhdx)
    (tmp_path / "more").mkdir()
    vhdx("create", "-q", "-b", "middle.avhdx", "more/leaf.avhdx")
    write(vhdx, "more/leaf.avhdx", "l", 0)
    text = vhdx("merge", "--also", "more", "--delete", "middle.avhdx").decode()
    assert "makes ./top.avhdx a child of " in text and "makes more/leaf.avhdx a child of " in text
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
    assert contents(vhdx, "more/leaf.avhdx") == b"l" * 4096 + expected_chain()[1][4096:]
    assert not (tmp_path / "middle.avhdx").exists()


def test_a_dry_run_says_it_all_and_writes_nothing(vhdx, tmp_path):
    make_chain(vhdx)
    before = files(tmp_path)
    document = json.loads(vhdx("merge", "--dry-run", "--json", "--into", "base.vhdx", "--delete", "top.avhdx"))
    assert document["dry-run"] is True and document["into"] == "base.vhdx" and document["filename"] == "top.avhdx"
    assert document["bytes-copied"] == 2 * MIB + 1024 and document["images-relinked"] == 0
    assert [line.split()[0] for line in document["messages"]] == ["copies", "deletes", "deletes"]
    assert "Nothing was written" in vhdx("merge", "-n", "middle.avhdx").decode()
    assert files(tmp_path) == before

    done = json.loads(vhdx("merge", "--json", "--into", "base.vhdx", "top.avhdx"))
    assert done["dry-run"] is False and done["bytes-copied"] == document["bytes-copied"]
    assert done["blocks-changed"] == document["blocks-changed"] == 3


def test_siblings_are_named_before_anything_is_written(vhdx, tmp_path):
    make_chain(vhdx)
    (tmp_path / "more").mkdir()
    vhdx("create", "-q", "-b", "base.vhdx", "second.avhdx")
    vhdx("create", "-q", "-b", "base.vhdx", "more/third.avhdx")
    before = files(tmp_path)
    text = vhdx.fails(1, "merge", "middle.avhdx", "--also", "more")
    assert "second.avhdx, more/third.avhdx are children of " in text and "--orphan-siblings" in text
    assert "vhdx rebase --flatten" in text
    assert "third.avhdx" not in vhdx.fails(1, "merge", "-n", "middle.avhdx")
    failed = json.loads(vhdx.run("merge", "--json", "middle.avhdx").stdout)
    assert failed["error"]["code"] == "HAS_CHILDREN" and "second.avhdx is a child of " in failed["messages"][0]
    assert files(tmp_path) == before

    assert "second.avhdx is a child of " in vhdx("merge", "--orphan-siblings", "middle.avhdx").decode()
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
    assert "DataWriteGuid" in vhdx.fails(1, "convert", "-O", "raw", "second.avhdx", "-")


def test_a_branch_in_between_is_never_given_up(vhdx, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "-b", "middle.avhdx", "branch.avhdx")
    before = files(tmp_path)
    text = vhdx.fails(1, "merge", "--orphan-siblings", "--into", "base.vhdx", "top.avhdx")
    assert "branch.avhdx is a child of " in text
    assert files(tmp_path) == before
    vhdx("rebase", "-q", "--flatten", "branch.avhdx")  # as the message says
    vhdx("merge", "-q", "--into", "base.vhdx", "top.avhdx")
    assert contents(vhdx, "branch.avhdx") == expected_chain()[1]
    assert contents(vhdx, "base.vhdx") == expected_chain()[0]


def test_a_larger_child_makes_its_parent_grow(vhdx):
    vhdx("create", "-q", "base.vhdx", "3M")
    write(vhdx, "base.vhdx", "b", 0, 3 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx", "40M")
    write(vhdx, "child.avhdx", "c", 39 * MIB, 512)
    expected = contents(vhdx, "child.avhdx")
    assert "changes the disk of " in vhdx("merge", "child.avhdx").decode()
    assert contents(vhdx, "base.vhdx") == expected and len(expected) == 40 * MIB
    assert_sound(vhdx, "base.vhdx", "child.avhdx")


def test_change_tracking_that_becomes_stale_is_said(vhdx, tmp_path):
    make_chain(vhdx)
    (tmp_path / "middle.avhdx.rct").write_bytes(b"tracking")
    (tmp_path / "middle.avhdx.mrt").write_bytes(b"tracking")
    text = vhdx("merge", "top.avhdx").decode()
    assert "middle.avhdx.rct is stale now" in text and "middle.avhdx.mrt is stale now" in text
    assert (tmp_path / "middle.avhdx.rct").read_bytes() == b"tracking"


def test_a_second_call_has_nothing_to_do(vhdx):
    make_chain(vhdx)
    vhdx("merge", "-q", "top.avhdx")
    assert "middle.avhdx holds everything of top.avhdx already" in vhdx("merge", "top.avhdx").decode()
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]


def halted_merge(vhdx):
    vhdx("create", "-q", "base.vhdx", "32M")
    write(vhdx, "base.vhdx", "b", 0, 32 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx")
    write(vhdx, "child.avhdx", "c", 0, 20 * MIB)
    return Halted(vhdx, "merge", "--delete", "child.avhdx")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_and_called_again(vhdx, tmp_path, number):
    expected = b"c" * (20 * MIB) + b"b" * (12 * MIB)
    _, said = halted_merge(vhdx).end_by(number)
    if number != signal.SIGKILL:
        assert "the same command again finishes the merge" in said
        assert vhdx.run("info", "--is", "dirty", "base.vhdx").returncode == 2
    assert contents(vhdx, "child.avhdx") == expected
    assert "goes on: copies" in vhdx("merge", "--delete", "child.avhdx").decode()
    assert contents(vhdx, "base.vhdx") == expected
    assert os.listdir(tmp_path) == ["base.vhdx"]
    assert_sound(vhdx, "base.vhdx")


def test_where_parents_may_be(vhdx, tmp_path):
    make_chain(vhdx)
    before = files(tmp_path)
    assert "parent" in vhdx.fails(1, "merge", "--parents=none", "top.avhdx")
    os.mkdir(tmp_path / "moved")
    os.rename(tmp_path / "base.vhdx", tmp_path / "moved" / "base.vhdx")
    vhdx.fails(1, "merge", "--into", "moved/base.vhdx", "top.avhdx")
    assert files(tmp_path) == {name: data for name, data in before.items() if name != "base.vhdx"}
    # The absolute path begins at the drive; what is left of it is looked up in the folder.
    os.makedirs(str(tmp_path / "drive") + str(tmp_path))
    os.rename(tmp_path / "moved" / "base.vhdx", str(tmp_path / "drive") + str(tmp_path / "base.vhdx"))
    vhdx("merge", "-q", "--map", f"C:={tmp_path}/drive", "middle.avhdx")
    assert contents(vhdx, "middle.avhdx", "--map", f"C:={tmp_path}/drive") == expected_chain()[1]


REFUSED = [
    (["none.avhdx"], "none.avhdx: cannot open: No such file"),
    (["text"], "text: "),
    (["base.vhdx"], "base.vhdx has no parent to be merged into"),
    (["--into", "none.vhdx", "top.avhdx"], "none.vhdx: no such file"),
    (["--into", "top.avhdx", "top.avhdx"], "top.avhdx is no ancestor of top.avhdx"),
    (["--into", "text", "top.avhdx"], "text is no ancestor of top.avhdx"),
]


def test_refused(vhdx, tmp_path):
    make_chain(vhdx)
    (tmp_path / "text").write_text("no image\n" * 100)
    before = files(tmp_path)
    for arguments, said in REFUSED:
        done = vhdx.run("merge", "--json", *arguments)
        assert done.returncode == 1 and said in done.stderr.decode(), (arguments, done)
        assert said in json.loads(done.stdout)["error"]["message"]
    assert files(tmp_path) == before
    assert len(contents(vhdx, "top.avhdx")) == SIZE


def test_in_use(vhdx, tmp_path):
    make_chain(vhdx)
    reader = Halted(vhdx, "convert", "-O", "raw", "base.vhdx", "copy.raw")
    text = vhdx.fails(1, "merge", "middle.avhdx")
    assert "close the other program" in text and "--force-share" not in text
    reader.end_by(signal.SIGTERM)
    vhdx("merge", "-q", "middle.avhdx")
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
