"""Damaged and hostile images: what the command makes of each, and what it may not do."""
import json
import pathlib
import re

import pytest

import batch
import builder
import cases_bat  # noqa: F401
import cases_fields  # noqa: F401
import cases_head  # noqa: F401
import cases_locator  # noqa: F401
import cases_log  # noqa: F401
import cases_metadata  # noqa: F401
import cases_places  # noqa: F401
import cases_region  # noqa: F401
import guest
from batch import assert_printable

MIB = builder.MIB
READ_BACK = 4096


def read_severities():
    """Rule -> the words of its severity, from section 8 of the digest."""
    words = {"REFUSE": "refuse", "RO": "read-only", "REPAIR": "repair", "WARN": "warn", "block error": "block",
             "copy not usable": "repair", "entry not valid": "warn"}
    digest = pathlib.Path(__file__).resolve().parents[2] / "docs" / "vhdx-format.md"
    rules = {}
    for line in digest.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| V(\d+) \|.*\| ([^|]+) \|$", line):
            rules[f"V{match[1]}"] = {word for mark, word in words.items()
                                     if re.search(rf"(?<![A-Z]){mark}(?![A-Z])", match[2])}
    return rules


SEVERITIES = read_severities()


def numbered(rules):
    return {f"V{rule}" for rule in rules}


class Examination:
    """What the command does with the image of one case."""

    def __init__(self, subject, meter):
        self.subject = subject
        self.case, self.verdict = subject.case, subject.case.verdict
        self.image, self.path = subject.image, subject.path
        self.meter = meter

    def run(self, *arguments):
        """Run a verb within the limits; its status is looked at by the caller."""
        done = self.meter(*arguments)
        batch.assert_within_limits(done, arguments, self.case.cpu_seconds)
        assert_printable(done.output)
        assert_printable(done.error)
        return done

    def said(self, *arguments):
        """What a reader of the whole batch said of this one."""
        answer = self.subject.said[arguments]
        if isinstance(answer, AssertionError):
            raise answer
        return answer

    def assert_refused(self, done):
        """A sentence with the file, the rule, the place and the numbers."""
        assert done.status == 1, (done, "should be refused")
        self.assert_message(done.error.decode())

    def assert_message(self, message):
        assert message.startswith("vhdx: ") and self.path.name in message
        if self.verdict.rule:
            assert re.search(rf"\bV{self.verdict.rule}\b", message) and "offset 0x" in message, message
        assert re.search(r"\d", message)

    def look_at(self):
        self.check()
        if self.case.is_long:
            return
        self.info()
        if self.case.is_of_table and (self.verdict.writable or not self.verdict.opens):
            return
        if self.verdict.opens:
            self.map()
        if self.case.can_convert:
            self.convert()
        else:
            self.read(0)

    def check(self):
        document = self.said("check", "--json")
        if self.verdict.code == "NOT_VHDX":
            assert (document["error"]["code"], document["error"]["rule"]) == ("NOT_VHDX", "V2"), document
            return
        found = {}
        for finding in document["findings"]:
            found.setdefault(finding["rule"], finding)
        assert set(found) - numbered(self.verdict.follow) == numbered(self.verdict.rules), document["findings"]
        for rule, finding in found.items():
            assert finding["severity"] in SEVERITIES[rule], finding
            assert finding["message"] and finding["part"] and finding["offset"] >= 0
        worst = {finding["severity"] for finding in document["findings"]}
        assert ("refuse" in worst) == (not self.verdict.opens), worst
        if self.verdict.opens and not self.verdict.is_child:
            assert ("block" in worst) == bool(self.verdict.bad_blocks), worst
        if self.verdict.writable:
            assert not worst & {"refuse", "read-only", "block"}, worst
        if found and not self.case.is_long:
            human, _ = self.said("check")
            assert all(f"({rule}," in human for rule in found), human

    def info(self):
        document = self.said("info", "--json")
        _, message = self.said("info")
        if self.verdict.opens:
            assert document["virtual-size"] == self.image.disk_size and message == ""
        else:
            error = document["error"]
            assert error["code"] == self.verdict.code, error
            if self.verdict.rule:
                assert error["rule"] == f"V{self.verdict.rule}" and error["severity"] == "refuse", error
            assert error["part"] and error["message"] and error["offset"] >= 0
            self.assert_message(message)

    def map(self):
        done = self.run("map", "--json", self.path)
        document = json.loads(done.output)
        if done.status == 0:
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


def parameters():
    """With `--dist loadgroup` a batch is one worker's."""
    for number, cases in enumerate(batch.make_batches()):
        for case in cases:
            yield pytest.param(case, id=case.name, marks=pytest.mark.xdist_group(f"batch-{number}"))


@pytest.mark.parametrize("case", parameters())
def test_case(case, batches, meter):
    subject = batches.subject(case)
    examination = Examination(subject, meter)
    examination.look_at()
    if case.verdict.writable:
        assert subject.state() == subject.before, "reading wrote"
    examination.write()
    if not case.verdict.writable:
        assert subject.state() == subject.before, "what is refused is not touched"


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
