"""What is sound raises no finding: new images of every kind by us and by QEMU.  Those of others are in tests/samples."""
import itertools
import json

import pytest

from conftest import BLOCK_SIZES, MIB

SECTORS = ["512", "4096"]
SIZES = ["4096", "3M", "5M", "64M", "2041G", "64T"]
SMALL = 3 * MIB

# True of what QEMU makes: its regions are not marked required; its files end where the disk ends, in the middle of a
# block; its "fixed" ones do not hold every block, though the space is there, which then belongs to nothing.
TRUE_OF_QEMU = {"V69", "V136", "V146", "V147", "V149"}


def findings(vhdx, names):
    """Name -> the rules that check names; one process for all."""
    done = vhdx.run("check", "--json", *names)
    assert done.returncode in (0, 3), done.stderr
    documents = json.loads(done.stdout)
    return {document["filename"]: {finding["rule"] for finding in document["findings"]} for document in documents}


def expected(vhdx, name):
    """A disk under 3 MiB is told of (V107), nothing else."""
    return {"V107"} if vhdx.json("info", "--json", name)["virtual-size"] < SMALL else set()


def test_ours(vhdx, tmp_path):
    names = []

    def create(*arguments):
        names.append(f"{len(names)}.vhdx")
        vhdx("create", "-q", *arguments[:-1], names[-1], arguments[-1])

    for block_size, sector in itertools.product(BLOCK_SIZES, SECTORS):
        options = ["--block-size", f"{block_size}M", "--logical-sector", sector]
        create(*options, "7M")
        create(*options, "--type", "fixed", "7M")
    for size, sector in itertools.product(SIZES, SECTORS):
        create("--logical-sector", sector, size)
    for parent in names[:36:5]:
        names.append(f"child-of-{parent}")
        vhdx("create", "-q", "--parent", parent, names[-1])
        vhdx("bench", "-q", "-w", "-c", "3", "-d", "1", "-s", "8K", "-S", "1M", names[-1])
    for name, rules in findings(vhdx, names).items():
        assert rules == expected(vhdx, name), name


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_qemu(vhdx, peers, subformat):
    names = []
    for options in [*(f"block_size={size}M" for size in BLOCK_SIZES), "log_size=2M", "log_size=64M",
                    "block_state_zero=off", "block_state_zero=on"]:
        for size in ["2M", "40M"] + (["64T"] if subformat == "dynamic" and options.endswith("256M") else []):
            names.append(f"{len(names)}.vhdx")
            peers.peer("qemu-img", "create", "-q", "-f", "vhdx", "-o", f"subformat={subformat},{options}",
                       names[-1], size)
    for name, rules in findings(vhdx, names).items():
        assert "V69" in rules and rules - TRUE_OF_QEMU == expected(vhdx, name), name
