"""vhdx info of children, and of whole chains."""
import json
import os

import pytest


@pytest.fixture
def chain(vhdx):
    vhdx("create", "base.vhdx", "16M")
    vhdx("create", "-q", "--parent", "base.vhdx", "a.avhdx")
    vhdx("create", "-q", "--parent", "a.avhdx", "b.avhdx")


def test_a_child_tells_where_its_parent_was_found(vhdx, chain, tmp_path):
    info = vhdx.json("info", "--json", "b.avhdx")
    assert info["full-backing-filename"] == os.path.realpath(tmp_path / "a.avhdx")
    assert b"parent, found at: " in vhdx("info", "b.avhdx") and b"parent, found" not in vhdx("info", "base.vhdx")
    assert "full-backing-filename" not in vhdx.json("info", "--json", "--parents=none", "b.avhdx")
    (tmp_path / "a.avhdx").unlink()
    assert vhdx.json("info", "--json", "b.avhdx")["parent-error"]["code"] == "NO_PARENT"


def test_all_layers(vhdx, chain, tmp_path):
    layers = vhdx.json("info", "--chain", "--json", "b.avhdx")
    assert [os.path.basename(layer["filename"]) for layer in layers] == ["b.avhdx", "a.avhdx", "base.vhdx"]
    assert [layer["type"] for layer in layers] == ["differencing", "differencing", "dynamic"]
    assert vhdx("info", "--chain", "b.avhdx").count(b"image: ") == 3
    assert len(vhdx.json("info", "--chain", "--json", "base.vhdx")) == 1
    (tmp_path / "base.vhdx").unlink()
    done = vhdx.run("info", "--backing-chain", "--json", "b.avhdx")
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 2 and b"no parent of" in done.stderr


def test_wrong_use(vhdx, chain):
    vhdx.fails(2, "info", "--chain", "a.avhdx", "b.avhdx")
    done = vhdx.run("info", "--chain", "--json", "none.vhdx")
    assert done.returncode == 1 and json.loads(done.stdout)[0]["error"]["code"] == "NOT_FOUND"


def test_check_of_a_chain(vhdx, chain, tmp_path):
    rows = vhdx.json("check", "--chain", "--json", "b.avhdx")
    assert [os.path.basename(row["filename"]) for row in rows] == ["b.avhdx", "a.avhdx", "base.vhdx"]
    vhdx("bench", "-w", "-c", "1", "--orphan-children", "base.vhdx")
    assert "DataWriteGuid" in vhdx.fails(2, "check", "--chain", "b.avhdx")
    vhdx("check", "b.avhdx")  # one file alone cannot tell
    (tmp_path / "base.vhdx").unlink()
    done = vhdx.run("check", "--chain", "--json", "b.avhdx")
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 2
    vhdx.fails(64, "check", "--chain", "a.avhdx", "b.avhdx")
