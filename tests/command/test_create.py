"""vhdx create."""
import os

import pytest

GIB = 1024 ** 3


@pytest.mark.parametrize(
    "text, size",
    [("3145728", 3 << 20), ("512K", 512 << 10), ("7M", 7 << 20), ("2g", 2 << 30), ("1T", 1 << 40),
     ("64T", 64 << 40)],
)
def test_sizes(vhdx, text, size):
    assert b"Created a.vhdx: dynamic VHDX" in vhdx("create", "a.vhdx", text)
    assert vhdx.json("info", "--json", "a.vhdx")["virtual-size"] == size


@pytest.mark.parametrize(
    "text", ["", "x", "1X", "1MiB", "-1", "1.5G", "0x10", "99999999999999999999", "17179869184T", " 1"])
def test_sizes_that_are_none(vhdx, text):
    assert "is not a size" in vhdx.fails(2, "create", "--", "a.vhdx", text)


@pytest.mark.parametrize(
    "arguments",
    [["0"], ["1000"], ["65T"], ["--block-size", "3M", "1G"], ["--block-size", "512M", "1G"],
     ["--log-size", "1000", "1G"], ["--logical-sector", "4096", "1048064"]],
)
def test_shapes_the_format_forbids_leave_no_file(vhdx, tmp_path, arguments):
    assert "vhdx: a.vhdx: " in vhdx.fails(1, "create", "a.vhdx", *arguments)
    assert os.listdir(tmp_path) == []


def test_shape(vhdx):
    guid = "01234567-89ab-cdef-0123-456789abcdef"
    vhdx("create", "--type", "fixed", "--block-size", "4M", "--logical-sector", "4096", "--physical-sector=4096",
         "--log-size", "2M", "--disk-id", "{" + guid.upper() + "}", "a.vhdx", "64M")
    info = vhdx.json("info", "--json", "a.vhdx")
    assert (info["type"], info["cluster-size"], info["logical-sector-size"], info["physical-sector-size"]) \
        == ("fixed", 4 << 20, 4096, 4096)
    assert info["log"]["length"] == 2 << 20 and info["disk-id"] == guid
    assert os.path.getsize(vhdx.directory / "a.vhdx") > 64 << 20


def test_options_as_qemu_img_takes_them(vhdx):
    vhdx("create", "-f", "vhdx", "-o", "block_size=8M,log_size=3M,subformat=fixed", "-q", "a.vhdx", "32M")
    info = vhdx.json("info", "--json", "a.vhdx")
    assert (info["type"], info["cluster-size"], info["log"]["length"]) == ("fixed", 8 << 20, 3 << 20)
    vhdx.fails(2, "create", "-o", "cluster_size=1M", "b.vhdx", "32M")
    vhdx.fails(2, "create", "-f", "raw", "b.vhdx", "32M")


def test_nothing_is_written_over_without_force(vhdx, tmp_path):
    (tmp_path / "a.vhdx").write_bytes(b"precious")
    text = vhdx.fails(1, "create", "a.vhdx", "1G")
    assert "exists already" in text and "--force" in text
    assert (tmp_path / "a.vhdx").read_bytes() == b"precious"
    vhdx("create", "--force", "a.vhdx", "1G")
    assert vhdx.json("info", "--json", "a.vhdx")["virtual-size"] == GIB
    assert os.listdir(tmp_path) == ["a.vhdx"]


def test_a_link_stays_and_its_file_is_replaced(vhdx, tmp_path):
    (tmp_path / "real.vhdx").write_bytes(b"old")
    (tmp_path / "link.vhdx").symlink_to("real.vhdx")
    vhdx("create", "--force", "link.vhdx", "1G")
    assert (tmp_path / "link.vhdx").is_symlink()
    assert (tmp_path / "real.vhdx").read_bytes()[:8] == b"vhdxfile"


@pytest.mark.parametrize("what", ["directory", "fifo", "dangling link"])
def test_what_is_no_file_is_refused(vhdx, tmp_path, what):
    path = tmp_path / "a.vhdx"
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    vhdx.fails(1, "create", "--force", "a.vhdx", "1G")
    assert os.listdir(tmp_path) == ["a.vhdx"]


def test_no_such_directory(vhdx):
    assert "No such file" in vhdx.fails(1, "create", "no/such/a.vhdx", "1G")


def test_names_cannot_write_to_the_terminal(vhdx):
    name = "a\x1b]0;evil\x07\n\u202eb.vhdx"
    assert b"a\\x1b]0;evil\\x07\\x0a\\u{202e}b.vhdx" in vhdx("create", name, "1G")
    text = vhdx.fails(1, "create", name, "1G")
    assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("arguments", [[], ["--type", "fixed"], ["--block-size", "256M"]])
def test_peers_agree(vhdx, peer, arguments):
    vhdx("create", *arguments, "a.vhdx", "100M")
    assert b"No errors" in peer("qemu-img", "check", "a.vhdx")
    assert b"virtual size: 100 MiB" in peer("qemu-img", "info", "a.vhdx")
    vhdx("check", "a.vhdx")
