"""vhdx info."""
import json
import os
import shutil
import subprocess

import pytest

from conftest import COMMAND


def test_keys_of_qemu_img_mean_the_same(vhdx, peer):
    vhdx("create", "a.vhdx", "100M")
    theirs = json.loads(peer("qemu-img", "info", "--output=json", "a.vhdx"))
    ours = vhdx.json("info", "--output=json", "a.vhdx")
    for key in ("virtual-size", "filename", "cluster-size", "format", "actual-size", "dirty-flag"):
        assert ours[key] == theirs[key], key
    assert ours["schema"] == 1
    human = vhdx("info", "a.vhdx").decode().splitlines()
    for line in peer("qemu-img", "info", "a.vhdx").decode().splitlines()[:5]:
        assert line in human


def test_everything_about_an_image(vhdx):
    vhdx("create", "a.vhdx", "100M")
    info = vhdx.json("info", "--json", "a.vhdx")
    assert info["type"] == "dynamic" and info["block-count"] == 50
    assert info["file-size"] == os.path.getsize(vhdx.directory / "a.vhdx")
    assert info["log"]["guid"] == "00000000-0000-0000-0000-000000000000"
    assert info["bat"]["offset"] % (1 << 20) == 0 and info["metadata"]["length"] >= 1 << 20
    assert info["findings"] == {"count": 0} and info["creator"].startswith("libvhdx")
    assert "parent-locator" not in info
    human = vhdx("info", "a.vhdx").decode()
    assert f"header sequence number: {info['header-sequence-number']}\n" in human and "log guid" not in human
    assert "entry-count" not in info["log"]
    assert f"disk id: {info['disk-id']}\n" in human and "log: 1 MiB at 0x" in human


def test_several_files_one_of_them_bad(vhdx, tmp_path):
    for name in ("a.vhdx", "b.vhdx"):
        vhdx("create", name, "10M")
    (tmp_path / "bad.vhdx").write_bytes(b"not an image" * 100000)
    for jobs in ("1", "3"):
        done = vhdx.run("info", "--json", "--jobs", jobs, "a.vhdx", "bad.vhdx", "none.vhdx", "b.vhdx")
        assert done.returncode == 1
        documents = json.loads(done.stdout)
        assert [d["filename"] for d in documents] == ["a.vhdx", "bad.vhdx", "none.vhdx", "b.vhdx"]
        assert [d.get("error", {}).get("code") for d in documents] == [None, "NOT_VHDX", "NOT_FOUND", None]
    done = vhdx.run("info", "a.vhdx", "none.vhdx", "b.vhdx")
    assert done.returncode == 1 and done.stdout.count(b"image: ") == 2


def test_failure_is_a_document_with_three_parts(vhdx, tmp_path):
    (tmp_path / "bad.vhdx").write_bytes(b"not an image" * 100000)
    done = vhdx.run("info", "--json", "bad.vhdx")
    document = json.loads(done.stdout)
    assert document["schema"] == 1 and document["error"]["code"] == "NOT_VHDX" and document["error"]["message"]
    text = done.stderr.decode().splitlines()
    assert text[0].startswith("vhdx: bad.vhdx: ") and text[2].startswith("  Help: ")


@pytest.mark.parametrize("arguments, kind", [([], "dynamic"), (["--type", "fixed"], "fixed")])
def test_predicates(vhdx, arguments, kind):
    vhdx("create", *arguments, "a.vhdx", "10M")
    for question in ("differencing", "fixed", "dynamic", "dirty"):
        done = vhdx.run("info", "--is", question, "a.vhdx")
        assert done.returncode == (0 if question == kind else 2) and done.stdout == b""
    vhdx.fails(1, "info", "--is", "dynamic", "none.vhdx")
    vhdx.fails(1, "info", "--is", "nonsense", "a.vhdx")


def test_raw_disk_on_request_only(vhdx, raw_disk):
    vhdx.fails(1, "info", raw_disk)
    info = vhdx.json("info", "-f", "raw", "--json", raw_disk)
    assert info["format"] == "raw" and info["virtual-size"] == os.path.getsize(raw_disk) and "type" not in info


@pytest.mark.parametrize("name", [b"esc\x1b[2J.vhdx", b"csi\xc2\x9b2J.vhdx", b"bad\xff\xc0\xafutf.vhdx",
                                  "bidi\u202e\u2066.vhdx".encode(), b'quote".vhdx', b"back\\slash.vhdx",
                                  "gl\u00fcck\U0001f600.vhdx".encode(), "tag\U000e0041.vhdx".encode()])
def test_names_are_harmless_in_json_and_on_a_terminal(vhdx, name):
    vhdx("create", "-q", name, "10M")
    for output in (vhdx("info", "--json", name), vhdx("info", name)):
        text = output.decode()  # well-formed UTF-8
        assert not any(c in text for c in "\x1b\x9b\u202e\u2066\x7f\U000e0041")
    document = json.loads(vhdx("info", "--json", name))
    assert document["filename"].encode() == name.decode(errors="replace").encode()


def measure(*arguments):
    """Processor seconds and KiB of memory.  time(1) starts it, since a child inherits the peak of its parent."""
    if shutil.which("time") is None:
        pytest.skip("time is not installed")
    done = subprocess.run(["time", "-f", "%U %S %M", COMMAND, *arguments], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=True)
    user, system, memory = map(float, done.stderr.split())
    return user + system, memory


def test_a_disk_of_64_tib_takes_no_memory_and_no_time(vhdx, tmp_path):
    if any(name in COMMAND.read_bytes() for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("a sanitizer takes time and memory of its own")
    vhdx("create", "--block-size", "1M", "a.vhdx", "64T")
    runs = [measure("info", tmp_path / "a.vhdx") for _ in range(5)]
    assert min(seconds for seconds, _ in runs) <= 0.02
    assert max(memory for _, memory in runs) < 8 * 1024
