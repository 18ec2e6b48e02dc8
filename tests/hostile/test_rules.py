"""No rule without an image that breaks it alone; that `check` names it, the tests of the images see."""
import pathlib
import re

import pytest

import test_hostile
from rules import BEYOND_IMAGES, BROKEN_BY, OF_CHAINS
from verdicts import CASES

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGEST = ROOT / "docs" / "vhdx-format.md"
CHAINS = ROOT / "tests" / "command" / "test_check_chain.py"
BY_NAME = {case.name: case for case in CASES}


def rules_of_the_digest():
    section = DIGEST.read_text(encoding="utf-8").split("\n## 8. ")[1].split("\n## 9. ")[0]
    return [int(number) for number in re.findall(r"^\| V(\d+) \|", section, re.MULTILINE)]


def test_every_rule_has_its_image():
    rules = rules_of_the_digest()
    assert len(rules) > 130 and len(set(rules)) == len(rules)
    assert sorted([*BROKEN_BY, *OF_CHAINS, *BEYOND_IMAGES]) == rules
    assert {f"V{rule}" for rule in rules} == set(test_hostile.SEVERITIES)


@pytest.mark.parametrize("rule", BROKEN_BY)
def test_the_image_breaks_it_alone(rule):
    """The verdict, which the test of the case holds `check` to, has this rule and what follows from it."""
    name, unavoidable = BROKEN_BY[rule]
    verdict = BY_NAME[name].verdict
    assert verdict.rules == {rule, *unavoidable} and not verdict.follow
    assert all(unavoidable.values())




@pytest.mark.parametrize("rule", OF_CHAINS)
def test_a_chain_breaks_it(rule):
    tests = dict(re.findall(r"^def (test_\w+)(.*?)(?=^def |\Z)", CHAINS.read_text(encoding="utf-8"), re.M | re.S))
    assert f'"V{rule}"' in tests[OF_CHAINS[rule]]


def test_enough_images():
    assert len(CASES) >= 800
