"""Confinement as the command's user has it: `serve`, and --sandbox of verbs.

tests/intruder is preloaded and tries to break out when it reads its magic words.
"""
import errno
import os
import pathlib
import shutil
import time

import pytest

from conftest import BUILD, MOUNT_HELPER, PLUGIN

INTRUDER = BUILD / "tests" / "intruder" / "intruder.so"
MAGIC = b"let the intruder in"
ALL = ("read-other", "read-beside", "write-beside", "make", "remove-beside", "process", "program", "socket", "signal")
REFUSED = {errno.EPERM, errno.EACCES}


@pytest.fixture
def kernel(vhdx):
    return vhdx("--version").decode().split("sandbox here: ")[1]


def need(kernel):
    if "landlock" not in kernel or "seccomp" not in kernel:
        pytest.skip(f"this kernel has {kernel}")


@pytest.fixture
def serving(monkeypatch):
    if shutil.which("nbdkit") is None or not PLUGIN.exists():
        pytest.skip("nbdkit or the plugin is not there")
    monkeypatch.setenv("VHDX_NBDKIT_PLUGIN", str(PLUGIN))


class Intruder:
    """Lets the intruder into what is run with `variables`; answers() is what it found in the end."""

    def __init__(self, folder):
        self.folder = folder
        self.other = folder / "elsewhere" / "secret"
        self.other.parent.mkdir()
        self.other.write_text("secret")
        self.home = folder / "images"
        self.home.mkdir()
        (self.home / "beside.vhdx").write_text("another")
        self.report = open(folder / "report", "w+b")

    @property
    def how(self):
        more = {"INTRUDER_REPORT": self.report.fileno(), "INTRUDER_OTHER": self.other,
                "INTRUDER_BESIDE": self.home / "beside.vhdx", "INTRUDER_OUTPUT": self.home / "made",
                "LD_PRELOAD": INTRUDER}
        return {"env": os.environ | {name: str(value) for name, value in more.items()},
                "pass_fds": [self.report.fileno()]}

    def answers(self):
        """Of each attempt to break out: a dictionary from what was tried to the errno."""
        self.report.seek(0)
        lines = [line.decode().split() for line in self.report.read().splitlines()]
        self.report.truncate(0)
        self.report.seek(0)
        assert lines and len(lines) % len(ALL) == 0
        return [{name: int(number) for name, number in lines[at:at + len(ALL)]}
                for at in range(0, len(lines), len(ALL))]


@pytest.fixture
def intruder(tmp_path, vhdx, raw_disk):
    """An image in a folder with another file, whose first sector lets the intruder in."""
    if not INTRUDER.exists():
        pytest.skip(f"no {INTRUDER}")
    found = Intruder(tmp_path)
    with open(raw_disk, "r+b") as file:
        file.write(MAGIC)
    vhdx("convert", raw_disk, "images/a.vhdx")
    return found


def litter():
    return set(pathlib.Path("/tmp").glob("nbdkit??????"))


READ = ("-U", "-", "--run", "LD_PRELOAD= nbdcopy $uri out.raw")


def test_serve_is_confined(vhdx, peer, serving, kernel, intruder, raw_disk, tmp_path):
    peer("nbdcopy", "--version")
    need(kernel)
    vhdx("serve", "-r", "images/a.vhdx", *READ, **intruder.how)
    assert (tmp_path / "out.raw").read_bytes() == raw_disk.read_bytes()
    assert set(intruder.answers()[-1].values()) <= REFUSED
    (tmp_path / "out.raw").unlink()
    vhdx("serve", "-r", "--no-sandbox", "images/a.vhdx", *READ, **intruder.how)
    assert intruder.answers()[-1] == dict.fromkeys(ALL, 0)


def test_serve_meets_a_hostile_image_confined(vhdx, peer, serving, kernel, intruder):
    """Here the words are in the file's header: whoever opens it is taken over, `serve` itself before nbdkit, too."""
    peer("nbdcopy", "--version")
    need(kernel)
    with open(intruder.home / "a.vhdx", "r+b") as file:
        file.seek(8)
        file.write(MAGIC)
    vhdx("serve", "-r", "images/a.vhdx", *READ, **intruder.how)
    for answers in intruder.answers():
        assert answers.pop("read-beside") in (0, errno.EPERM), "parents are looked for there"
        assert set(answers.values()) <= REFUSED, answers


def test_a_mount_is_confined(vhdx, kernel, intruder, raw_disk, tmp_path):
    """Twice: its partitions are looked for while it is opened, and clients read it afterwards."""
    if not MOUNT_HELPER.exists() or not os.path.exists("/dev/fuse"):
        pytest.skip("nothing can be mounted here")
    need(kernel)
    (tmp_path / "mnt").mkdir()

    def mount(*options):
        vhdx("mount", *options, "images/a.vhdx", "mnt", **intruder.how)
        try:
            assert (tmp_path / "mnt" / "disk.raw").read_bytes() == raw_disk.read_bytes()
        finally:
            vhdx("unmount", "mnt")
        return intruder.answers()

    for options in ([], ["-w"]):
        first, *_, last = mount(*options)
        assert first.pop("read-beside") == 0, "parents and children are looked for there"
        assert set(first.values()) <= REFUSED and set(last.values()) <= REFUSED
    assert mount("--no-sandbox")[0] == dict.fromkeys(ALL, 0)


def test_nothing_stays_in_tmp(vhdx, peer, serving, raw_disk):
    """nbdkit's own socket and its folder, and what a server that does not start leaves."""
    peer("nbdcopy", "--version")
    vhdx("convert", raw_disk, "a.vhdx")
    (pathlib.Path(vhdx.directory) / "bad.vhdx").write_bytes(b"vhdxfile" + bytes(1 << 20))
    before = litter()
    vhdx("serve", "a.vhdx", *READ)
    vhdx.fails(1, "serve", "bad.vhdx", *READ)
    vhdx.fails(1, "serve", "--no-sandbox", "bad.vhdx", *READ)
    deadline = time.monotonic() + 5
    while litter() - before and time.monotonic() < deadline:  # of other tests at the same time
        time.sleep(0.05)
    assert not litter() - before


def test_filters_and_keys(vhdx, peer, serving, raw_disk, tmp_path):
    """What filters open before they serve stays open; keys for TLS are read later."""
    peer("nbdcopy", "--version")
    vhdx("convert", raw_disk, "a.vhdx")
    vhdx("serve", "a.vhdx", "--filter=log", "logfile=log", "--filter=cow", *READ)
    assert (tmp_path / "out.raw").read_bytes() == raw_disk.read_bytes()
    assert "Read" in (tmp_path / "log").read_text()
    (tmp_path / "keys").write_text("alice:0123456789abcdef0123456789abcdef\n")
    (tmp_path / "keys").chmod(0o600)
    uri = "nbds+unix://alice@/?socket=$unixsocket&tls-psk-file=keys"
    for keys in (["--tls-psk=keys"], ["--tls-psk", "keys"]):
        vhdx("serve", "-r", "a.vhdx", "--tls=require", *keys, "-U", "-", "--run", f'nbdinfo --size "{uri}"')


WORK = {
    "info": ["info", "--json", "a.vhdx"],
    "info of several": ["info", "--json", "a.vhdx", "b.avhdx", "none.vhdx"],
    "info of a chain": ["info", "--chain", "b.avhdx"],
    "a question": ["info", "--is", "dynamic", "a.vhdx"],
    "map": ["map", "--json", "b.avhdx"],
    "pictures": ["map", "--svg", "out/map.svg", "--html", "out/map.html", "b.avhdx"],
    "check": ["check", "--json", "--jobs", "2", "a.vhdx", "b.avhdx"],
    "check of a chain": ["check", "--chain", "b.avhdx"],
    "compare": ["compare", "a.vhdx", "b.avhdx"],
    "compare with raw": ["compare", "-f", "raw", "disk.raw", "a.vhdx"],
    "measure": ["measure", "b.avhdx", "disk.raw"],
    "convert": ["convert", "-O", "raw", "b.avhdx", "out/c.raw"],
    "convert to stdout": ["convert", "-O", "raw", "b.avhdx", "-"],
    "convert over a file": ["convert", "-O", "raw", "--force", "b.avhdx", "out/existing"],
    "convert to the same folder": ["convert", "-O", "raw", "b.avhdx", "new.raw"],
    "a file that is there": ["convert", "b.avhdx", "out/existing"],
    "convert in place": ["convert", "--in-place", "--type", "fixed", "--dry-run", "b.avhdx"],
    "dump": ["dump", "--all", "a.vhdx"],
    "salvage": ["salvage", "-O", "raw", "--report", "out/report", "a.vhdx", "out/c.raw"],
    "salvage with a parent": ["salvage", "-O", "raw", "b.avhdx", "out/c.raw"],
    "salvage, only told": ["salvage", "--dry-run", "--json", "a.vhdx"],
    "no such file": ["convert", "none.vhdx", "out/c.raw"],
    "no such folder": ["convert", "a.vhdx", "none/c.raw"],
}


def results(vhdx, words, folder):
    """Exit status, what was printed, and the files that were made, which go again."""
    before = set(folder.iterdir())
    (folder / "out").mkdir()
    (folder / "out" / "existing").write_bytes(b"")
    done = vhdx.run(*words)
    made = [*(folder / "out").iterdir(), *(path for path in set(folder.iterdir()) - before if path.is_file())]
    files = {path.name: path.read_bytes() for path in made}
    for path in made:
        path.unlink()
    (folder / "out").rmdir()
    return done.returncode, done.stdout, done.stderr, files


def test_verbs_do_the_same_confined(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    vhdx("create", "--parent", "a.vhdx", "b.avhdx")
    for what, words in WORK.items():
        plain = results(vhdx, words, tmp_path)
        assert results(vhdx, [words[0], "--sandbox", *words[1:]], tmp_path) == plain, what


def test_in_place_confined(vhdx, raw_disk):
    vhdx("convert", raw_disk, "a.vhdx")
    vhdx("convert", "--sandbox", "--in-place", "--type", "fixed", "a.vhdx")
    assert vhdx.json("info", "--json", "a.vhdx")["type"] == "fixed"
    vhdx("compare", "--sandbox", raw_disk, "a.vhdx")


def test_parents_come_from_the_same_folder(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    (tmp_path / "children").mkdir()
    vhdx("create", "--parent", "a.vhdx", "children/b.avhdx")
    vhdx("map", "children/b.avhdx")
    assert "outside of the folder" in vhdx.fails(1, "map", "--sandbox", "children/b.avhdx")
    for which in ("any", "."):
        vhdx("map", "--sandbox", "--parents", which, "children/b.avhdx")


def test_a_verb_meets_a_hostile_header_confined(vhdx, kernel, intruder):
    need(kernel)
    with open(intruder.home / "a.vhdx", "r+b") as file:
        file.seek(8)
        file.write(MAGIC)
    for words in (["info"], ["check"], ["map"], ["measure"], ["dump"]):
        vhdx.run(words[0], "--sandbox", *words[1:], "images/a.vhdx", **intruder.how)
        for answers in intruder.answers():
            assert words == ["dump"] or answers.pop("read-beside") == 0, "parents are looked for there"
            assert set(answers.values()) <= REFUSED, (words, answers)
        if words == ["dump"]:  # no parents, ever
            continue
        vhdx.run(words[0], "--sandbox", "--parents=none", *words[1:], "images/a.vhdx", **intruder.how)
        for answers in intruder.answers():
            assert set(answers.values()) <= REFUSED, (words, answers)


def test_a_verb_meets_hostile_contents_confined(vhdx, kernel, intruder, raw_disk, tmp_path):
    """Once all is open, only the folder of the new file is left."""
    need(kernel)
    (tmp_path / "out").mkdir()
    vhdx("convert", "--sandbox", "-O", "raw", "images/a.vhdx", "out/a.raw", **intruder.how)
    assert (tmp_path / "out" / "a.raw").read_bytes() == raw_disk.read_bytes()
    for answers in intruder.answers():
        assert set(answers.values()) <= REFUSED, answers
    vhdx("salvage", "--sandbox", "-O", "raw", "images/a.vhdx", "out/s.raw", **intruder.how)
    for answers in intruder.answers():  # it looks at contents while it opens, too
        answers.pop("read-beside")
        assert set(answers.values()) <= REFUSED, answers
    (tmp_path / "raw").mkdir()
    shutil.copy(raw_disk, tmp_path / "raw" / "disk.raw")
    vhdx("compare", "--sandbox", "raw/disk.raw", "images/a.vhdx", **intruder.how)
    for answers in intruder.answers():  # what the files are has to be looked at before all is open
        answers.pop("read-beside")
        assert set(answers.values()) <= REFUSED, answers
    vhdx("convert", "-O", "raw", "images/a.vhdx", "out/b.raw", **intruder.how)
    assert intruder.answers()[-1] == dict.fromkeys(ALL, 0)


def test_repair_confined(vhdx, raw_disk, tmp_path):
    vhdx("convert", raw_disk, "a.vhdx")
    with open(tmp_path / "a.vhdx", "r+b") as file:
        file.seek(64 * 1024)
        file.write(bytes(64))
    damaged = (tmp_path / "a.vhdx").read_bytes()
    vhdx("check", "--sandbox", "-r", "all", "--dry-run", "a.vhdx")
    assert (tmp_path / "a.vhdx").read_bytes() == damaged
    vhdx("check", "--sandbox", "-r", "all", "--undo", "a.undo", "a.vhdx")
    assert "No errors" in vhdx("check", "--sandbox", "a.vhdx").decode()
    vhdx("check", "--sandbox", "--apply-undo", "a.undo", "a.vhdx")
    assert (tmp_path / "a.vhdx").read_bytes() == damaged
