"""vhdx meta: a user's own items, the disk's identity, its physical sector size."""
import hashlib
import json
import os
import signal

import pytest

from chains import leave_dirty, write
from conftest import MIB

ITEM = "6f1d6c26-2e75-4ad0-8d3e-0a0d4fbd7d5e"
OTHER = "00000000-0000-0000-0000-00000000000b"


@pytest.fixture
def image(vhdx, tmp_path):
    vhdx("create", "-q", "--block-size", "1M", "a.vhdx", "64M")
    write(vhdx, "a.vhdx", "a", 0)
    return tmp_path / "a.vhdx"


def info(vhdx, name="a.vhdx"):
    return vhdx.json("info", "--json", name)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_item(vhdx, image, peer):
    before = info(vhdx)
    assert f"item {ITEM} set\n" in vhdx("meta", "set", "a.vhdx", ITEM, "backed up on Monday").decode()
    assert vhdx("meta", "get", "a.vhdx", ITEM) == b"backed up on Monday"
    assert vhdx("meta", "get", "a.vhdx", "{%s}" % ITEM.upper()) == b"backed up on Monday"
    after = info(vhdx)
    assert after["data-write-guid"] != before["data-write-guid"] and after["disk-id"] == before["disk-id"]
    document = vhdx.json("meta", "list", "--json", "a.vhdx")
    assert document["items"] == [{"id": ITEM, "length": 19, "is-virtual-disk": False}]
    assert document["disk-id"] == after["disk-id"] and document["physical-sector"] == 4096
    assert f"{ITEM}: 19 bytes, this file's\n" in vhdx("meta", "list", "a.vhdx").decode()

    unchanged = digest(image)
    assert b"is so already" in vhdx("meta", "set", "a.vhdx", ITEM, "backed up on Monday")
    assert digest(image) == unchanged
    assert b"would be removed" in vhdx("meta", "rm", "--dry-run", "a.vhdx", ITEM)
    assert b"would be set" in vhdx("meta", "set", "-n", "a.vhdx", ITEM, "else")
    assert digest(image) == unchanged
    assert vhdx("meta", "rm", "-q", "a.vhdx", ITEM) == b""
    error = vhdx.fails(1, "meta", "rm", "a.vhdx", ITEM)
    assert f"there is no user item {ITEM}" in error and "vhdx meta list a.vhdx" in error
    assert vhdx.json("meta", "list", "--json", "a.vhdx")["items"] == []
    vhdx("check", "a.vhdx")
    peer("qemu-img", "check", "a.vhdx")


def test_bytes_of_any_kind(vhdx, tmp_path, image):
    value = bytes(range(256)) * 17
    (tmp_path / "value").write_bytes(value)
    vhdx("meta", "set", "--file", "value", "a.vhdx", ITEM)
    assert vhdx("meta", "get", "a.vhdx", ITEM) == value
    vhdx("meta", "set", "--file", "-", "a.vhdx", OTHER, input=value[::-1])
    document = vhdx.json("meta", "get", "--json", "a.vhdx", OTHER)
    assert bytes.fromhex(document["bytes"]) == value[::-1] and document["length"] == len(value)
    vhdx("meta", "set", "a.vhdx", OTHER, "")
    assert vhdx("meta", "get", "a.vhdx", OTHER) == b""
    done = vhdx.json("meta", "set", "--json", "a.vhdx", "new", "x")
    assert done["changed"] is True and done["region-moved"] is False and done["messages"] == []
    assert vhdx("meta", "get", "a.vhdx", done["id"]) == b"x"
    assert [row["bytes"] for row in vhdx.json("dump", "--metadata", "--json", "a.vhdx")["metadata"]
            if row.get("id") == done["id"]] == ["78"]


def test_a_terminal_gets_text_only(vhdx, image):
    reader, writer = os.openpty()
    vhdx("meta", "set", "a.vhdx", ITEM, "\x1b[2J")
    done = vhdx.run("meta", "get", "a.vhdx", ITEM, stdout=writer)
    assert done.returncode == 1 and b"no text" in done.stderr
    vhdx("meta", "set", "a.vhdx", ITEM, "text")
    assert vhdx.run("meta", "get", "a.vhdx", ITEM, stdout=writer).returncode == 0
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    os.close(writer)


def test_a_region_that_is_full(vhdx, tmp_path, image, peer):
    """An item of 1 MiB needs a larger region; the disk and everything else stays."""
    vhdx("convert", "-O", "raw", "a.vhdx", "before.raw")
    before = info(vhdx)
    value = os.urandom(MIB)
    vhdx("meta", "set", "a.vhdx", OTHER, "small")
    done = json.loads(vhdx("meta", "set", "--json", "--file=-", "a.vhdx", ITEM, input=value))
    assert done["region-moved"] is True
    after = info(vhdx)
    assert after["metadata"]["offset"] != before["metadata"]["offset"] and after["metadata"]["length"] == 2 * MIB
    assert {key: after[key] for key in ("virtual-size", "disk-id", "cluster-size")} == {
        key: before[key] for key in ("virtual-size", "disk-id", "cluster-size")}
    assert vhdx("meta", "get", "a.vhdx", ITEM) == value and vhdx("meta", "get", "a.vhdx", OTHER) == b"small"
    vhdx("compare", "before.raw", "a.vhdx")
    assert vhdx.run("check", "a.vhdx").returncode in (0, 3)  # 3: where the old region was
    peer("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "before.raw", "a.vhdx")
    assert "at most 1 MiB" in vhdx.fails(1, "meta", "set", "--file=-", "a.vhdx", ITEM, input=value + b"x")
    assert vhdx("meta", "get", "a.vhdx", ITEM) == value


def test_another_identity(vhdx, image):
    before = info(vhdx)
    assert vhdx("meta", "get", "a.vhdx", "disk-id").decode().strip() == before["disk-id"]
    done = vhdx.json("meta", "set", "--json", "a.vhdx", "disk-id", "new")
    assert done["disk-id"] == info(vhdx)["disk-id"] != before["disk-id"]
    vhdx("meta", "set", "a.vhdx", "disk-id", ITEM)
    assert vhdx("meta", "get", "a.vhdx", "disk-id").decode() == ITEM + "\n"
    assert vhdx.json("meta", "get", "--json", "a.vhdx", "disk-id")["disk-id"] == ITEM
    vhdx("meta", "set", "a.vhdx", "physical-sector", "512")
    assert vhdx("meta", "get", "a.vhdx", "physical-sector") == b"512\n" and info(vhdx)["physical-sector-size"] == 512
    assert "512 or 4096" in vhdx.fails(1, "meta", "set", "a.vhdx", "physical-sector", "1024")
    vhdx("create", "-q", "--logical-sector", "4096", "b.vhdx", "64M")
    assert "smaller than the disk's logical ones" in vhdx.fails(1, "meta", "set", "b.vhdx", "physical-sector", "512")
    vhdx("check", "a.vhdx")


def test_children(vhdx, image):
    """A file others depend on is refused; what belongs to the disk travels, what belongs to the file does not."""
    vhdx("meta", "set", "--virtual-disk", "a.vhdx", ITEM, "disk")
    vhdx("meta", "set", "a.vhdx", OTHER, "file")
    vhdx("create", "-q", "--parent", "a.vhdx", "c.avhdx")
    assert [item["id"] for item in vhdx.json("meta", "list", "--json", "c.avhdx")["items"]] == [ITEM]
    unchanged = digest(image)
    for arguments in (["set", "a.vhdx", OTHER, "x"], ["rm", "a.vhdx", OTHER], ["set", "a.vhdx", "disk-id", "new"]):
        done = vhdx.run("meta", "--json", *arguments)
        assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "HAS_CHILDREN"
        assert b"c.avhdx depends on it" in done.stderr and b"--orphan-children" in done.stderr
    assert digest(image) == unchanged
    vhdx("meta", "set", "c.avhdx", ITEM, "changed")  # stays the disk's
    vhdx("merge", "c.avhdx")
    assert vhdx("meta", "get", "a.vhdx", ITEM) == b"changed" and vhdx("meta", "get", "a.vhdx", OTHER) == b"file"
    vhdx("create", "-q", "--parent", "a.vhdx", "d.avhdx")
    vhdx("meta", "set", "--orphan-children", "a.vhdx", OTHER, "x")
    assert vhdx.run("info", "--chain", "d.avhdx").returncode == 1


def test_a_dirty_image(vhdx, tmp_path):
    leave_dirty(vhdx, "dirty.vhdx")
    done = vhdx.json("meta", "set", "--json", "dirty.vhdx", ITEM, "x")
    assert done["was-dirty"] is True and vhdx("meta", "get", "dirty.vhdx", ITEM) == b"x"
    assert info(vhdx, "dirty.vhdx")["dirty-flag"] is False


def test_in_use(vhdx, image):
    writer = vhdx.start("bench", "-q", "-w", "--flush-interval", "1", "-c", "100000000", "-d", "1", "a.vhdx")
    try:
        while not vhdx.json("info", "--json", "-U", "a.vhdx")["dirty-flag"]:
            assert writer.poll() is None
        assert "close the other program" in vhdx.fails(1, "meta", "set", "a.vhdx", ITEM, "y")
        vhdx("meta", "list", "-U", "a.vhdx")
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()


def test_damaged_and_strange_files(vhdx, tmp_path, image):
    (tmp_path / "text").write_bytes(b"not an image" * 100000)
    for arguments in (["list", "text"], ["get", "text", ITEM], ["set", "text", ITEM, "x"], ["rm", "text", ITEM]):
        done = vhdx.run("meta", "--json", *arguments)
        assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "NOT_VHDX"
    assert "no such file" in vhdx.fails(1, "meta", "set", "none.vhdx", ITEM, "x").lower()
    assert "no-such-value" in vhdx.fails(1, "meta", "set", "--file=no-such-value", "a.vhdx", ITEM)
    name = "esc\x1b[2J.vhdx"
    os.link(image, tmp_path / name)
    shown = vhdx("meta", "set", name, ITEM, "x") + vhdx("meta", "set", "--json", name, ITEM, "y")
    assert b"\x1b" not in shown

    # A user item that reaches out of its region: what is there is told, nothing is written.
    with open(image, "r+b") as file:
        file.seek(info(vhdx)["metadata"]["offset"] + 32 * 6 + 16)
        file.write((0xffff0000).to_bytes(4, "little"))
    assert "V82" in vhdx.fails(1, "meta", "get", "a.vhdx", ITEM)
    assert "opened read-only" in vhdx.fails(1, "meta", "set", "a.vhdx", OTHER, "x")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["frob", "a.vhdx"], "there is no 'frob'"),
        (["list"], "something is missing"),
        (["get", "a.vhdx"], "get needs an item"),
        (["set", "a.vhdx", ITEM], "set needs a value"),
        (["set", "a.vhdx", "disk-id"], "set needs a value"),
        (["set", "--file=f", "a.vhdx", ITEM, "x"], "not both"),
        (["set", "a.vhdx", "disk-id", "zzz"], "disk-id takes a GUID"),
        (["set", "a.vhdx", "physical-sector", "many"], "not a number"),
        (["set", "-U", "a.vhdx", ITEM, "x"], "locked"),
        (["get", "a.vhdx", "00000000-0000-0000-0000-000000000000"], "is no item"),
        (["get", "a.vhdx", "new"], "is no item"),
        (["rm", "a.vhdx", "disk-id"], "not removed"),
        (["rm", "a.vhdx", ITEM, "x"], "one argument too many"),
    ],
)
def test_usage(vhdx, image, arguments, said):
    unchanged = digest(image)
    assert said in vhdx.fails(2, "meta", *arguments)
    assert digest(image) == unchanged
