"""What a case is, and what is to become of it."""
import dataclasses
from typing import Callable


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`rules`: exactly those that `check` names, by number; `follow` it may name too, as they follow from those.

    opens       opened for reading; the guest reads what the image's description says
    writable    opened for writing too
    rule, code  why it is refused, where it is
    bad_blocks  reads that touch these guest blocks fail, all others do not
    is_child    reading needs the parent, which nobody gives: info and check work, the rest is refused
    """
    rules: frozenset
    follow: frozenset = frozenset()
    opens: bool = True
    writable: bool = False
    rule: int = 0
    code: str = ""
    bad_blocks: tuple = ()
    is_child: bool = False


def good(*rules):
    """Opens with the right bytes, for writing too; `rules` are warnings and small repairs."""
    return Verdict(frozenset(rules), writable=True)


def read_only(rule, *also, follow=()):
    """Opens with the right bytes; is not opened for writing before a repair."""
    return Verdict(frozenset((rule, *also)), frozenset(follow), rule=rule)


def bad_blocks(rule, *blocks, also=(), follow=()):
    """Opens, for reading only; reads that touch these blocks fail."""
    return Verdict(frozenset((rule, *also)), frozenset(follow), rule=rule, bad_blocks=blocks)


def refused(rule, code, *also, follow=()):
    return Verdict(frozenset((rule, *also)), frozenset(follow), opens=False, rule=rule, code=code)


def not_vhdx():
    """Nothing says that it is a VHDX: all verbs leave it alone; check names the rule, and nothing behind it."""
    return Verdict(frozenset((2,)), opens=False, code="NOT_VHDX")


def child(*rules, follow=()):
    """A differencing image whose own structures can be looked at."""
    return Verdict(frozenset(rules), frozenset(follow), is_child=True)


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    about: str
    verdict: Verdict
    bend: Callable
    can_convert: bool = True  # its disk fits the file system here
    cpu_seconds: float = 1    # that one verb may take
    is_of_table: bool = False # one of many alike: the disk is read once, through the last verb that leaves it so

    @property
    def is_long(self):
        """Only what differs from verb to verb is asked: each reads the log once."""
        return self.cpu_seconds > 1


CASES = []


def case(name, about, verdict, bend, **more):
    """`bend` is handed a good Image and puts in the one fault."""
    assert name not in (known.name for known in CASES), name
    CASES.append(Case(name, about, verdict, bend, **more))


def case_of_table(name, about, verdict, bend):
    case(name, about, verdict, bend, is_of_table=True)
