"""vhdx check: findings and exit statuses."""
import hashlib
import json
import os

import pytest

from conftest import MIB


@pytest.fixture
def image(vhdx, tmp_path, raw_disk):
    vhdx("convert", "--block-size", "1M", raw_disk, "a.vhdx")
    return tmp_path / "a.vhdx"


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def bat_offset(vhdx):
    return vhdx.json("info", "--json", "a.vhdx")["bat"]["offset"]


def test_a_good_image(vhdx, image):
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    assert b"No errors were found on the image." in vhdx("check", "a.vhdx")
    assert vhdx("check", "-q", "a.vhdx") == b""
    document = vhdx.json("check", "--json", "a.vhdx")
    assert document["schema"] == 1 and document["check-errors"] == 0 and document["corruptions"] == 0
    assert document["total-clusters"] == 25 and document["allocated-clusters"] > 0
    assert document["summary"]["complete"] is True and document["findings-omitted"] == 0
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before


def test_a_damaged_block(vhdx, image):
    at = bat_offset(vhdx)
    patch(image, at, (6 | 0xfffff << 20).to_bytes(8, "little"))
    done = vhdx.run("check", "--json", "a.vhdx")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    finding = next(f for f in document["findings"] if f["rule"] == "V134")
    assert finding["severity"] == "block" and finding["offset"] == at and finding["message"] and finding["meaning"]
    assert finding["structure"] == "block allocation table" and finding["remedy"] == "bat"
    assert document["corruptions"] == document["summary"]["block"] == 1
    human = vhdx.run("check", "a.vhdx")
    assert human.returncode == 2 and b"V134" in human.stdout and f"offset 0x{at:x}".encode() in human.stdout
    assert b"The file ends before the block does" in human.stdout
    assert b"vhdx serve -r a.vhdx" in human.stdout


def test_both_headers_gone(vhdx, image):
    patch(image, 64 * 1024, bytes(4096))
    assert vhdx.run("check", "a.vhdx").returncode == 0  # one is left
    patch(image, 128 * 1024, bytes(4096))
    assert vhdx.run("check", "a.vhdx").returncode == 2


def test_lost_space_alone(vhdx, image):
    os.truncate(image, image.stat().st_size + 64 * MIB)
    done = vhdx.run("check", "--json", "a.vhdx")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert {f["rule"] for f in document["findings"]} <= {"V148", "V149"} and document["corruptions"] == 0
    assert document["summary"]["leaked-bytes"] >= 64 * MIB


def test_what_cannot_be_checked(vhdx, tmp_path):
    done = vhdx.run("check", "--json", "none.vhdx")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["check-errors"] == 1 and document["error"]["code"] == "NOT_FOUND"
    vhdx.fails(1, "check", ".")


@pytest.mark.parametrize("content", [b"", b"x", bytes(MIB - 1), bytes(2 * MIB), b"vhdxfile" * 500000], ids=len)
def test_what_is_no_image(vhdx, tmp_path, content):
    (tmp_path / "a.vhdx").write_bytes(content)
    done = vhdx.run("check", "--json", "a.vhdx")
    assert done.returncode in (1, 2)
    json.loads(done.stdout)


def test_the_worst_of_several(vhdx, image, tmp_path):
    (tmp_path / "good.vhdx").write_bytes(image.read_bytes())
    (tmp_path / "leaky.vhdx").write_bytes(image.read_bytes() + bytes(64 * MIB))
    patch(image, bat_offset(vhdx), (6 | 0xfffff << 20).to_bytes(8, "little"))
    for status, names in ((3, ["good", "leaky"]), (1, ["leaky", "none", "good"]),
                          (2, ["leaky", "a", "none", "good"])):
        for jobs in ("1", "4"):
            done = vhdx.run("check", "--json", "--jobs", jobs, *[name + ".vhdx" for name in names])
            assert done.returncode == status and len(json.loads(done.stdout)) == len(names)


def test_bad_usage(vhdx):
    assert "Try 'vhdx check --help'" in vhdx.fails(64, "check")
    vhdx.fails(64, "check", "--frobnicate", "a.vhdx")
