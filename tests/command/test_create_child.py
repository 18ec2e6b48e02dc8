"""vhdx create --parent: differencing images."""
import os

import pytest

from chains import SIZE, assert_sound, contents, contents_for_7zip, expected_chain, files, make_chain, write
from conftest import MIB


def info(vhdx, image):
    return vhdx.json("info", "--json", image)


def test_a_chain_reads_as_its_layers_say(vhdx, peer, tmp_path):
    make_chain(vhdx)
    top, middle, base = expected_chain()
    for image, expected in (("top.avhdx", top), ("middle.avhdx", middle), ("base.vhdx", base)):
        assert contents(vhdx, image) == expected
        assert contents_for_7zip(peer, tmp_path, image) == expected
    assert_sound(vhdx, "top.avhdx", "middle.avhdx", "base.vhdx")


def test_what_a_child_takes_from_its_parent(vhdx):
    vhdx("create", "-q", "--logical-sector", "4096", "--block-size", "4M", "base.vhdx", "64M")
    assert vhdx("create", "--parent", "base.vhdx", "child.avhdx") == \
        b"Created child.avhdx: differencing VHDX, 64 MiB (67108864 bytes), a child of base.vhdx\n"
    base, child = info(vhdx, "base.vhdx"), info(vhdx, "child.avhdx")
    assert child["type"] == "differencing"
    for key in ("virtual-size", "disk-id", "logical-sector-size", "physical-sector-size"):
        assert child[key] == base[key]
    assert child["cluster-size"] == 2 * MIB


def test_the_paths_it_writes(vhdx, tmp_path):
    (tmp_path / "sub").mkdir()
    vhdx("create", "-q", "base.vhdx", "10M")
    vhdx("create", "-q", "--type", "differencing", "--map", f"D:={tmp_path}", "-b", "base.vhdx", "sub/child.avhdx")
    text = vhdx("info", "sub/child.avhdx").decode()
    assert "relative path: ..\\base.vhdx\n" in text
    assert "absolute path: \\\\?\\D:\\base.vhdx\n" in text
    os.rename(tmp_path / "sub" / "child.avhdx", tmp_path / "child.avhdx")  # only the absolute path leads there now
    os.mkdir(tmp_path / "other")
    os.rename(tmp_path / "child.avhdx", tmp_path / "other" / "child.avhdx")
    os.mkdir(tmp_path / "drive")
    os.rename(tmp_path / "base.vhdx", tmp_path / "drive" / "base.vhdx")
    assert "parent" in vhdx.fails(1, "convert", "-O", "raw", "other/child.avhdx", "-")
    assert contents(vhdx, "other/child.avhdx", "--map", f"D:={tmp_path}/drive") == bytes(SIZE)


def test_a_larger_child(vhdx):
    vhdx("create", "-q", "base.vhdx", "3M")
    write(vhdx, "base.vhdx", "b", 0, 3 * MIB)
    vhdx("create", "-q", "--parent", "base.vhdx", "child.avhdx", "5M")
    assert contents(vhdx, "child.avhdx") == b"b" * (3 * MIB) + bytes(2 * MIB)
    write(vhdx, "child.avhdx", "c", 3 * MIB - 512, MIB)
    assert contents(vhdx, "child.avhdx") == b"b" * (3 * MIB - 512) + b"c" * MIB + bytes(MIB + 512)


REFUSED = [
    (["--parent", "none.vhdx", "x.vhdx"], "none.vhdx: cannot open"),
    (["--parent", "text", "x.vhdx"], "text: "),
    (["--parent", "base.vhdx", "x.vhdx", "9M"], "below the parent's, 10485760"),
    (["--parent", "base.vhdx", "--logical-sector", "4096", "x.vhdx"], "sector size is the parent's"),
    (["--parent", "base.vhdx", "x.vhdx", "10000001"], "x.vhdx: "),
    (["--parent", "base.vhdx", "sub/x.vhdx"], "sub/x.vhdx: "),
    (["--parent", "base.vhdx", "--force", "base.vhdx"], "base.vhdx: "),
    (["--parent", "orphan.avhdx", "x.vhdx"], "orphan.avhdx: "),
]


def test_refused_and_nothing_is_left(vhdx, tmp_path):
    vhdx("create", "-q", "base.vhdx", str(SIZE))
    vhdx("create", "-q", "gone.vhdx", str(SIZE))
    vhdx("create", "-q", "--parent", "gone.vhdx", "orphan.avhdx")
    os.remove(tmp_path / "gone.vhdx")
    (tmp_path / "text").write_text("no image\n" * 100)
    before = files(tmp_path)
    for arguments, said in REFUSED:
        assert said in vhdx.fails(1, "create", *arguments)
    assert files(tmp_path) == before


def test_nothing_of_its_own_chain_is_written_over(vhdx, tmp_path):
    make_chain(vhdx)
    before = (tmp_path / "base.vhdx").read_bytes()
    for path in ("base.vhdx", "middle.avhdx", "top.avhdx"):
        assert "the target must be another file" in vhdx.fails(1, "create", "--force", "-b", "top.avhdx", path)
    # Another child may go, an image that others depend on may not.
    assert "middle.avhdx depends on it" in vhdx.fails(1, "create", "--force", "base.vhdx", "10M")
    vhdx("create", "--force", "-q", "-b", "middle.avhdx", "top.avhdx")
    assert contents(vhdx, "top.avhdx") == expected_chain()[1]
    assert (tmp_path / "base.vhdx").read_bytes() == before


def test_an_orphan_may_have_children_when_no_parents_are_to_be_opened(vhdx, tmp_path):
    make_chain(vhdx)
    os.rename(tmp_path / "base.vhdx", tmp_path / "elsewhere.vhdx")
    assert "middle.avhdx: " in vhdx.fails(1, "create", "-b", "middle.avhdx", "x.avhdx")
    vhdx("create", "-q", "--parents=none", "-b", "middle.avhdx", "x.avhdx")
    os.rename(tmp_path / "elsewhere.vhdx", tmp_path / "base.vhdx")
    assert contents(vhdx, "x.avhdx") == expected_chain()[1]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--type", "differencing", "x.vhdx", "1G"], "needs --parent"),
        (["--type", "fixed", "--parent", "b", "x.vhdx"], "is a differencing one"),
        (["-o", "subformat=dynamic", "--parent", "b", "x.vhdx"], "is a differencing one"),
        (["--parent", "b", "x.vhdx", "0"], "at least one sector"),
        (["--parent", "b"], "something is missing"),
        (["x.vhdx"], "something is missing"),
    ],
)
def test_bad_usage(vhdx, arguments, said):
    assert said in vhdx.fails(2, "create", *arguments)


def test_who_writes_to_a_parent_is_refused(vhdx):
    make_chain(vhdx)
    text = vhdx.fails(1, "bench", "-w", "-c", "1", "middle.avhdx")
    assert "top.avhdx depends on it" in text and "--orphan-children" in text
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]
