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


@pytest.fixture
def chain(vhdx, raw_disk, tmp_path):
    """A child in another folder than its parent."""
    vhdx("convert", raw_disk, "base.vhdx")
    (tmp_path / "children").mkdir()
    vhdx("create", "--parent", "base.vhdx", "children/a.avhdx")
    return raw_disk


READ = ("-U", "-", "--run", "nbdcopy $uri out.raw")


def test_parents_of_another_folder(vhdx, peer, chain, tmp_path):
    peer("nbdcopy", "--version")
    message = vhdx.fails(1, "serve", "-r", "children/a.avhdx", *READ)
    assert "base.vhdx: outside of the folder of the child" in message and "parents=any" in message
    assert "may not be looked for" in vhdx.fails(1, "serve", "-r", "--parents", "none", "children/a.avhdx", *READ)
    for which in ("any", ".", f"/usr,{tmp_path}"):
        vhdx("serve", "-r", "--parents", which, "children/a.avhdx", *READ)
        assert (tmp_path / "out.raw").read_bytes() == chain.read_bytes()
        (tmp_path / "out.raw").unlink()


def test_a_map_of_drives(vhdx, peer, chain, tmp_path):
    """A parent that was moved with its folders: its absolute path, "C:" and so on, is looked up below the map."""
    peer("nbdcopy", "--version")
    drive = tmp_path / "drive" / tmp_path.relative_to("/")
    drive.mkdir(parents=True)
    (tmp_path / "base.vhdx").rename(drive / "base.vhdx")
    assert "not found" in vhdx.fails(1, "serve", "-r", "--parents=any", "children/a.avhdx", *READ)
    vhdx("serve", "-r", "--parents=drive", "--map=D:=/", "--map=C:=drive", "children/a.avhdx", *READ)
    assert (tmp_path / "out.raw").read_bytes() == chain.read_bytes()


def test_an_image_that_others_depend_on(vhdx, peer, chain):
    peer("nbdinfo", "--version")
    vhdx("create", "--parent", "base.vhdx", "b.avhdx")
    can_write = ("-U", "-", "--run", "nbdinfo --can write $uri")
    message = vhdx.fails(1, "serve", "base.vhdx", *can_write)
    assert message.startswith("vhdx: base.vhdx: ") and "b.avhdx depends on it" in message
    assert "--orphan-children" in message
    vhdx("serve", "--orphan-children", "base.vhdx", *can_write)
    assert vhdx.run("serve", "-r", "base.vhdx", *can_write).returncode == 2, "served, read-only"


@pytest.mark.parametrize("option", ["--parents=/nowhere/at/all", "--parents=", "--map=C:", "--map=C:=/nowhere/at/all"])
def test_wrong_places_of_parents(vhdx, chain, option):
    assert "Try 'vhdx serve --help'" in vhdx.fails(2, "serve", option, "base.vhdx")
