"""vhdx bench."""
import json

import pytest

from conftest import MIB


def test_reads_and_writes_where_it_says(vhdx, tmp_path):
    vhdx("create", "--block-size", "1M", "a.vhdx", "16M")
    vhdx("bench", "-w", "-c", "3", "-d", "1", "-s", "512", "-S", "1M", "-o", "4K", "--pattern", "170", "a.vhdx")
    vhdx("convert", "a.vhdx", "a.raw")
    expected = bytearray(16 * MIB)
    for i in range(3):
        expected[4096 + i * MIB:4096 + i * MIB + 512] = b"\xaa" * 512
    assert (tmp_path / "a.raw").read_bytes() == expected


def test_wraps_at_the_end_of_the_disk(vhdx, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(64 * 1024))
    vhdx("bench", "-f", "raw", "-w", "-c", "4", "-d", "2", "-s", "4K", "-S", "20K", "-o", "44K", "--pattern", "1",
         "a.raw")
    data = (tmp_path / "a.raw").read_bytes()
    assert [i for i in range(16) if data[i * 4096]] == [0, 5, 10, 11]


@pytest.mark.parametrize("extra", [[], ["--random"], ["-w"], ["-w", "--flush-interval", "10", "--no-drain"]])
def test_report(vhdx, extra):
    vhdx("create", "a.vhdx", "16M")
    document = vhdx.json("bench", "--json", "-c", "100", "-d", "4", *extra, "a.vhdx")
    assert document["count"] == 100 and document["depth"] == 4 and document["size"] == document["step"] == 4096
    assert document["operation"] == ("write" if "-w" in extra else "read")
    assert document["flush-count"] == (10 if "--flush-interval" in extra else 0)
    assert abs(document["requests-per-second"] * document["seconds"] - 100) < 1
    human = vhdx("bench", "-c", "100", "-d", "4", *extra, "a.vhdx").decode()
    assert human.startswith("Sending 100 ") and "Run completed in " in human and " requests/s, " in human


def test_the_words_of_qemu_img(vhdx, peer, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(MIB))
    options = ["-c", "10", "-d", "2", "-s", "4096", "-S", "8192", "-o", "4096", "-f", "raw", "a.raw"]
    theirs = peer("qemu-img", "bench", *options).decode().splitlines()
    assert vhdx("bench", *options).decode().splitlines()[0] == theirs[0]


@pytest.mark.parametrize("arguments", [["-c", "0"], ["-d", "0"], ["-s", "0"], ["--pattern", "256", "-w"],
                                       ["--flush-interval", "4"], ["-w", "-U"], ["-S", "16000000T"]])
def test_bad_usage(vhdx, arguments):
    vhdx("create", "a.vhdx", "16M")
    vhdx.fails(2, "bench", *arguments, "a.vhdx")


def test_failures(vhdx, tmp_path):
    (tmp_path / "small.raw").write_bytes(bytes(512))
    assert "less than one request" in vhdx.fails(1, "bench", "-f", "raw", "small.raw")
    done = vhdx.run("bench", "--json", "none.vhdx")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "NOT_FOUND"
