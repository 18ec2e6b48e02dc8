"""How every verb behaves when something is not as it should be: what a script and a person rely on."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

from conftest import COMMAND, MOUNT_HELPER, PLUGIN

# Each verb on one file F; what is written, if anything, is another one.
CALLS = {
    "info": ["F"], "map": ["F"], "check": ["F"], "convert": ["-O", "raw", "F", "out"], "compare": ["F", "F"], "measure": ["F"],
    "compact": ["F"], "trim": ["F"], "merge": ["F"], "rebase": ["--flatten", "F"], "flatten": ["F", "out.vhdx"],
    "diff": ["F", "F"], "resize": ["F", "20M"], "replay": ["F"], "salvage": ["F", "out.vhdx"], "dump": ["F"],
    "meta": ["list", "F"], "bench": ["-c", "1", "F"], "serve": ["F", "-U", "-", "--run", "true"], "mount": ["F", "out"],
}
FAILED = {"compare": {2}, "diff": {2}}  # where 1 is an answer and no failure
WITHOUT_JSON = {"serve", "mount", "bench", "convert", "flatten"}
RAW_TOO = {"convert", "compare", "diff"}  # take what is no image for a raw disk
CHATTY = ["info", "map", "check", "measure", "dump", "tree"]


def call(verb, file):
    return [verb, *(file if word == "F" else word for word in CALLS[verb])]


@pytest.fixture(autouse=True)
def helpers(monkeypatch):
    monkeypatch.setenv("VHDX_NBDKIT_PLUGIN", str(PLUGIN))


@pytest.fixture(params=CALLS)
def verb(request, tmp_path):
    if request.param == "mount" and not (MOUNT_HELPER.exists() and os.path.exists("/dev/fuse")):
        pytest.skip("no FUSE here")
    if request.param == "serve" and (shutil.which("nbdkit") is None or not PLUGIN.exists()):
        pytest.skip("no nbdkit")
    (tmp_path / "folder").mkdir()
    if request.param == "mount":
        (tmp_path / "out").mkdir()
    return request.param


def test_what_cannot_be_opened_is_named(vhdx, verb, tmp_path):
    """A missing file, a folder, a file that is no image: status 1, one message, nothing made."""
    (tmp_path / "empty.vhdx").write_bytes(b"")
    for file in ["missing.vhdx", "folder"] + ["empty.vhdx"] * (verb not in RAW_TOO):
        before = sorted(os.listdir(tmp_path))
        text = vhdx.fails(*FAILED.get(verb, {1}), *call(verb, file))
        assert text.startswith("vhdx: ") and file in text, (file, text)
        assert sorted(os.listdir(tmp_path)) == before, (file, text)


@pytest.mark.parametrize("verb", sorted(set(CALLS) - WITHOUT_JSON))
def test_a_failure_is_a_document(vhdx, verb):
    done = vhdx.run(verb, "--json", *call(verb, "missing.vhdx")[1:])
    document = json.loads(done.stdout)
    assert done.returncode != 0 and done.stderr.startswith(b"vhdx: ")
    assert document["error"]["code"] == "NOT_FOUND" and document["error"]["message"]


def test_no_permission_is_said(verb, tmp_path):
    """As a user who may look into the folder and read nothing of the file."""
    folder = pathlib.Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o777)
        subprocess.run([COMMAND, "create", "-q", "a.vhdx", "10M"], cwd=folder, check=True)
        (folder / "a.vhdx").chmod(0)
        if verb == "mount":
            (folder / "out").mkdir(mode=0o777)

        def become_nobody():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

        if os.geteuid() != 0:
            become_nobody = None
        elif subprocess.run([COMMAND, "--version"], preexec_fn=become_nobody, capture_output=True, check=False).returncode != 0:
            pytest.skip("nobody else may run the command where it was built")
        done = subprocess.run([COMMAND, *call(verb, "a.vhdx")], cwd=folder, preexec_fn=become_nobody, capture_output=True,
                              timeout=60, check=False)
        assert done.returncode in FAILED.get(verb, {1}), done
        assert b"a.vhdx" in done.stderr and b"ermission denied" in done.stderr, done
    except PermissionError:
        pytest.skip("nobody else may run the command where it was built")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("verb", CHATTY)
def test_a_full_output_and_a_reader_that_went_away(vhdx, verb, tmp_path):
    vhdx("create", "a.vhdx", "10M")
    arguments = ["tree", "."] if verb == "tree" else call(verb, "a.vhdx")
    with open("/dev/full", "wb") as full:
        done = vhdx.run(*arguments, stdout=full)
    assert done.returncode == 1 and b"standard output cannot be written" in done.stderr, done
    reader, writer = os.pipe()
    os.close(reader)
    done = vhdx.run(*arguments, stdout=writer, preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL))
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE and done.stderr == b"", done


@pytest.mark.parametrize("arguments, said", [
    (["comapct"], "did you mean 'compact'"), (["inof"], "did you mean 'info'"), (["ceate"], "did you mean 'create'"),
    (["map", "--jsno", "a"], "did you mean '--json'"), (["create", "--blok-size=1M", "a", "1G"], "did you mean '--block-size'"),
    (["convert", "--thread", "1", "--ouput-format", "raw", "a", "b"], "did you mean '--output-format'"),
    (["create", "--log", "a"], "short for several"),
])
def test_a_mistyped_word_is_answered_by_the_nearest(vhdx, arguments, said):
    assert said in vhdx.fails(2, *arguments)


@pytest.mark.parametrize("arguments", [["x"], ["frobnicate"], ["map", "--frobnicate", "a"], ["--frobnicate"]])
def test_nothing_near_is_not_guessed(vhdx, arguments):
    assert "did you mean" not in vhdx.fails(2, *arguments)
