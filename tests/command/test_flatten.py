"""vhdx flatten, and convert of a chain: a new disk that stands alone."""
import os
import signal

import pytest

from chains import Halted, assert_sound, contents, contents_for_7zip, expected_chain, files, make_chain, write
from conftest import MIB


def test_a_new_image_and_the_chain_untouched(vhdx, peer, tmp_path):
    make_chain(vhdx)
    before = files(tmp_path)
    vhdx("flatten", "top.avhdx", "alone.vhdx")
    assert {name: data for name, data in files(tmp_path).items() if name != "alone.vhdx"} == before
    for name in before:
        os.remove(tmp_path / name)
    assert contents(vhdx, "alone.vhdx") == expected_chain()[0]
    assert contents_for_7zip(peer, tmp_path, "alone.vhdx") == expected_chain()[0]
    (tmp_path / "expected.raw").write_bytes(expected_chain()[0])
    assert b"identical" in peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "expected.raw", "alone.vhdx")
    assert_sound(vhdx, "alone.vhdx")


def test_it_is_the_same_disk(vhdx):
    vhdx("create", "-q", "--logical-sector", "4096", "base.vhdx", "12M")
    vhdx("create", "-q", "-b", "base.vhdx", "--block-size", "4M", "child.avhdx")
    vhdx("flatten", "child.avhdx", "alone.vhdx")
    child, alone = (vhdx.json("info", "--json", name) for name in ("child.avhdx", "alone.vhdx"))
    for key in ("virtual-size", "disk-id", "logical-sector-size", "physical-sector-size", "cluster-size"):
        assert alone[key] == child[key]
    assert alone["type"] == "dynamic" and alone["data-write-guid"] != child["data-write-guid"]

    guid = "01234567-89ab-cdef-0123-456789abcdef"
    vhdx("flatten", "--type", "fixed", "--block-size", "1M", "--disk-id", guid, "child.avhdx", "other.vhdx")
    other = vhdx.json("info", "--json", "other.vhdx")
    assert (other["type"], other["cluster-size"], other["disk-id"]) == ("fixed", MIB, guid)


def test_through_a_pipe(vhdx, tmp_path):
    make_chain(vhdx)
    with open(tmp_path / "alone.vhdx", "wb") as file:
        vhdx("flatten", "top.avhdx", "-", stdout=file)
    assert contents(vhdx, "alone.vhdx") == expected_chain()[0]


def test_zeros_of_a_child_hide_what_its_parent_holds(vhdx):
    vhdx("create", "-q", "base.vhdx", "8M")
    write(vhdx, "base.vhdx", "b", 0, 8 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx")
    write(vhdx, "child.avhdx", "\0", 2 * MIB, 2 * MIB)
    vhdx("flatten", "child.avhdx", "alone.vhdx")
    assert contents(vhdx, "alone.vhdx") == b"b" * (2 * MIB) + bytes(2 * MIB) + b"b" * (4 * MIB)


@pytest.mark.parametrize("target", [["copy.raw"], ["copy.vhdx"], ["-O", "vhdx", "--type", "fixed", "copy.img"]])
def test_convert_reads_through_the_chain(vhdx, target):
    make_chain(vhdx)
    *options, name = target
    vhdx("convert", *options, "top.avhdx", name)
    vhdx("compare", "top.avhdx", name)
    assert contents(vhdx, name) == expected_chain()[0]
    assert vhdx.run("compare", "middle.avhdx", name).returncode == 1


REFUSED = [
    (["top.avhdx", "top.avhdx"], "the source itself"),
    (["--force", "top.avhdx", "base.vhdx"], "a parent of the source"),
    (["top.avhdx", "other.vhdx"], "exists already"),
    (["--force", "other.vhdx", "middle.avhdx"], "top.avhdx depends on it"),
    (["--parents=none", "top.avhdx", "new.vhdx"], "top.avhdx: "),
    (["none.avhdx", "new.vhdx"], "none.avhdx: cannot open: No such file"),
    (["text", "new.vhdx"], "text: "),
    (["top.avhdx", "none/new.vhdx"], "none/new.vhdx: "),
]


def test_refused(vhdx, tmp_path):
    make_chain(vhdx)
    vhdx("create", "-q", "other.vhdx", "10M")
    (tmp_path / "text").write_text("no image\n" * 100)
    before = files(tmp_path)
    for arguments, said in REFUSED:
        assert said in vhdx.fails(1, "flatten", *arguments)
    assert files(tmp_path) == before


def test_over_a_file_with_force(vhdx):
    make_chain(vhdx)
    vhdx("create", "-q", "other.vhdx", "3M")
    vhdx("flatten", "--force", "top.avhdx", "other.vhdx")
    assert contents(vhdx, "other.vhdx") == expected_chain()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing(vhdx, tmp_path, number):
    vhdx("create", "-q", "base.vhdx", "32M")
    write(vhdx, "base.vhdx", "b", 0, 32 * MIB)
    vhdx("create", "-q", "-b", "base.vhdx", "child.avhdx")
    Halted(vhdx, "flatten", "child.avhdx", "alone.vhdx").end_by(number)
    assert sorted(os.listdir(tmp_path)) == ["base.vhdx", "child.avhdx"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["a.avhdx"], "something is missing"),
        (["a", "b", "c"], "one argument too many"),
        (["--type", "differencing", "a", "b"], "dynamic or fixed"),
        (["--threads", "0", "a", "b"], "not a number from 1"),
        (["-f", "raw", "a", "b"], "there is no option '-f'"),
    ],
)
def test_bad_usage(vhdx, arguments, said):
    assert said in vhdx.fails(2, "flatten", *arguments)


def test_not_from_a_pipe(vhdx):
    assert "from a pipe" in vhdx.fails(2, "flatten", "-", "new.vhdx", input=b"vhdxfile")
