#!/usr/bin/env python3
"""Count test results: meson's testlog.json files and pytest's JUnit files, whatever is given.

    count-results.py FILE...

The first line of the output is `PASSED FAILED SKIPPED`; then, for each failure, its name and the end of what it
printed.  A TAP program counts by its lines, any other test as one.  A program that fails although all of its lines
are good (a leak found at exit, a crash after the last test) is one failure more.
"""
import json
import re
import sys
import xml.etree.ElementTree as ElementTree

LINES_OF_A_FAILURE = 30
TAP_LINE = re.compile(r'^(not )?ok\b(?:\s+\d+)?\s*(?:-\s*)?(.*?)\s*(?:#\s*(skip|todo)\b.*)?$', re.I)


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def fail(self, name, output):
        self.failed += 1
        self.failures.append((name, output))


def count_tap(counts, name, output):
    """Count the lines of one TAP program; tell how many there were and how many of them failed."""
    lines = failed = 0
    for line in output.splitlines():
        match = TAP_LINE.match(line)
        if not match:
            continue
        lines += 1
        if match.group(3):
            counts.skipped += 1
        elif match.group(1):
            failed += 1
            counts.fail(f'{name}: {match.group(2)}', output if failed == 1 else '')
        else:
            counts.passed += 1
    return lines, failed


def count_meson(counts, path):
    with open(path, encoding='utf-8') as log:
        for line in log:
            test = json.loads(line)
            output = test.get('stdout', '')
            name = test['name']
            # cmocka 1.1 says "not ok # SKIP", which meson takes for a failure.
            good = test['result'] in ('OK', 'EXPECTEDFAIL') or test['result'] == 'FAIL' and test['returncode'] == 0
            lines, failed = (0, 0)
            if re.search(r'^1\.\.\d+', output, re.M):
                lines, failed = count_tap(counts, name, output)
            if test['result'] == 'SKIP':
                counts.skipped += lines == 0
            elif good:
                counts.passed += lines == 0
            elif failed == 0:
                counts.fail(f'{name}: {test["result"].lower()}', output + '\n' + test.get('stderr', ''))


def count_junit(counts, path):
    for case in ElementTree.parse(path).iter('testcase'):
        problem = case.find('failure')
        if problem is None:
            problem = case.find('error')
        if problem is not None:
            counts.fail(f'{case.get("classname")}.{case.get("name")}', problem.text or problem.get('message'))
        elif case.find('skipped') is not None:
            counts.skipped += 1
        else:
            counts.passed += 1


def main():
    counts = Counts()
    for path in sys.argv[1:]:
        (count_junit if path.endswith('.xml') else count_meson)(counts, path)
    print(counts.passed, counts.failed, counts.skipped)
    for name, output in counts.failures:
        print(f'FAILED {name}')
        for line in (output or '').strip().splitlines()[-LINES_OF_A_FAILURE:]:
            print(f'    {line}')


main()
