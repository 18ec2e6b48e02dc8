"""vhdx convert --in-place: dynamic, fixed, without a copy."""
import os
import signal

import pytest

from chains import Halted, assert_sound, contents, expected_chain, files, leave_dirty, make_chain, write
from conftest import MIB, allocated

SIZE = 9 * MIB + 512


def make(vhdx, *options):
    """An image with a whole block, parts of blocks, zeros, and blocks that were never written."""
    vhdx("create", "-q", *options, "a.vhdx", str(SIZE))
    write(vhdx, "a.vhdx", "a", 2 * MIB, 2 * MIB)
    write(vhdx, "a.vhdx", "b", SIZE - 4096)
    write(vhdx, "a.vhdx", "c", 4 * MIB + 512)
    return contents(vhdx, "a.vhdx")


def info(vhdx, image="a.vhdx"):
    return vhdx.json("info", "--json", image)


def test_there_and_back(vhdx, tmp_path):
    before = make(vhdx)
    old = info(vhdx)
    assert b"a.vhdx is fixed: 2 blocks got space" in vhdx("convert", "--in-place", "--type", "fixed", "a.vhdx")
    new = info(vhdx)
    assert new["type"] == "fixed" and new["data-write-guid"] == old["data-write-guid"]
    assert new["file-write-guid"] != old["file-write-guid"]
    assert all(extent["data"] for extent in vhdx.json("map", "--json", "a.vhdx") if "offset" in extent)
    assert os.path.getsize(tmp_path / "a.vhdx") == 4 * MIB + 10 * MIB
    assert contents(vhdx, "a.vhdx") == before
    assert_sound(vhdx, "a.vhdx")

    assert b"is fixed already" in vhdx("convert", "--in-place", "--type", "fixed", "a.vhdx")
    assert b"is dynamic" in vhdx("convert", "--in-place", "--type", "dynamic", "a.vhdx")
    assert info(vhdx)["type"] == "dynamic" and info(vhdx)["data-write-guid"] == old["data-write-guid"]
    assert contents(vhdx, "a.vhdx") == before
    assert_sound(vhdx, "a.vhdx")
    assert b"is dynamic already" in vhdx("convert", "--in-place", "--type", "dynamic", "a.vhdx")


@pytest.mark.parametrize("how", ["off", "falloc", "full"])
def test_room_on_the_host(vhdx, tmp_path, how):
    before = make(vhdx)
    vhdx("convert", "--in-place", "-q", "--type", "fixed", "--preallocate", how, "a.vhdx")
    path = tmp_path / "a.vhdx"
    with open(tmp_path / "probe", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, MIB)
        except OSError:
            pytest.skip("no fallocate here")
    assert (allocated(path) >= os.path.getsize(path)) == (how != "off")
    assert contents(vhdx, "a.vhdx") == before


def test_what_qemu_makes_of_it(vhdx, peer):
    before = make(vhdx)
    vhdx("convert", "--in-place", "-q", "--type", "fixed", "a.vhdx")
    assert b"No errors" in peer("qemu-img", "check", "-f", "vhdx", "a.vhdx")
    peer("qemu-img", "convert", "-f", "vhdx", "-O", "raw", "a.vhdx", "a.raw")
    assert (vhdx.directory / "a.raw").read_bytes() == before


def test_children_stay_valid(vhdx):
    make_chain(vhdx)
    for kind in ("fixed", "dynamic"):
        vhdx("convert", "--in-place", "-q", "--type", kind, "base.vhdx")
        assert info(vhdx, "base.vhdx")["type"] == kind
        assert [contents(vhdx, image) for image in ("top.avhdx", "middle.avhdx", "base.vhdx")] == list(expected_chain())
    assert_sound(vhdx, "base.vhdx")


@pytest.mark.parametrize("kind", ["fixed", "dynamic"])
def test_a_child_gets_what_its_parents_show(vhdx, tmp_path, kind):
    make_chain(vhdx)
    output = vhdx("convert", "--in-place", "--type", kind, "middle.avhdx")
    assert b"needs no parent any more" in output
    os.remove(tmp_path / "base.vhdx")
    assert info(vhdx, "middle.avhdx")["type"] == kind
    assert contents(vhdx, "middle.avhdx") == expected_chain()[1]
    assert contents(vhdx, "top.avhdx") == expected_chain()[0]


def test_a_child_without_its_parent_stays_as_it_is(vhdx, tmp_path):
    make_chain(vhdx)
    os.remove(tmp_path / "base.vhdx")
    before = files(tmp_path)
    assert "parent" in vhdx.fails(1, "convert", "--in-place", "--type", "fixed", "middle.avhdx")
    assert files(tmp_path) == before


def test_dry_run(vhdx, tmp_path):
    make(vhdx)
    make_chain(vhdx)
    before = files(tmp_path)
    output = vhdx("convert", "--in-place", "--dry-run", "--type", "fixed", "a.vhdx")
    assert b"a.vhdx becomes fixed: 2 blocks get space" in output and b"Nothing was written" in output
    assert b"copies" in vhdx("convert", "--in-place", "-n", "--type", "fixed", "top.avhdx")
    assert files(tmp_path) == before


def test_a_dirty_image_is_replayed_first(vhdx, tmp_path):
    """Its writer was killed after a flush."""
    leave_dirty(vhdx, "a.vhdx")
    before = contents(vhdx, "a.vhdx")
    vhdx("convert", "--in-place", "-q", "--type", "fixed", "a.vhdx")
    assert contents(vhdx, "a.vhdx") == before and not info(vhdx)["dirty-flag"]
    assert info(vhdx)["type"] == "fixed"


def test_a_thin_fixed_image_gets_its_blocks(vhdx, peer):
    """QEMU's fixed images hold no block until it is written (V146)."""
    peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", "subformat=fixed,block_size=1M", "a.vhdx", "8M")
    before = contents(vhdx, "a.vhdx")
    vhdx("convert", "--in-place", "-q", "--type", "fixed", "a.vhdx")
    assert contents(vhdx, "a.vhdx") == before
    assert b"V146" not in vhdx.run("check", "a.vhdx").stdout


def test_a_full_host(vhdx, tmp_path):
    before = make(vhdx)

    def limit():
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (13 * MIB, 13 * MIB))

    done = vhdx.run("convert", "--in-place", "--type", "fixed", "a.vhdx", preexec_fn=limit)
    assert done.returncode == 1 and b"a.vhdx" in done.stderr
    assert info(vhdx)["type"] == "dynamic" and contents(vhdx, "a.vhdx") == before
    vhdx("convert", "--in-place", "-q", "--type", "fixed", "a.vhdx")
    assert info(vhdx)["type"] == "fixed" and contents(vhdx, "a.vhdx") == before


def test_a_signal_stops_it_at_a_good_point(vhdx):
    vhdx("create", "-q", "--block-size", "1M", "a.vhdx", "4G")
    write(vhdx, "a.vhdx", "a", 100 * MIB, MIB)
    job = Halted(vhdx, "convert", "--in-place", "--preallocate=off", "--type", "fixed", "a.vhdx")
    assert "the same command again finishes" in job.end_by(signal.SIGINT)[1]
    assert info(vhdx)["type"] == "dynamic" and not info(vhdx)["dirty-flag"]
    vhdx("convert", "--in-place", "-q", "--preallocate=off", "--type", "fixed", "a.vhdx")
    assert info(vhdx)["type"] == "fixed"
    assert_sound(vhdx, "a.vhdx")


def test_in_use(vhdx, tmp_path):
    make_chain(vhdx)
    with open(tmp_path / "out", "wb") as out:
        read, wrote = os.pipe()
        reader = vhdx.start("convert", "-O", "raw", "base.vhdx", "-", stdout=wrote, stderr=out)
        os.read(read, 4096)
        before = files(tmp_path)
        assert "vhdx: base.vhdx: " in vhdx.fails(1, "convert", "--in-place", "--type", "fixed", "base.vhdx")
        assert files(tmp_path) == before
        reader.kill()
        reader.wait()
        os.close(read), os.close(wrote)


@pytest.mark.parametrize("arguments, words", [
    (["--in-place", "a.vhdx"], "needs --type"),
    (["--in-place", "--type=differencing", "a.vhdx"], "--parent"),
    (["--in-place", "--type=some", "a.vhdx"], "not known"),
    (["--in-place", "--type=fixed"], "something is missing"),
    (["--in-place", "--type=fixed", "a.vhdx", "b.vhdx"], "too many"),
    (["--in-place", "--type=fixed", "--block-size=4M", "a.vhdx"], "only the type changes"),
    (["--in-place", "--type=fixed", "-O", "raw", "a.vhdx"], "makes no copy"),
    (["--in-place", "--type=fixed", "-f", "raw", "a.vhdx"], "only a VHDX changes in place"),
    (["--in-place", "--type=dynamic", "--preallocate=full", "a.vhdx"], "keeps the space"),
    (["--dry-run", "a.vhdx", "b.vhdx"], "--in-place"),
])
def test_usage(vhdx, tmp_path, arguments, words):
    make(vhdx)
    before = files(tmp_path)
    assert words in vhdx.fails(2, "convert", *arguments)
    assert files(tmp_path) == before


def test_no_image(vhdx, raw_disk):
    assert "No such file" in vhdx.fails(1, "convert", "--in-place", "--type=fixed", "nothing.vhdx")
    before = raw_disk.read_bytes()
    assert "disk.raw" in vhdx.fails(1, "convert", "--in-place", "--type=fixed", "disk.raw")
    assert raw_disk.read_bytes() == before
