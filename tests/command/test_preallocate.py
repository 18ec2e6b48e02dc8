"""--preallocate of create and convert: what files take of the host from the beginning."""
import os
import shutil
import tempfile

import pytest

from conftest import MIB, Command, allocated


@pytest.fixture
def room(tmp_path):
    """A folder on a file system that sets space aside and tells of holes."""
    shm = "/dev/shm"
    folder = tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else tmp_path)
    with open(os.path.join(folder, "probe"), "wb") as file:
        file.truncate(MIB)
        if allocated(file.name) >= MIB:
            pytest.skip("no sparse files here")
        try:
            os.posix_fallocate(file.fileno(), 0, MIB)
        except OSError as error:
            pytest.skip(f"no fallocate here: {error}")
    yield folder
    shutil.rmtree(folder)


def is_whole(path):
    return allocated(path) >= os.path.getsize(path)


@pytest.mark.parametrize("options, whole", [
    ([], False), (["--preallocate=falloc"], True), (["--preallocate=full"], True),
    (["--type=fixed"], True), (["--type=fixed", "--preallocate=off"], False),
    (["--type=fixed", "--preallocate=full"], True)])
def test_create(vhdx, room, options, whole):
    path = os.path.join(room, "a.vhdx")
    vhdx("create", *options, path, "9M")
    assert is_whole(path) == whole
    vhdx("check", path)


def test_create_child(vhdx, room):
    vhdx("create", os.path.join(room, "a.vhdx"), "9M")
    vhdx("create", "--preallocate", "falloc", "--parent", os.path.join(room, "a.vhdx"), os.path.join(room, "b.avhdx"))
    assert is_whole(os.path.join(room, "b.avhdx"))


@pytest.mark.parametrize("name, options, whole", [
    ("a.vhdx", [], False), ("a.vhdx", ["--preallocate=falloc"], True), ("a.vhdx", ["--preallocate=full"], True),
    ("a.vhdx", ["--type=fixed"], True), ("a.vhdx", ["--type=fixed", "--preallocate=off"], False),
    ("a.vhdx", ["--type=fixed", "--preallocate=full"], True),
    ("a.raw", [], False), ("a.raw", ["--preallocate=falloc"], True), ("a.raw", ["--preallocate=full"], True)])
def test_convert(vhdx, room, raw_disk, name, options, whole):
    path = os.path.join(room, name)
    vhdx("convert", "-f", "raw", *options, raw_disk, path)
    assert is_whole(path) == whole
    if name.endswith(".raw"):
        assert os.path.getsize(path) == os.path.getsize(raw_disk)
    else:
        vhdx("check", path)
        assert vhdx("info", "--is", "fixed" if "--type=fixed" in options else "dynamic", path) == b""
    vhdx("compare", "-f", "raw", raw_disk, path)


def test_flatten(vhdx, room, raw_disk):
    source, path = os.path.join(room, "a.vhdx"), os.path.join(room, "b.vhdx")
    vhdx("convert", "-f", "raw", raw_disk, source)
    vhdx("flatten", "--preallocate=falloc", source, path)
    assert is_whole(path)
    vhdx("compare", source, path)


def test_usage(vhdx, raw_disk):
    assert "off, falloc or full" in vhdx.fails(2, "create", "--preallocate=some", "a.vhdx", "1M")
    vhdx.fails(2, "create", "--preallocate")
    assert "standard output" in vhdx.fails(2, "convert", "-O", "raw", "--preallocate=full", raw_disk, "-")
    assert "no such" in vhdx.fails(1, "convert", "--preallocate=full", "nothing.raw", "a.vhdx").lower()


def test_a_full_host_leaves_nothing(vhdx, tmp_path, raw_disk):
    for name in ("a.vhdx", "a.raw"):
        done = vhdx.run("convert", "--preallocate=full", raw_disk, name, preexec_fn=limit_files)
        assert done.returncode == 1 and done.stderr
        assert sorted(os.listdir(tmp_path)) == ["disk.raw"]


def limit_files():
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))
