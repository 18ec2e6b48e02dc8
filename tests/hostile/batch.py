"""Images looked at together: one process reads all of a batch, which takes a tenth of the time of one for each.

A batch that crashes, hangs or breaks a limit is read again, each image alone, so that the one at fault is named.
The limits of one image hold for the whole batch; a batch that breaks them loses only time.
"""
import hashlib
import json
import os
import pathlib
import tempfile
import unicodedata

import builder
import guest
from verdicts import CASES

SIZE = 16
LARGEST_RESIDENT = 64 * builder.MIB
LONG_AGO = 1_000_000_000_000_000_000  # a time of change that any write replaces, however coarse the clock
READERS = (("check", "--json"), ("check",), ("info", "--json"), ("info",))
READERS_OF_LONG = READERS[:1]
# vhdx check, with several files: the worst of all counts.
WORST_FIRST = (2, 1, 3, 0)


def make_batches():
    """Neighbours share a batch; a case that may take long has its own."""
    batches, current = [], []
    for case in CASES:
        if case.is_long:
            batches.append([case])
            continue
        current.append(case)
        if len(current) == SIZE:
            batches.append(current)
            current = []
    return batches + [current]


def assert_printable(output):
    """Nothing that a terminal would obey, nor that turns the line around."""
    text = output.decode("utf-8")
    bad = {c for c in set(text) - set("\n\t") if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not bad, (bad, text)


def assert_within_limits(done, arguments, cpu_seconds):
    assert done.status is not None, f"{arguments}: hangs"
    assert done.status >= 0, f"{arguments}: ended by signal {-done.status}\n{done.error}"
    assert done.status in (0, 1, 2, 3), (arguments, done)
    assert done.resident <= LARGEST_RESIDENT, (arguments, done)
    assert done.cpu_seconds <= cpu_seconds, (arguments, done)


class Subject:
    """The image of a case, and what the readers said of it: `said[arguments]` has a document, or lines and error."""

    def __init__(self, case, folder):
        self.case = case
        (folder / case.name).mkdir()  # alone there: the neighbours claim to be each other's parents
        self.path = folder / case.name / f"{case.name}.vhdx"
        self.image = builder.Image()
        self.said = {}
        case.bend(self.image)
        self.image.write(self.path)
        os.utime(self.path, ns=(LONG_AGO, LONG_AGO))
        self.before = self.state()

    def state(self):
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            for start, length in guest.data_extents(self.path):
                file.seek(start)
                digest.update(b"%d %d" % (start, length))
                for at in range(0, length, builder.MIB):
                    digest.update(file.read(min(builder.MIB, length - at)))
        return digest.hexdigest(), self.path.stat().st_size, self.path.stat().st_mtime_ns


def split_documents(done, subjects):
    documents = json.loads(done.output)
    if len(subjects) == 1:
        documents = [documents]
    assert len(documents) == len(subjects)
    return documents


def split_text(done, subjects, verb):
    """What was printed for each: check heads it with the name, a message begins with it."""
    output, error = done.output.decode(), done.error.decode()
    for subject in subjects:
        mark = f"vhdx: {subject.path}: "
        lines = [line for line in error.splitlines() if line.startswith(mark)]
        found = ""
        if verb == "check" and f"{subject.path}:\n" in output:
            found = output.split(f"{subject.path}:\n", 1)[1]
            for other in subjects:
                found = found.split(f"{other.path}:\n", 1)[0]
        yield found, "\n".join(lines)


class Batches:
    def __init__(self, run, folder):
        self.run = run
        self.scratch = folder
        self.subjects = {}
        self.folder = None

    def close(self):
        if self.folder is not None:
            self.folder.cleanup()

    def read(self, arguments, subjects):
        """One process for all of them, or, when it misbehaves, one for each."""
        folder = pathlib.Path(self.folder.name)
        done = self.run(folder, *arguments, *(subject.path for subject in subjects))
        try:
            assert_within_limits(done, arguments, max(subject.case.cpu_seconds for subject in subjects))
            assert_printable(done.output)
            assert_printable(done.error)
        except AssertionError as error:
            if len(subjects) == 1:
                subjects[0].said[arguments] = error
                return
            for subject in subjects:
                self.read(arguments, [subject])
            return
        if "--json" in arguments:
            answers = split_documents(done, subjects)
        else:
            answers = split_text(done, subjects, arguments[0])
        for subject, answer in zip(subjects, answers):
            subject.said[arguments] = answer
        if arguments == ("check", "--json"):
            statuses = {status_of_document(subject.said[arguments]) for subject in subjects}
            assert done.status == next(status for status in WORST_FIRST if status in statuses), (done, statuses)
        elif arguments == ("info", "--json"):
            assert done.status == int(any("error" in subject.said[arguments] for subject in subjects)), done

    def subject(self, case):
        if case.name not in self.subjects:
            self.close()
            self.folder = tempfile.TemporaryDirectory(prefix="vhdx-hostile-", dir=self.scratch)
            cases = next(cases for cases in make_batches() if case in cases)
            self.subjects = {c.name: Subject(c, pathlib.Path(self.folder.name)) for c in cases}
            for arguments in READERS_OF_LONG if case.is_long else READERS:
                self.read(arguments, list(self.subjects.values()))
        return self.subjects[case.name]


def status_of_document(document):
    """The exit status that goes with what check found in one file."""
    if "error" in document:
        return 1
    severities = {finding["severity"] for finding in document["findings"]}
    if severities & {"refuse", "read-only", "block"}:
        return 2
    return 3 if {finding["rule"] for finding in document["findings"]} & {"V148", "V149"} else 0
