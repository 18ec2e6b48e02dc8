"""vhdx check --chain: each rule between an image and its parent (V122 to V129), broken alone."""
import json
import shutil

import pytest

from conftest import MIB
from damage import Image


@pytest.fixture
def chain(vhdx, tmp_path):
    vhdx("create", "base.vhdx", "64M")
    vhdx("create", "--parent", "base.vhdx", "a.avhdx")
    vhdx("create", "--parent", "a.avhdx", "b.avhdx")
    return {name: Image(vhdx, tmp_path / name) for name in ("base.vhdx", "a.avhdx", "b.avhdx")}


def found(vhdx, status, top="b.avhdx"):
    """The rules each row breaks, and what is said of them."""
    done = vhdx.run("check", "--chain", "--json", top)
    assert done.returncode == status, done.stdout
    return {row["filename"].rsplit("/", 1)[-1]: {f["rule"]: f for f in row["findings"]} for row in json.loads(done.stdout)}


def test_a_sound_chain(vhdx, chain):
    assert found(vhdx, 0) == {"b.avhdx": {}, "a.avhdx": {}, "base.vhdx": {}}


def test_another_parent(vhdx, chain):
    vhdx("bench", "-w", "-c", "1", "--orphan-children", "base.vhdx")
    rows = found(vhdx, 2)
    assert rows["a.avhdx"]["V122"]["severity"] == "refuse" and rows["a.avhdx"]["V122"]["remedy"] == "rebase"
    assert list(rows) == ["b.avhdx", "a.avhdx"] and not rows["b.avhdx"]
    human = vhdx.run("check", "--chain", "b.avhdx").stdout.decode()
    assert "written since" in human and "Help: vhdx rebase --relink PARENT" in human


def test_other_sectors(vhdx, chain):
    chain["base.vhdx"].write(chain["base.vhdx"].metadata + 0x10010, (4096).to_bytes(4, "little"))
    rows = found(vhdx, 2)
    assert set(rows["a.avhdx"]) == {"V123"} and rows["base.vhdx"] == {}
    assert "have 4096 bytes, expected 512" in rows["a.avhdx"]["V123"]["message"]


def test_another_size(vhdx, chain):
    chain["base.vhdx"].write(chain["base.vhdx"].metadata + 0x10008, (60 * MIB).to_bytes(8, "little"))
    rows = found(vhdx, 0)
    assert set(rows["a.avhdx"]) == {"V124"} and rows["a.avhdx"]["V124"]["severity"] == "warn"


def test_a_circle(vhdx, chain):
    base, b = chain["base.vhdx"], chain["b.avhdx"]
    guid = base.read(0x10000 + 32, 16)
    shutil.copy(b.path, base.path)
    base.change_headers(32, guid)
    rows = found(vhdx, 2)
    assert set(rows["base.vhdx"]) == {"V125"} and rows["a.avhdx"] == rows["b.avhdx"] == {}


def test_another_disk_id(vhdx, chain):
    chain["base.vhdx"].write(chain["base.vhdx"].metadata + 0x10018, b"\1")
    assert set(found(vhdx, 0)["a.avhdx"]) == {"V126"}


def test_a_parent_that_cannot_be_opened(vhdx, chain):
    for at in (0x30000, 0x40000):
        chain["base.vhdx"].write(at, b"x")
    rows = found(vhdx, 2)
    assert set(rows["a.avhdx"]) == {"V127"} and "V55" in rows["base.vhdx"]


def test_two_parents_to_choose_from(vhdx, chain, tmp_path):
    """The relative path leads to the copy beside the child, the absolute one to where it was made."""
    (tmp_path / "moved").mkdir()
    for name in chain:
        shutil.copy(tmp_path / name, tmp_path / "moved" / name)
    rows = found(vhdx, 0, "moved/b.avhdx")
    assert set(rows["b.avhdx"]) == set(rows["a.avhdx"]) == {"V129"} and rows["base.vhdx"] == {}
    assert "absolute_win32_path" in rows["a.avhdx"]["V129"]["message"]


def test_no_parent(vhdx, chain, tmp_path):
    (tmp_path / "base.vhdx").unlink()
    assert list(found(vhdx, 1)) == ["b.avhdx", "a.avhdx"]
    assert "no parent of" in vhdx.fails(1, "check", "--chain", "b.avhdx")
