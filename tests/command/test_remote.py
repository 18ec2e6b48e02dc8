"""Operands that are NBD URIs or [ COMMAND ], and formats that qemu-nbd reads.  `vhdx serve` is in test_serve.py."""
import functools
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest

from conftest import BUILD, COMMAND, MIB

MODULE = BUILD / "modules" / "vhdx-nbd.so"

pytestmark = [
    pytest.mark.skipif(not MODULE.exists(), reason="the module vhdx-nbd.so is not built"),
    pytest.mark.skipif(shutil.which("nbdkit") is None, reason="nbdkit is not installed"),
]
needs_qemu = pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")


@pytest.fixture
def serve(tmp_path):
    """Start nbdkit at a socket; the URI of it."""
    servers = []

    def start(*arguments, tls=""):
        socket = tmp_path / f"nbd{len(servers)}"
        servers.append(subprocess.Popen(["nbdkit", "-f", "-U", str(socket), *map(str, arguments)]))
        while not socket.exists():
            assert servers[-1].poll() is None
            time.sleep(0.005)
        return f"nbd{'s' if tls else ''}+unix://{'alice@' if tls else ''}/?socket={socket}{tls}"

    yield start
    for server in servers:
        server.terminate()
        server.wait()


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_ends(pid):
    for _ in range(300):
        if not is_running(pid):
            return
        time.sleep(0.01)
    pytest.fail(f"{pid} is still running")


# --- sources ---

@needs_qemu
@pytest.mark.parametrize("fmt", ["qcow2", "vmdk", "vdi"])
def test_from_the_formats_of_qemu(vhdx, peer, raw_disk, fmt):
    peer("qemu-img", "convert", "-f", "raw", "-O", fmt, raw_disk, "a.other")
    vhdx("convert", "[", "qemu-nbd", "-r", "-f", fmt, "a.other", "]", "a.vhdx")
    vhdx("compare", raw_disk, "a.vhdx")
    vhdx("compare", "-f", fmt, "a.other", raw_disk)
    vhdx("convert", "-f", fmt, "a.other", "b.vhdx")
    vhdx("compare", "--strict", "a.vhdx", "b.vhdx")
    message = vhdx.fails(1, "convert", "a.other", "c.vhdx")
    assert f"looks like {fmt}" in message and f"-f {fmt}" in message
    assert any(not extent["data"] for extent in vhdx.json("map", "--json", "-f", fmt, "a.other"))
    assert vhdx.json("measure", "--json", "-f", fmt, "a.other")["data-size"] < 8 * MIB


@needs_qemu
def test_names_that_qemu_would_take_for_something_else(vhdx, peer, raw_disk, tmp_path):
    for name in ("-r", "nbd:unix:x", "json:{}", "a,b"):
        peer("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw_disk, "./" + name)
        vhdx("compare", "-f", "qcow2", "-F", "raw", "--", name, raw_disk)


def test_from_a_uri(vhdx, serve, raw_disk, tmp_path):
    uri = serve("file", raw_disk)
    vhdx("convert", uri, "a.raw")
    assert (tmp_path / "a.raw").read_bytes() == raw_disk.read_bytes()
    vhdx("compare", "--strict", uri, "a.raw")
    vhdx("compare", "--strict", "a.raw", uri)
    assert vhdx("convert", "-O", "raw", uri, "-") == raw_disk.read_bytes()
    measured = vhdx.json("measure", "--json", uri)
    assert measured["filename"] == uri and "compact" not in measured


def test_over_tls(vhdx, serve, raw_disk, tmp_path):
    (tmp_path / "keys.psk").write_text("alice:0123456789abcdef0123456789abcdef\n")
    uri = serve("--tls=require", f"--tls-psk={tmp_path}/keys.psk", "file", raw_disk,
                tls=f"&tls-psk-file={tmp_path}/keys.psk")
    vhdx("compare", uri, raw_disk)
    vhdx.fails(2, "compare", uri.replace("nbds", "nbd"), raw_disk)


def test_holes_are_not_read_and_connections_are_several(vhdx, tmp_path):
    with open(tmp_path / "sparse.raw", "wb") as file:
        file.truncate(3 << 40)
        for offset in (0, 5 * MIB, 2 << 40):
            file.seek(offset)
            file.write(b"x" * MIB)
    vhdx("convert", "[", "nbdkit", "--filter=log", "file", "sparse.raw", "logfile=log", "]", "a.vhdx")
    lines = (tmp_path / "log").read_text().splitlines()
    reads = [line for line in lines if " Read " in line and "count=" in line]
    assert sum(int(line.split("count=")[1].split()[0], 16) for line in reads) <= 3 * MIB + 8192
    assert len([line for line in lines if " Connect " in line]) == 4
    assert len({line.split("connection=")[1].split()[0] for line in reads}) >= 2
    vhdx("compare", "sparse.raw", "a.vhdx")


def test_a_server_that_tells_little(vhdx, raw_disk):
    """No block status, one connection, whole pages only."""
    with open(raw_disk, "r+b") as file:
        file.truncate(25 * MIB)
    filters = ["--filter=noextents", "--filter=nozero", "--filter=multi-conn", "--filter=blocksize-policy"]
    words = ["[", "nbdkit", *filters, "file", raw_disk, "multi-conn-mode=disable", "blocksize-minimum=4096",
             "blocksize-maximum=65536", "blocksize-error-policy=error", "]"]
    vhdx("compare", "--strict", *words, raw_disk)
    vhdx("bench", "-q", "-f", "raw", "-c", "200", "-s", "1000", "-S", "70001", *words)
    vhdx("bench", "-w", "-q", "-f", "raw", "-c", "100", "-d", "8", "-s", "3000", "-S", "5000", "--pattern", "6", *words)
    with open(raw_disk, "rb") as file:
        for i in range(100):
            file.seek(i * 5000)
            assert file.read(3000) == b"\x06" * 3000
            if i >= 1:
                assert file.read(2000) == bytes(2000)


# --- targets ---

@needs_qemu
def test_to_qcow2(vhdx, peer, raw_disk, tmp_path):
    peer("qemu-img", "create", "-f", "qcow2", "a.qcow2", "32M")
    vhdx("convert", raw_disk, "[", "qemu-nbd", "-f", "qcow2", "a.qcow2", "]")
    peer("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw_disk, "a.qcow2")
    assert (tmp_path / "a.qcow2").stat().st_size < 4 * MIB  # stored zeros took no space either
    before = (tmp_path / "a.qcow2").read_bytes()
    assert "holds data" in vhdx.fails(1, "convert", raw_disk, "[", "qemu-nbd", "-f", "qcow2", "a.qcow2", "]")
    assert (tmp_path / "a.qcow2").read_bytes() == before


@pytest.mark.parametrize("filters", [[], ["--filter=nozero"], ["--filter=noextents"],
                                     ["--filter=nozero", "--filter=noextents"]])
def test_over_old_contents(vhdx, raw_disk, tmp_path, filters):
    target = tmp_path / "target.raw"
    target.write_bytes(b"old" * (10 * MIB))
    words = ["[", "nbdkit", "--filter=log", *filters, "file", "target.raw", "logfile=log", "]"]
    vhdx.fails(1, "convert", raw_disk, *words)
    vhdx("convert", "--force", raw_disk, *words)
    size = raw_disk.stat().st_size
    data = target.read_bytes()
    assert data[:size] == raw_disk.read_bytes() and data[size:] == (b"old" * (10 * MIB))[size:]
    log = (tmp_path / "log").read_text()
    assert log.rindex(" Flush ") > log.rindex(" Write ")


def test_from_a_pipe_to_a_server(vhdx, raw_disk, tmp_path):
    (tmp_path / "target.raw").write_bytes(b"old" * (10 * MIB))
    vhdx("convert", "--force", "--size", "1M", "-", "[", "nbdkit", "file", "target.raw", "]", input=bytes(MIB))
    assert (tmp_path / "target.raw").read_bytes()[:MIB] == bytes(MIB)


def test_what_a_target_must_be(vhdx, serve, raw_disk):
    uri = serve("memory", "8M")
    assert "are needed" in vhdx.fails(1, "convert", raw_disk, uri)
    assert "reading only" in vhdx.fails(1, "convert", raw_disk, "[", "nbdkit", "-r", "memory", "64M", "]")
    for options in (["-O", "vhdx"], ["-O", "vhd"], ["--type=fixed"], ["--preallocate=full"], ["--for=azure"]):
        vhdx.fails(2, "convert", *options, raw_disk, uri)
    assert "written by a server" in vhdx.fails(2, "convert", "-O", "qcow2", raw_disk, "a.qcow2")


# --- images behind a server ---

def test_an_image_behind_a_server(vhdx, serve, raw_disk):
    vhdx("convert", raw_disk, "a.vhdx")
    uri = serve("file", vhdx.directory / "a.vhdx")
    served, file = (vhdx.json("info", "--json", name) for name in (uri, "a.vhdx"))
    assert "actual-size" in file and {**file, "filename": uri, "actual-size": 0} == {**served, "actual-size": 0}
    assert vhdx.json("map", "--json", uri) == vhdx.json("map", "--json", "a.vhdx")
    assert "looks like a VHDX" in vhdx.fails(1, "convert", uri, "b.vhdx")  # whose guest may have written that
    vhdx("convert", "-f", "vhdx", uri, "b.vhdx")
    vhdx("compare", "b.vhdx", raw_disk)
    vhdx("convert", "-O", "vhd", raw_disk, "a.vhd")
    uri = serve("file", vhdx.directory / "a.vhd")
    assert vhdx.json("info", "--json", uri)["format"] == "vhd"
    assert "looks like a VHD:" in vhdx.fails(1, "convert", uri, "c.vhdx")


def test_an_image_behind_http(vhdx, peer, raw_disk, tmp_path):
    """What a web server has, through nbdkit's curl plugin."""
    vhdx("convert", raw_disk, "a.vhdx")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):  # byte ranges, which Python's own server does not know
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            body = (tmp_path / "a.vhdx").read_bytes()[int(first):int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str((tmp_path / "a.vhdx").stat().st_size))
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if b"curl" not in peer("nbdkit", "--dump-plugin", "curl", status=None):
        pytest.skip("nbdkit's curl plugin is not installed")
    try:
        words = ["[", "nbdkit", "curl", f"http://127.0.0.1:{server.server_port}/a.vhdx", "]"]
        vhdx("compare", "-f", "vhdx", *words, raw_disk)
    finally:
        server.shutdown()


def test_an_image_behind_a_server_is_written(vhdx, tmp_path):
    words = ["[", "nbdkit", "file", "a.vhdx", "]"]
    vhdx("create", "--type=fixed", "a.vhdx", "8M")
    vhdx("bench", "-w", "-q", "-c", "128", "-s", "64K", "--pattern", "5", "-f", "vhdx", *words)
    assert "No errors" in vhdx("check", "a.vhdx").decode()
    assert vhdx("convert", "-O", "raw", "a.vhdx", "-") == b"\5" * (8 * MIB)
    vhdx("create", "--force", "a.vhdx", "8M")  # which would have to grow
    vhdx.fails(1, "bench", "-w", "-q", "-c", "128", "-s", "64K", "-f", "vhdx", *words)
    assert "No errors" in vhdx("check", "a.vhdx").decode()
    script = "pread=dd if=a.vhdx skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none"
    assert "no flush" in vhdx.fails(1, "bench", "-w", "-q", "-c", "1", "-f", "vhdx", "[", "nbdkit", "eval", script,
                                    "get_size=stat -c %s a.vhdx", "pwrite=exit 1", "]")


# --- servers that fail ---

def test_a_server_that_does_not_start(vhdx, raw_disk, tmp_path):
    for words, said in ((["no-such-program"], "cannot be started"), (["false"], "ended with status 1"),
                        (["nbdkit", "file", "no-such-file"], "no-such-file: No such file"),
                        (["sh", "-c", "echo 'the reason' >&2; exit 7"], "status 7: the reason")):
        message = vhdx.fails(1, "convert", "[", *words, "]", "a.vhdx")
        assert said in message and f"[ {words[0]}" in message
    document = json.loads(vhdx.run("info", "--json", "[", "false", "]").stdout)
    assert document["error"]["code"] == "IO" and "status 1" in document["error"]["message"]
    assert "cannot connect" in vhdx.fails(1, "info", f"nbd+unix:///?socket={tmp_path}/none")
    assert sorted(os.listdir(tmp_path)) == ["disk.raw"]


def test_a_server_that_fails_later(vhdx, raw_disk, tmp_path):
    words = ["[", "nbdkit", "--filter=error", "file", raw_disk, "error-pread=EIO", "error-pread-rate=100%", "]"]
    assert "does not read: Input/output error" in vhdx.fails(1, "convert", *words, "a.vhdx")
    words = ["[", "nbdkit", "--filter=error", "memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%", "]"]
    assert "does not write: No space left" in vhdx.fails(1, "convert", raw_disk, *words)
    words = ["[", "nbdkit", "eval", "get_size=echo 67108864", "pread=kill -9 $PPID", "]"]
    assert "connection is lost" in vhdx.fails(1, "convert", *words, "a.vhdx")
    assert sorted(os.listdir(tmp_path)) == ["disk.raw"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_with_us(vhdx, raw_disk, tmp_path, how):
    script = f"echo $$ > {tmp_path}/pid; exec nbdkit --filter=delay file {raw_disk} delay-read=30"
    running = vhdx.start("convert", "-f", "raw", "[", "sh", "-c", script, "]", "a.vhdx")
    while not any(path.name.endswith(".partial") for path in tmp_path.iterdir()):  # then it is connected, and reads
        assert running.poll() is None
        time.sleep(0.01)
    pid = int((tmp_path / "pid").read_text())
    assert is_running(pid)
    running.send_signal(how)
    assert running.wait(timeout=10) == -how
    assert_ends(pid)


def test_a_server_that_never_answers_ends_with_us(vhdx, tmp_path):
    """It says nothing that could fail and hears no connection end: only our own end ends it."""
    running = vhdx.start("info", "[", "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60", "]")
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert_ends(int((tmp_path / "pid").read_text()))


def test_the_server_ends_with_the_work(vhdx, raw_disk, tmp_path):
    script = f"echo $$ > {tmp_path}/pid; exec nbdkit file {raw_disk}"
    vhdx("convert", "[", "sh", "-c", script, "]", "a.vhdx")
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_no_shell_reads_the_command(vhdx, raw_disk, tmp_path):
    odd = tmp_path / "a $(touch pwned); touch pwned & 'b"
    raw_disk.rename(odd)
    vhdx("compare", "[", "nbdkit", "file", odd.name, "]", odd.name)
    assert not (tmp_path / "pwned").exists()


def test_what_the_server_prints_is_not_the_disk(vhdx, raw_disk):
    script = f"echo hello; echo warning >&2; exec nbdkit file {raw_disk}"
    done = vhdx.run("convert", "-O", "raw", "[", "sh", "-c", script, "]", "-")
    assert done.returncode == 0 and done.stdout == raw_disk.read_bytes()
    assert done.stderr == b"hello\nwarning\n"


# --- the command line ---

def test_usage(vhdx, raw_disk):
    for words in (["["], ["[", "nbdkit"], ["[", "]"]):
        assert "command" in vhdx.fails(2, "convert", *words)
    vhdx.fails(2, "convert", "[", "nbdkit", "file", raw_disk, "]")
    vhdx.fails(2, "info", "-f", "qcow2", raw_disk)
    assert "qcow2" in vhdx.fails(2, "convert", "-f", "qcow3", raw_disk, "a.vhdx")


def test_what_is_missing_has_a_name(vhdx, raw_disk, tmp_path):
    assert "vhdx-nbd.so" in vhdx.fails(1, "convert", "nbd://localhost", "a.vhdx",
                                       env={**os.environ, "VHDX_MODULE_PATH": "/nonexistent"})
    (tmp_path / "empty").mkdir()
    assert "qemu-utils" in vhdx.fails(1, "convert", "-f", "qcow2", raw_disk, "a.vhdx",
                                      env={**os.environ, "PATH": str(tmp_path / "empty")})
    assert COMMAND.exists()
