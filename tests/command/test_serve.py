"""vhdx serve: nbdkit in its place."""
import os
import shutil

import pytest

from conftest import COMMAND, PLUGIN


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    if shutil.which("nbdkit") is None or not PLUGIN.exists():
        pytest.skip("nbdkit or the plugin is not there")
    monkeypatch.setenv("VHDX_NBDKIT_PLUGIN", str(PLUGIN))


def test_clients_start_it_themselves(vhdx, peer, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    size = peer("nbdinfo", "--size", "--", "[", COMMAND, "serve", "-r", "a.vhdx", "]")
    assert int(size) == raw_disk.stat().st_size
    peer("nbdcopy", "--", "[", COMMAND, "serve", "-r", "a.vhdx", "]", "out.raw")
    assert (tmp_path / "out.raw").read_bytes() == raw_disk.read_bytes()


def test_options_reach_nbdkit(vhdx, peer, raw_disk):
    vhdx("convert", raw_disk, "a.vhdx")
    peer("nbdcopy", "--version")
    vhdx("serve", "a.vhdx", "-U", "-", "--filter=stats", "statsfile=/dev/null", "--run",
         f"nbdcopy {raw_disk} $uri && nbdinfo --can write $uri")
    vhdx("compare", raw_disk, "a.vhdx")
    assert vhdx.run("serve", "-r", "a.vhdx", "-U", "-", "--run", "nbdinfo --can write $uri").returncode == 2


def test_reading_changes_nothing(vhdx, peer, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    before = (tmp_path / "a.vhdx").read_bytes()
    os.chmod(tmp_path / "a.vhdx", 0o444)
    peer("nbdinfo", "--", "[", COMMAND, "serve", "-r", "a.vhdx", "]")
    assert (tmp_path / "a.vhdx").read_bytes() == before


def test_a_name_that_looks_like_a_parameter(vhdx, peer, raw_disk):
    vhdx("convert", raw_disk, "x=y.vhdx")
    peer("nbdinfo", "--size", "--", "[", COMMAND, "serve", "-r", "x=y.vhdx", "]")


def test_no_such_file(vhdx):
    assert vhdx.fails(1, "serve", "none.vhdx").startswith("vhdx: none.vhdx: ")


def test_without_nbdkit(vhdx, monkeypatch):
    vhdx("create", "a.vhdx", "10M")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in vhdx.fails(1, "serve", "a.vhdx")


def test_its_own_options_stand_before_the_file(vhdx):
    assert "there is no option '-U'" in vhdx.fails(2, "serve", "-U", "-", "a.vhdx")
