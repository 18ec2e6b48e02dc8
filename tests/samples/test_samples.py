"""Real images by Windows, QEMU and others: facts, contents and what `check` says, against their manifest.

SAMPLES is beside the project, not in it; where it is missing these tests are skipped.
"""
import csv
import json
import pathlib
import re
import shutil
import subprocess

import pytest

import guest
from conftest import command

SAMPLES = pathlib.Path(__file__).resolve().parents[3] / "shared" / "samples"
TIB = 1 << 40
FILE_SYSTEM_LIMIT = 8 * TIB  # above, a raw file is not made: the disk is read over NBD
NO_GUID = "00000000-0000-0000-0000-000000000000"

# Findings that are true of an image, beyond V69 (QEMU does not mark its regions required) and V48 (dirty).
TRUE_FINDINGS = {
    "ntfs-differential": {"V120"},
    "MSEdge-Win10_preview_truncated": {"V5", "V64"},
    "dirty-cut-04": {"V30"},
    "iotest-dirtylog-10G-4M": {"V46"}, # memory of an old QEMU in the unused descriptor slots
}
UNREADABLE = {"truncated": "V64", "no log": "V30"}


def read_manifest():
    manifest = SAMPLES / "MANIFEST.tsv"
    if not manifest.exists():
        return []
    with open(manifest, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


class Sample:
    def __init__(self, row, path):
        self.row = row
        self.path = path
        self.name = row["path"].removesuffix(".vhdx.xz").rpartition("/")[2]

    def number(self, key):
        return int(self.row[key])

    @property
    def is_dirty(self):
        return self.row["log_state"] == "dirty"

    @property
    def has_no_log(self):
        """A LogGuid, and nothing valid in the log."""
        return self.row["log_active"].startswith("none (dirty")

    @property
    def is_truncated(self):
        return self.row["virtual_nz4k"] == "-"

    @property
    def is_differencing(self):
        return self.row["type"] == "differencing"

    @property
    def reading(self):
        """Options without which it is not read."""
        return ["--ignore-log"] if self.has_no_log else []


def samples(wanted=lambda sample: True):
    rows = [row for row in read_manifest() if wanted(Sample(row, pathlib.Path(row["path"]).with_suffix("")))]
    if not rows:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no samples in {SAMPLES}"))]
    return [pytest.param(row, id=row["path"].removesuffix(".vhdx.xz")) for row in rows]


@pytest.fixture(scope="module")
def unpack(tmp_path_factory):
    """Unpacks a sample with its holes as holes, once for all tests; they are taken away at the end."""
    folder = tmp_path_factory.mktemp("samples")

    def unpack_one(row):
        path = folder / row["path"].removesuffix(".xz").replace("/", "-")
        if not path.exists():
            write = ["dd", "conv=sparse", "bs=64K", f"of={path}", "status=none"]
            with subprocess.Popen(["xz", "-dc", str(SAMPLES / row["path"])], stdout=subprocess.PIPE) as xz:
                subprocess.run(write, stdin=xz.stdout, check=True)
            assert xz.returncode == 0 and path.stat().st_size == int(row["file_size"])
            path.chmod(0o444)
        return path

    yield unpack_one
    shutil.rmtree(folder)


@pytest.fixture
def sample(request, unpack):
    """One sample; after the test not a byte of it may have changed."""
    path = unpack(request.param)
    before = guest.pages_of_file(path)
    yield Sample(request.param, path)
    assert guest.pages_of_file(path) == before and path.stat().st_size == int(request.param["file_size"])


def pages_over_nbd(vhdx, sample, extents, tmp_path, monkeypatch):
    """The page digest of what a client of our server reads where the map says that there is data."""
    if shutil.which("nbdkit") is None or not command.PLUGIN.exists():
        pytest.skip("nbdkit or the plugin is not there")
    monkeypatch.setenv("VHDX_NBDKIT_PLUGIN", str(command.PLUGIN))
    pieces = tmp_path / "pieces.json"
    pieces.write_text(json.dumps([[extent["start"], extent["length"]] for extent in extents if extent["data"]]))
    reader = pathlib.Path(__file__).with_name("read_pages.py")
    return vhdx("serve", "-r", sample.path, "-U", "-", "--run",
                f'/usr/bin/python3 {reader} "$uri" {pieces}').decode().strip()


@pytest.mark.parametrize("sample", samples(), indirect=True)
def test_facts(vhdx, sample):
    if sample.number("file_size") < 64 << 20:
        assert guest.file_digest(sample.path) == sample.row["sha256"], "not what the manifest tells of"
    if sample.is_truncated:
        done = vhdx.run("info", "--json", sample.path)
        assert done.returncode == 1 and json.loads(done.stdout)["error"]["rule"] == UNREADABLE["truncated"]
    else:
        info = vhdx.json("info", "--json", *sample.reading, sample.path)
        assert_facts(sample, info)


def assert_facts(sample, info):
    row = sample.row
    for fact, key in (("virtual-size", "virtual_size"), ("logical-sector-size", "logical_sector"),
                      ("physical-sector-size", "physical_sector"), ("cluster-size", "block_size"),
                      ("file-size", "file_size")):
        assert info[fact] == sample.number(key), fact
    assert info["type"] == row["type"] and info["creator"] == row["creator"]
    assert info["block-count"] == -(-info["virtual-size"] // info["cluster-size"])
    assert info["dirty-flag"] is sample.is_dirty
    assert (info["log"]["guid"] != NO_GUID) is sample.is_dirty
    assert info["log"]["length"] == sample.number("log_length")
    for guid in ("disk-id", "file-write-guid", "data-write-guid"):
        assert len(info[guid]) == 36 and info[guid] != NO_GUID and info[guid] == info[guid].lower()
    assert info["header-sequence-number"] == max(int(number) for number in re.findall(r"seq=(\d+)", row["headers"]))
    places = {word.split("@")[0]: word.split("@")[1].split()[0] for word in row["regions"].split("; ")}
    for region, name in (("bat", "BAT"), ("metadata", "META")):
        offset, length = (int(number, 16) for number in places[name].split("+"))
        assert (info[region]["offset"], info[region]["length"]) == (offset, length)
    assert ("parent-locator" in info) is sample.is_differencing
    for pair in row["parent_locator"].split("; ") if sample.is_differencing else []:
        key, value = pair.split("=", 1)
        assert info["parent-locator"][key.replace("_", "-")] == value.strip("{}")


@pytest.mark.parametrize("sample", samples(lambda s: not s.is_truncated and not s.is_differencing), indirect=True)
def test_contents(vhdx, sample, tmp_path, monkeypatch):
    """Read three ways: through the map, and as a whole, before and after the log is replayed into the file."""
    extents = vhdx.json("map", "--json", *sample.reading, sample.path)
    position = 0
    for extent in extents:
        assert extent["start"] == position
        position += extent["length"]
    assert position == sample.number("virtual_size")
    pieces = [(e["start"], e["length"], e["offset"]) for e in extents if e["data"]]
    assert guest.pages_of_file(sample.path, pieces) == sample.row["virtual_nz4k"], "what the map points at"

    def contents():
        if sample.number("virtual_size") > FILE_SYSTEM_LIMIT:
            return pages_over_nbd(vhdx, sample, extents, tmp_path, monkeypatch)
        vhdx("convert", "-O", "raw", "--force", *sample.reading, sample.path, "a.raw")
        assert (tmp_path / "a.raw").stat().st_size == sample.number("virtual_size")
        return guest.pages_of_file(tmp_path / "a.raw")

    assert contents() == sample.row["virtual_nz4k"]
    if sample.is_dirty and not sample.has_no_log:
        sample.path = shutil.copy(sample.path, tmp_path / "copy.vhdx")
        sample.path.chmod(0o644)
        assert vhdx("replay", sample.path).endswith(b"the log was replayed\n")
        assert vhdx.json("info", "--json", sample.path)["dirty-flag"] is False
        assert contents() == sample.row["virtual_nz4k"], "replayed into the file"
        assert vhdx.run("check", sample.path).returncode in (0, 3), "QEMU leaves lost space behind"


@pytest.mark.parametrize("sample", samples(), indirect=True)
def test_check_finds_what_is_true(vhdx, sample):
    done = vhdx.run("check", "--json", sample.path)
    document = json.loads(done.stdout)
    rules = {finding["rule"] for finding in document["findings"]}
    known = TRUE_FINDINGS.get(sample.name, set())
    assert rules - known <= {"V48", "V69", "V107", "V145", "V146", "V147", "V148", "V149"}, document["findings"]
    assert known <= rules
    assert ("V69" in rules) == ("optional" in sample.row["regions"])
    assert ("V48" in rules) == (sample.is_dirty and not sample.has_no_log)
    assert ("V107" in rules) == (sample.number("virtual_size") < 3 << 20)
    damaged = sample.is_truncated or sample.has_no_log
    assert done.returncode == 2 if damaged else done.returncode in (0, 3), document["findings"]
    assert document["summary"]["refuse"] == (1 if damaged else 0)


@pytest.mark.parametrize("sample", samples(lambda s: s.is_truncated or s.has_no_log), indirect=True)
def test_what_cannot_be_opened_says_why(vhdx, sample, tmp_path):
    """Every verb refuses, naming the rule, the place and the remedy, and writes nothing."""
    rule = UNREADABLE["no log" if sample.has_no_log else "truncated"]
    for arguments in (["info"], ["map"], ["replay"], ["bench", "-w", "-c", "1"], ["convert", "-O", "raw"]):
        target = ["x.raw"] if arguments[0] == "convert" else []
        message = vhdx.fails(1, *arguments, sample.path, *target)
        assert rule in message and "0x" in message and "Help: vhdx" in message, message
        assert sample.is_truncated or "--ignore-log" in message
    assert not (tmp_path / "x.raw").exists()


@pytest.mark.parametrize("sample", samples(lambda s: s.is_differencing), indirect=True)
def test_a_child_alone(vhdx, sample, tmp_path):
    """Without its parent its own sectors can be looked at, and nothing of the parent's is ever made up."""
    extents = vhdx.json("map", "--json", "--parents=none", sample.path)
    assert any(extent["data"] for extent in extents)
    message = vhdx.fails(1, "convert", "-O", "raw", sample.path, "x.raw")
    assert "differencing" in message and "parent" in message
    assert not (tmp_path / "x.raw").exists()


@pytest.mark.parametrize("row", samples(lambda s: s.is_differencing))
def test_a_chain(vhdx, unpack, row, tmp_path):
    """Beside its parent, under the name that its locator has."""
    parent = next(r for r in read_manifest() if r["path"].removesuffix(".xz") == row["parent_for_reading"])
    child = shutil.copy(unpack(row), tmp_path / "child.avhdx")
    base = shutil.copy(unpack(parent), tmp_path / row["parent_for_reading"].rpartition("/")[2])
    assert guest.pages_of_file(child) == guest.pages_of_file(unpack(row))
    vhdx("convert", "-O", "raw", child, "child.raw")
    assert guest.file_digest(tmp_path / "child.raw") == row["virtual_sha256"]
    depths = {extent["depth"] for extent in vhdx.json("map", "--json", child)}
    assert depths == {0, 1}
    names = [entry["filename"] for entry in vhdx.json("info", "--chain", "--json", child)]
    assert [pathlib.Path(name).name for name in names] == [child.name, base.name]
    assert "complete" in vhdx("tree", tmp_path).decode()
    vhdx("check", "--chain", child)
