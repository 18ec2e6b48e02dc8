"""Help, version, and what the command answers to a wrong command line."""
import json
import re

import pytest

VERBS = ["create", "info", "map", "check", "convert", "compare", "measure", "compact", "trim", "merge", "rebase", "flatten", "tree", "diff",
         "resize", "replay", "salvage", "dump", "meta", "serve", "mount", "unmount", "bench"]


def test_help_lists_the_verbs_and_no_others(vhdx):
    for option in ("--help", "-h"):
        text = vhdx(option).decode()
        assert re.findall(r"^  ([a-z]+) +[A-Z]", text, re.M) == VERBS
        assert "Example" in text


def test_version(vhdx):
    assert re.fullmatch(r"vhdx \d+\.\d+\.\d+ \(libvhdx \d+\.\d+\.\d+\)\nsandbox here: [a-z0-9, ]+\n", vhdx("--version").decode())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(vhdx, verb):
    text = vhdx(verb, "--help").decode()
    assert text.startswith(f"Usage: vhdx {verb} ")
    assert "Example" in text and "--help" in text
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("arguments", [["--no-such-option", "x"], ["-Z", "x"], []])
def test_bad_usage(vhdx, verb, arguments):
    text = vhdx.fails(64 if verb == "check" else 2, verb, *arguments)
    assert text.startswith(f"vhdx: {verb}: ")
    assert text.endswith(f"Try 'vhdx {verb} --help' for more information.\n")


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--frobnicate"]])
def test_no_such_verb(vhdx, arguments):
    assert "Try 'vhdx --help'" in vhdx.fails(2, *arguments)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["info", "--output"], "--output needs an argument"),
        (["info", "--output=xml", "f"], "json or human"),
        (["info", "--json=1", "f"], "--json takes no argument"),
        (["map", "a", "b"], "'b' is one argument too many"),
        (["map", "-f", "vmdx", "a"], "format 'vmdx' is not known"),
        (["info", "--jobs", "0", "a"], "not a number from 1"),
        (["info", "--parents=", "a"], "none, same-dir, any"),
        (["info", "--map", "x=/", "a"], "no path of Windows"),
        (["create", "--type", "thin", "a", "1G"], "dynamic, fixed and differencing"),
    ],
)
def test_usage_messages_say_what_is_wrong(vhdx, arguments, said):
    assert said in vhdx.fails(2, *arguments)


def test_json_also_for_bad_usage(vhdx):
    done = vhdx.run("info", "--json", "--nonsense", "f")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["schema"] == 1 and document["error"]["code"] == "INVALID"


def test_a_result_that_cannot_be_written_is_a_failure(vhdx):
    with open("/dev/full", "w") as full:
        assert "standard output" in vhdx.fails(1, "--help", stdout=full)
