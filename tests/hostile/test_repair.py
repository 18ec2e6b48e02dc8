"""Repairing the images: what the table of rules says can be mended is mended, and every repair can be taken back.

VHDX_HOSTILE_REPAIR=all takes every image; else there are two of each kind of fault, and none that tables made.
"""
import json
import os
import pathlib
import re

import pytest

import batch
import guest
import test_hostile
from verdicts import CASES

CLASSES = {"HEADERS", "REGIONS", "LOG", "METADATA", "BAT", "LEAKS", "REPLAY"}
OF_BITMAPS = {"V141", "V143", "V144"}  # one of them is named when the bitmap stays as it is
BROKEN = {"repair", "read-only", "block", "refuse"}
RULES = pathlib.Path(__file__).resolve().parents[2] / "src" / "format" / "rules.def"
IS_ALL = os.environ.get("VHDX_HOSTILE_REPAIR") == "all"


def read_remedies():
    """Rule -> the class that mends it, from the table of rules."""
    rows = re.findall(r"^VX_RULE\((\d+),.*?([A-Z]+)\)$", RULES.read_text(encoding="utf-8"), re.M | re.S)
    return {f"V{number}": remedy for number, remedy in rows}


REMEDIES = read_remedies()


class Repair:
    """One image, mended in every class at once."""

    def __init__(self, case, meter, folder):
        self.case = case
        self.subject = batch.Subject(case, folder)
        self.path, self.undo = self.subject.path, folder / "undo"
        self.meter = meter

    def run(self, *arguments):
        done = self.meter(*arguments)
        batch.assert_within_limits(done, arguments, max(self.case.cpu_seconds, 2))
        batch.assert_printable(done.output)
        batch.assert_printable(done.error)
        return done

    def mend(self, *arguments):
        done = self.run("check", "-r", "all", "--json", *arguments, self.path)
        return done, json.loads(done.output)

    def assert_mended(self, done, document):
        """What is left no class can mend, or it rests on such a thing, or the repair says why it leaves it."""
        left = {step["rule"] for step in document["repair"]["steps"] if step["left"]}
        left |= OF_BITMAPS if left & OF_BITMAPS else set()
        still = {finding["rule"]: finding["severity"] for finding in document["findings"]
                 if finding["severity"] in BROKEN}
        verdict = self.case.verdict
        if not verdict.opens and verdict.rules == {verdict.rule} and REMEDIES[f"V{verdict.rule}"] not in CLASSES:
            assert f"V{verdict.rule}" in still, "nothing but a guess would mend it, and a guess was made"
        is_beyond = any(severity == "refuse" and (rule in left or REMEDIES[rule] not in CLASSES)
                        for rule, severity in still.items())
        if not is_beyond:
            assert not {rule for rule in set(still) - left if REMEDIES[rule] in CLASSES}, (still, left)
        assert done.status == batch.status_of_document(document), document

    def assert_contents(self, document):
        """Nothing is lost unless it is told.  What a log without a valid entry held, nobody can know (V30)."""
        is_lost = any(step["loss"] or step["rule"] == "V30" for step in document["repair"]["steps"])
        if is_lost or self.case.verdict.is_child or not self.case.can_convert:
            return
        examination = test_hostile.Examination(self.subject, self.meter)
        target = self.path.with_name("out.raw")
        done = self.run("convert", "-f", "vhdx", "-O", "raw", self.path, target)
        if any(finding["severity"] in ("refuse", "block") for finding in document["findings"]):
            assert done.status == 1, done
        else:
            assert done.status == 0, done
            examination.assert_contents(target)


def cases():
    """Two of each kind of fault, unless all are wanted: those with the same verdict."""
    seen = {}
    for case in CASES:
        verdict = case.verdict
        seen[verdict] = seen.get(verdict, 0) + 1
        if not case.is_long and (IS_ALL or seen[verdict] <= 2 and not case.is_of_table):
            yield pytest.param(case, id=case.name)


@pytest.mark.parametrize("case", cases())
def test_repair(meter, tmp_path, case):
    repair = Repair(case, meter, tmp_path)
    before = guest.pages_of_file(repair.path), repair.path.stat().st_size
    done, document = repair.mend("--undo", repair.undo)
    if "error" in document:
        assert done.status == 1 and document["error"]["message"], document
        assert repair.subject.state() == repair.subject.before, "what is refused is not touched"
        return
    repair.assert_mended(done, document)
    repair.assert_contents(document)

    mended = guest.file_digest(repair.path) if repair.path.stat().st_size < 64 << 20 else None
    _, again = repair.mend()
    if {"V148", "V149"} & {step["rule"] for step in document["repair"]["steps"] if step["left"]}:
        # Where something was given up, its space stays until the next run.
        assert {step["class"] for step in again["repair"]["steps"]} <= {"leaks"}, again["repair"]
        return
    assert again["repair"]["done"] == 0 and again["findings"] == document["findings"], again["repair"]
    assert mended is None or guest.file_digest(repair.path) == mended, "a second run finds nothing"

    if document["repair"]["done"] > 0:
        assert repair.run("check", "--apply-undo", repair.undo, repair.path).status == 0
        assert (guest.pages_of_file(repair.path), repair.path.stat().st_size) == before, "every byte is as it was"
