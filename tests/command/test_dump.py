"""vhdx dump: what lies in a file, sound or damaged."""
import json
import os
import random
import resource
import shutil

import pytest

from chains import leave_dirty, write
from conftest import MIB

SECTIONS = ["headers", "regions", "metadata", "locator", "log", "bat", "bitmap", "free"]
HEADER_1, HEADER_2, TABLE_1, TABLE_2 = 0x10000, 0x20000, 0x30000, 0x40000


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def dump(vhdx, *arguments, status=0):
    """The document, and that it was shown with this exit status."""
    done = vhdx.run("dump", "--json", *arguments)
    assert done.returncode == status, (arguments, done.returncode, done.stdout[-300:], done.stderr)
    document = json.loads(done.stdout)
    assert document["schema"] == 1 and document["complete"] is (status == 0)
    return document


def rows(document, section, kind):
    return [row for row in document[section] if row["kind"] == kind]


@pytest.fixture
def image(vhdx, tmp_path, raw_disk):
    vhdx("convert", "--block-size", "1M", raw_disk, "a.vhdx")
    return tmp_path / "a.vhdx"


@pytest.fixture
def child(vhdx, tmp_path):
    vhdx("create", "-q", "--block-size", "1M", "base.vhdx", "64M")
    vhdx("create", "-q", "--block-size", "1M", "--parent", "base.vhdx", "c.avhdx")
    write(vhdx, "c.avhdx", "c", 4096)
    write(vhdx, "c.avhdx", "c", 5 * MIB + 512, 1024)
    return tmp_path / "c.avhdx"


def test_a_sound_image(vhdx, image):
    before = image.read_bytes()
    info = vhdx.json("info", "--json", "a.vhdx")
    document = dump(vhdx, "--all", "a.vhdx")
    assert [key for key in document if key in SECTIONS] == SECTIONS
    assert document["file-size"] == len(before) and document["dirty-flag"] is False and document["replayed"] is False
    assert not [row for key in SECTIONS for row in document[key] if row["kind"] in ("finding", "missing")]
    current = [row for row in rows(document, "headers", "header") if row["current"]]
    assert len(current) == 1 and current[0]["valid"] is True and "problem" not in current[0]
    assert current[0]["data-write-guid"] == info["data-write-guid"]
    assert current[0]["sequence-number"] == info["header-sequence-number"]
    assert rows(document, "headers", "identifier")[0]["creator"] == info["creator"]
    regions = rows(document, "regions", "region")
    assert [(row["copy"], row["name"]) for row in regions] == [(1, "BAT"), (1, "metadata"), (2, "BAT"), (2, "metadata")]
    assert regions[0]["offset"] == info["bat"]["offset"] and regions[3]["length"] == info["metadata"]["length"]
    items = {row["name"]: row for row in rows(document, "metadata", "item")}
    assert items["Virtual Disk ID"]["value"] == info["disk-id"]
    assert items["Virtual Disk Size"]["value"] == info["virtual-size"]
    assert items["File Parameters"]["block-size"] == MIB and items["File Parameters"]["has-parent"] is False
    for row in items.values():
        assert bytes.fromhex(row["bytes"]) == before[row["offset"]:row["offset"] + row["length"]]
    assert image.read_bytes() == before


def test_text_and_json_say_the_same(vhdx, image):
    text = vhdx("dump", "a.vhdx").decode()
    document = dump(vhdx, "a.vhdx")
    assert "bitmap" not in document and "free" not in document
    for row in rows(document, "headers", "header"):
        assert f"data-write-guid: {row['data-write-guid']}\n" in text
        assert f"header {row['copy']} at 0x{row['offset']:x}: valid" in text
    runs = rows(document, "bat", "blocks")
    assert len(runs) == text.count("\n  block")
    for row in runs:
        if row["count"] > 1 and "offset" in row:
            assert f"blocks {row['first']}..{row['first'] + row['count'] - 1}: {row['state-name']}" \
                   f" at 0x{row['offset']:x}, consecutive\n" in text


def test_the_block_table_is_what_map_tells(vhdx, image):
    runs = rows(dump(vhdx, "--bat", "a.vhdx"), "bat", "blocks")
    assert [run["first"] for run in runs] == [sum(r["count"] for r in runs[:i]) for i in range(len(runs))]
    ours = {(run["first"] + i) * MIB: run["offset"] + i * MIB
            for run in runs if "offset" in run for i in range(run["count"])}
    theirs = {extent["start"] + i: extent["offset"] + i
              for extent in vhdx.json("map", "--json", "a.vhdx") if extent["data"]
              for i in range(0, extent["length"], MIB)}
    assert ours == theirs and len(runs) < 10
    some = rows(dump(vhdx, "--bat=8-9", "a.vhdx"), "bat", "blocks")
    assert [(run["first"], run["count"]) for run in some] == [(8, 2)]
    assert sum(run["count"] for run in rows(dump(vhdx, "--bat=20-", "a.vhdx"), "bat", "blocks")) == 5
    assert rows(dump(vhdx, "--bat=3", "a.vhdx"), "bat", "blocks")[0]["count"] == 1
    assert rows(dump(vhdx, "--bat=500-600", "a.vhdx"), "bat", "blocks") == []


def test_free_space_is_what_is_left(vhdx, image):
    assert dump(vhdx, "--free", "a.vhdx")["free"] == []
    runs = rows(dump(vhdx, "--bat=8", "a.vhdx"), "bat", "blocks")
    bat = rows(dump(vhdx, "--regions", "a.vhdx"), "regions", "region")[0]["offset"]
    patch(image, bat + 8 * 8, bytes(8))
    assert dump(vhdx, "--free", "a.vhdx")["free"] == [{"kind": "free", "offset": runs[0]["offset"], "length": MIB}]
    assert f"0x{runs[0]['offset']:x}, length 0x100000 (1 MiB)" in vhdx("dump", "--free", "a.vhdx").decode()


def test_a_dirty_log(vhdx, tmp_path):
    leave_dirty(vhdx, "a.vhdx")
    before = (tmp_path / "a.vhdx").read_bytes()
    document = dump(vhdx, "--log", "--bat", "a.vhdx")
    log = rows(document, "log", "log")[0]
    entries = rows(document, "log", "entry")
    live = [row for row in entries if row["state"] == "live"]
    assert document["dirty-flag"] is True and log["active"] is True
    assert [row["sequence-number"] for row in sorted(live, key=lambda row: row["sequence-number"])] == list(
        range(log["first-sequence-number"], log["last-sequence-number"] + 1))
    assert {row["log-guid"] for row in live} == {log["guid"]}
    told = vhdx.json("info", "--json", "a.vhdx")["log"]  # of the generation that is live, info tells the same
    assert told["entry-count"] == len(live) and told["guid"] == log["guid"]
    assert [told[key] for key in ("first-sequence-number", "last-sequence-number")] == [
        log[key] for key in ("first-sequence-number", "last-sequence-number")]
    text = vhdx("info", "a.vhdx").decode()
    assert f"log guid: {log['guid']}\n" in text and f"to {log['last-sequence-number']}\n" in text
    assert "entry-count" not in vhdx.json("info", "--json", "--ignore-log", "a.vhdx")["log"]
    pages = rows(document, "log", "descriptor")
    assert any(row["place"].startswith("BAT, entries 0..") for row in pages)
    for row in pages:  # a page's bytes lie where it says, between signature and sequence number
        if not row["zero"]:
            assert before[row["data-offset"]:row["data-offset"] + 4] == b"data"

    # What is seen through the log is what lies in the file once it is replayed.
    shown = dump(vhdx, "--replayed", "--regions", "--metadata", "--bat", "--free", "a.vhdx")
    assert shown["replayed"] is True and (tmp_path / "a.vhdx").read_bytes() == before
    shutil.copy(tmp_path / "a.vhdx", tmp_path / "b.vhdx")
    vhdx("replay", "b.vhdx")
    lying = dump(vhdx, "--regions", "--metadata", "--bat", "--free", "b.vhdx")
    for section in ("regions", "metadata", "bat", "free"):
        assert shown[section] == lying[section], section
    assert {row["state"] for row in rows(dump(vhdx, "--log", "b.vhdx"), "log", "entry")} == {"stale"}
    assert b"not closed" in vhdx("dump", "--bat", "a.vhdx") and b"seen through the log" in vhdx(
        "dump", "--replayed", "--bat", "a.vhdx")

    # Torn, the newest entry is no longer one; without any the log cannot be replayed, and says so.
    newest = max(live, key=lambda row: row["sequence-number"])
    patch(tmp_path / "a.vhdx", newest["offset"] + 200, b"torn")
    broken = [row for row in rows(dump(vhdx, "--log", "a.vhdx"), "log", "entry") if row["state"] == "broken"]
    assert [row["offset"] for row in broken] == [newest["offset"]] and broken[0]["problem"]
    patch(tmp_path / "a.vhdx", log["offset"], bytes(log["length"]))
    document = dump(vhdx, "--replayed", "--bat", "a.vhdx", status=1)
    assert document["replay-problem"]["rule"] == "V30" and document["bat"]


def test_a_child(vhdx, child):
    document = dump(vhdx, "--all", "c.avhdx")
    pairs = {row["key"]: row["value"] for row in rows(document, "locator", "pair")}
    assert pairs["parent_linkage"] == "{%s}" % vhdx.json("info", "--json", "base.vhdx")["data-write-guid"]
    assert pairs["relative_path"] == ".\\base.vhdx"
    assert [(row["first"], row["state-name"]) for row in rows(document, "bat", "bitmaps")] == [(0, "PRESENT")]
    assert [(row["block"], row["present-count"], row["state-name"]) for row in rows(document, "bitmap", "slice")] == [
        (0, 8, "PARTIALLY_PRESENT"), (5, 2, "PARTIALLY_PRESENT")]
    assert [(row["block"], row["first"], row["count"]) for row in rows(document, "bitmap", "sectors")] == [
        (0, 8, 8), (5, 1, 2)]
    assert any(row["place"] == "sector bitmap of chunk 0" for row in rows(document, "log", "descriptor"))
    assert dump(vhdx, "--bitmap=0", "c.avhdx")["bitmap"] == document["bitmap"]
    assert dump(vhdx, "--bitmap=1-", "c.avhdx")["bitmap"] == []
    text = vhdx("dump", "--bitmap", "c.avhdx").decode()
    assert "block 5, PARTIALLY_PRESENT: 2 of 2048 sectors" in text and "    sectors 1..2\n" in text


# What is broken, by which bytes; the exit status; and what must be in the document: section, kind, keys.
DAMAGES = {
    "header 1": (HEADER_1 + 9, b"\xff", 0, ("headers", "header", {"copy": 1, "valid": False, "current": False})),
    "identifier": (0, b"xxxx", 0, ("headers", "identifier", {"valid": False})),
    "region table 2": (TABLE_2 + 40, b"\xff", 0, ("regions", "region-table", {"copy": 2, "valid": False, "used": False})),
    "metadata signature": (None, b"x", 1, ("metadata", "missing", {"code": "BAD_METADATA"})),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_one_thing_is_damaged(vhdx, image, name):
    offset, data, status, (section, kind, keys) = DAMAGES[name]
    patch(image, vhdx.json("info", "--json", "a.vhdx")["metadata"]["offset"] if offset is None else offset, data)
    document = dump(vhdx, "--all", "a.vhdx", status=status)
    assert any(keys.items() <= row.items() for row in rows(document, section, kind)), document[section]
    done = vhdx.run("dump", "--all", "a.vhdx")
    assert done.returncode == status and (status == 0) == (b"not shown: " not in done.stdout)
    assert (status == 0) == (done.stderr == b"")


def test_headers_and_tables_are_gone(vhdx, image):
    """Each copy alone is shown; without headers the rest is, without valid tables what one of them says is followed."""
    for at in (HEADER_1, HEADER_2):
        patch(image, at + 100, b"\xff")
    document = dump(vhdx, "--headers", "--log", "--bat", "--free", "a.vhdx", status=1)
    headers = rows(document, "headers", "header")
    assert [row["valid"] for row in headers] == [False, False] and headers[0]["log-length"] == MIB
    assert {"BAD_CHECKSUM"} == {row["problem"]["code"] for row in headers}
    assert rows(document, "log", "missing") and rows(document, "free", "missing")
    assert sum(row["count"] for row in rows(document, "bat", "blocks")) == 25
    for at in (TABLE_1, TABLE_2):
        patch(image, at + 65535, b"\xff")
    document = dump(vhdx, "--regions", "--bat", "a.vhdx")
    assert [row["used"] for row in rows(document, "regions", "region-table")] == [True, False]
    assert any(row["rule"] == "V55" for row in rows(document, "regions", "finding"))
    assert sum(row["count"] for row in rows(document, "bat", "blocks")) == 25
    for at in (TABLE_1, TABLE_2):
        patch(image, at, b"gone")
    document = dump(vhdx, "--all", "a.vhdx", status=1)
    assert all(rows(document, section, "missing") for section in ("regions", "metadata", "bat", "bitmap", "free"))
    patch(image, 0, b"gone")
    assert "no identifier, no valid header" in vhdx.fails(1, "dump", "a.vhdx")


def test_entries_that_break_rules(vhdx, image):
    bat = vhdx.json("info", "--json", "a.vhdx")["bat"]["offset"]
    patch(image, bat + 8 * 2, (6 | 0xfffff << 20).to_bytes(8, "little"))
    patch(image, bat + 8 * 4, (5).to_bytes(8, "little"))
    patch(image, bat + 8 * 60000, (7).to_bytes(8, "little"))
    document = dump(vhdx, "--bat", "a.vhdx")
    bad = {row["first"]: row["problem"]["rule"] for row in document["bat"] if "problem" in row}
    assert bad == {2: "V134", 4: "V131", 60000: "V145"}
    assert rows(document, "bat", "padding")[0]["entry-offset"] == bat + 8 * 60000
    assert sum(row["count"] for row in rows(document, "bat", "blocks")) == 25
    text = vhdx("dump", "--bat", "a.vhdx").decode()
    assert "block 4: state 5, raw 0x0000000000000005\n" in text and "V134" in text
    assert rows(dump(vhdx, "--free", "a.vhdx", status=1), "free", "missing")


def test_the_shape_is_not_known(vhdx, image):
    info = vhdx.json("info", "--json", "a.vhdx")
    whole = rows(dump(vhdx, "--bat", "a.vhdx"), "bat", "blocks")
    patch(image, info["metadata"]["offset"] + 0x10000, b"\1")  # of the block size
    runs = rows(dump(vhdx, "--bat", "a.vhdx", status=1), "bat", "entries")
    assert [(run["first"], run.get("offset")) for run in runs[:len(whole) - 1]] == [
        (run["first"], run.get("offset")) for run in whole[:-1]]
    assert sum(run["count"] for run in runs) == info["bat"]["length"] // 8


def test_strangers_texts_reach_no_terminal(vhdx, child):
    data = child.read_bytes()
    evil = "\x1b[2J\u202e\u009b".encode("utf-16-le")
    patch(child, 8, evil)
    at = data.index(".\\base.vhdx".encode("utf-16-le"))
    patch(child, at, evil)
    for options in ([], ["--json"]):
        shown = vhdx("dump", *options, "c.avhdx")
        assert b"\x1b" not in shown and b"\xc2\x9b" not in shown and "\u202e".encode() not in shown
    document = dump(vhdx, "c.avhdx")
    assert rows(document, "headers", "identifier")[0]["creator"].startswith("\x1b[2J\u202e\u009b")
    assert any(row["value"].startswith("\x1b[2J") for row in rows(document, "locator", "pair"))


def test_a_stale_slot_is_told(vhdx, image):
    at = vhdx.json("info", "--json", "a.vhdx")["metadata"]["offset"]
    patch(image, at + 32 * 6, bytes(range(32)))
    stale = rows(dump(vhdx, "--metadata", "a.vhdx"), "metadata", "stale-slot")
    assert [(row["index"], row["id"]) for row in stale] == [(5, "03020100-0504-0706-0809-0a0b0c0d0e0f")]
    assert "slot past the last entry 5" in vhdx("dump", "--metadata", "a.vhdx").decode()


def test_a_file_cut_anywhere(vhdx, tmp_path, image):
    data = image.read_bytes()
    draw = random.Random(5)
    for length in [0, 1, 8, 65536, 65600, 0x30001, 0x50000, MIB] + [draw.randrange(MIB, 5 * MIB) for _ in range(6)]:
        (tmp_path / "cut.vhdx").write_bytes(data[:length])
        done = vhdx.run("dump", "--all", "--json", "cut.vhdx")
        assert done.returncode in (0, 1), (length, done.stderr)
        document = json.loads(done.stdout)
        assert done.returncode == 1 or length > 4 * MIB
        assert length < 8 or "headers" in document, length


def test_bytes_of_any_kind(vhdx, tmp_path, child):
    """Damage all over the structures: always a document, never a crash."""
    data = bytearray(child.read_bytes())
    draw = random.Random(6)
    for _ in range(6):  # inspect_test does hundreds
        mutated = bytearray(data)
        for _ in range(draw.randrange(1, 6)):
            region = draw.choice((HEADER_1, HEADER_2, TABLE_1, TABLE_2, MIB, 2 * MIB, 2 * MIB + 65536, 3 * MIB))
            at = region + draw.randrange(0, draw.choice((32, 512, 4096)))
            mutated[at:at + 2] = draw.choice((b"\xff\xff", b"\0\0", draw.randbytes(2)))
        (tmp_path / "m.vhdx").write_bytes(mutated)
        for view in ([], ["--replayed"]) if draw.random() < 0.3 else ([],):
            done = vhdx.run("dump", "--all", "--json", *view, "m.vhdx")
            assert done.returncode in (0, 1), done.stderr
            json.loads(done.stdout)


def test_64_tib_in_little_memory(vhdx, tmp_path):
    vhdx("create", "-q", "--block-size", "1M", "big.vhdx", "64T")
    bat = vhdx.json("info", "--json", "big.vhdx")["bat"]
    end = os.path.getsize(tmp_path / "big.vhdx")
    patch(tmp_path / "big.vhdx", bat["offset"] + 8 * 8 * 1000 * 1000, (6 | end).to_bytes(8, "little"))
    os.truncate(tmp_path / "big.vhdx", 8 << 40)  # two maps of a bit for each MiB: 2 MiB
    limit = 64 * MIB
    done = vhdx.run("dump", "--all", "--json", "big.vhdx",
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [run["count"] for run in rows(document, "bat", "blocks")][1] == 1
    assert sum(run["count"] for run in rows(document, "bat", "blocks")) == 64 * MIB
    assert rows(document, "free", "free")[-1]["length"] == (8 << 40) - end - MIB


def test_usage(vhdx, tmp_path, image):
    assert "no option '--hex'" in vhdx.fails(2, "dump", "--hex", "a.vhdx")
    assert "not a number" in vhdx.fails(2, "dump", "--bat=x", "a.vhdx")
    assert "not a number" in vhdx.fails(2, "dump", "--bat=5-3", "a.vhdx")
    assert "contradict" in vhdx.fails(2, "dump", "--replayed", "--ignore-log", "a.vhdx")
    assert "missing" in vhdx.fails(2, "dump")
    assert "one argument too many" in vhdx.fails(2, "dump", "a.vhdx", "a.vhdx")
    assert json.loads(vhdx.run("dump", "--json", "none.vhdx").stdout)["error"]["code"] == "NOT_FOUND"
    (tmp_path / "text").write_bytes(b"not an image" * 100000)
    done = vhdx.run("dump", "--json", "text")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "NOT_VHDX"
