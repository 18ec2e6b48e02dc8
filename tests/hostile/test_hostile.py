"""Damaged and hostile images: what the command makes of each, and what it may not do."""
import json
import pathlib
import re
import unicodedata

import pytest

import builder
import cases_bat  # noqa: F401
import cases_head  # noqa: F401
import cases_locator  # noqa: F401
import cases_log  # noqa: F401
import cases_metadata  # noqa: F401
import cases_region  # noqa: F401
import guest
from verdicts import CASES

MIB = builder.MIB
LARGEST_RESIDENT = 64 * MIB
READ_BACK = 4096


def read_severities():
    """Rule -> the words of its severity, from section 8 of the digest."""
    words = {"REFUSE": "refuse", "RO": "read-only", "REPAIR": "repair", "WARN": "warn", "block error": "block",
             "copy not usable": "repair"}
    digest = pathlib.Path(__file__).resolve().parents[2] / "docs" / "vhdx-format.md"
    rules = {}
    for line in digest.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| V(\d+) \|.*\| ([^|]+) \|$", line):
            rules[f"V{match[1]}"] = {word for mark, word in words.items()
                                     if re.search(rf"(?<![A-Z]){mark}(?![A-Z])", match[2])}
    return rules


SEVERITIES = read_severities()


def assert_printable(output):
    """Nothing that a terminal would obey, nor that turns the line around."""
    text = output.decode("utf-8")
    bad = [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert not bad, (bad, text)


def numbered(rules):
    return {f"V{rule}" for rule in rules}


class Subject:
    """One image of a case and what the command does with it."""

    def __init__(self, case, meter, path):
        self.case = case
        self.verdict = case.verdict
        self.meter = meter
        self.path = path
        self.image = builder.Image()
        case.bend(self.image)
        self.image.write(path)

    def state(self):
        return guest.pages_of_file(self.path), self.path.stat().st_size, self.path.stat().st_mtime_ns

    def run(self, *arguments):
        """Run a verb within the limits; its status is looked at by the caller."""
        done = self.meter(*arguments)
        assert done.status is not None, f"{arguments}: hangs"
        assert done.status >= 0, f"{arguments}: ended by signal {-done.status}\n{done.error}"
        assert done.status in (0, 1, 2, 3), (arguments, done)
        assert done.resident <= LARGEST_RESIDENT, (arguments, done)
        assert done.cpu_seconds <= self.case.cpu_seconds, (arguments, done)
        assert_printable(done.output)
        assert_printable(done.error)
        return done

    def assert_refused(self, done):
        """A sentence with the file, the rule, the place and the numbers."""
        message = done.error.decode()
        assert done.status == 1, (done, "should be refused")
        assert message.startswith("vhdx: ") and self.path.name in message
        if self.verdict.rule:
            assert re.search(rf"\bV{self.verdict.rule}\b", message) and "offset 0x" in message, message
        assert re.search(r"\d", message)

    def look_at(self):
        self.check()
        self.info()
        self.map()
        if self.case.can_convert:
            self.convert()
        else:
            self.read(0)

    def check(self):
        done = self.run("check", "--json", self.path)
        document = json.loads(done.output)
        if not self.verdict.opens and not self.verdict.rules:
            assert done.status == 1 and document["error"]["code"] == self.verdict.code, document
            return
        found = {finding["rule"]: finding for finding in document["findings"]}
        assert set(found) - numbered(self.verdict.follow) == numbered(self.verdict.rules), document["findings"]
        for rule, finding in found.items():
            assert finding["severity"] in SEVERITIES[rule], finding
            assert finding["message"] and finding["part"] and finding["offset"] >= 0
        worst = {finding["severity"] for finding in document["findings"]}
        if worst & {"refuse", "read-only", "block"}:
            assert done.status == 2
        else:
            assert done.status in (0, 3)
        assert ("refuse" in worst) == (not self.verdict.opens), worst
        if self.verdict.opens and not self.verdict.is_child:
            assert ("block" in worst) == bool(self.verdict.bad_blocks), worst
        if self.verdict.writable:
            assert not worst & {"refuse", "read-only", "block"}, worst
        if found:
            human = self.run("check", self.path)
            assert human.status == done.status
            assert all(f"({rule}," in human.output.decode() for rule in found), human.output

    def info(self):
        done = self.run("info", "--json", self.path)
        document = json.loads(done.output)
        if self.verdict.opens:
            assert done.status == 0, done
            assert document["virtual-size"] == self.image.disk_size
            self.run("info", self.path)
        else:
            error = document["error"]
            assert (done.status, error["code"]) == (1, self.verdict.code), error
            if self.verdict.rule:
                assert error["rule"] == f"V{self.verdict.rule}" and error["severity"] == "refuse", error
            assert error["part"] and error["message"] and error["offset"] >= 0
            self.assert_refused(self.run("info", self.path))

    def map(self):
        done = self.run("map", "--json", self.path)
        document = json.loads(done.output)
        if not self.verdict.opens:
            assert document["error"]["code"] == self.verdict.code, document
        elif done.status == 0:
            assert sum(extent["length"] for extent in document) == self.image.disk_size
        else:
            assert self.verdict.bad_blocks or self.verdict.is_child, document

    def convert(self):
        target = self.path.with_name("out.raw")
        done = self.run("convert", "-f", "vhdx", "-O", "raw", self.path, target)
        if self.verdict.is_child:
            assert done.status == 1 and b"parent" in done.error
        elif not self.verdict.opens or self.verdict.bad_blocks:
            self.assert_refused(done)
        else:
            assert done.status == 0, done
            self.assert_contents(target)
        if done.status != 0:
            assert not target.exists(), "what could not be finished is not there"
        for block in self.verdict.bad_blocks:
            self.assert_refused(self.read(block))
        if self.verdict.bad_blocks:
            assert self.read(next(block for block in range(4) if block not in self.verdict.bad_blocks)).status == 0

    def read(self, block):
        return self.run("bench", "-f", "vhdx", "-q", "-c", "1", "-d", "1", "-o", block * MIB, self.path)

    def assert_contents(self, raw):
        expected = guest.PageDigest()
        for block, data in sorted(self.image.disk.items()):
            expected.add(block * MIB, data)
        assert raw.stat().st_size == self.image.disk_size
        assert guest.pages_of_file(raw) == expected.hexdigest()
        raw.unlink()

    def write(self):
        """Write one page to block 1.  A good image takes it and has nothing else changed."""
        done = self.run("bench", "-f", "vhdx", "-q", "-w", "-c", "1", "-d", "1", "-o", MIB, "--pattern", "90",
                        self.path)
        if not self.verdict.writable:
            if self.verdict.is_child:
                assert done.status == 1 and done.error
            else:
                self.assert_refused(done)
            return
        assert done.status == 0, done
        self.image.disk[1] = b"Z" * READ_BACK + self.image.disk.get(1, bytes(MIB))[READ_BACK:]
        if self.case.can_convert:
            self.convert()
        assert self.run("check", "-q", self.path).status in (0, 3)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case, meter, tmp_path):
    subject = Subject(case, meter, tmp_path / f"{case.name}.vhdx")
    before = subject.state()
    subject.look_at()
    assert subject.state() == before, "reading wrote"
    subject.write()
    if not case.verdict.writable:
        assert subject.state() == before, "what is refused is not touched"


@pytest.mark.parametrize("verb", [["info"], ["info", "--json"], ["check"], ["check", "--json"], ["map"],
                                  ["replay"]])
@pytest.mark.parametrize("good", [True, False])
def test_a_file_name_is_not_obeyed(meter, tmp_path, verb, good):
    """A name that clears the screen, begins a new line and turns the text around."""
    path = tmp_path / "\x1b[2J\x07a\nname\u202e\x9b31m.vhdx"
    image = builder.Image()
    if not good:
        image.change_headers(version=9)
    image.write(path)
    done = meter(*verb, path)
    assert (done.status == 0) == good
    assert_printable(done.output)
    assert_printable(done.error)
    assert (done.output + done.error).count(b"\nname") == 0
