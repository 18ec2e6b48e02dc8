"""The completion for bash and for zsh."""
import pathlib
import shutil
import subprocess

import pytest

from conftest import COMMAND

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "vhdx" / "completion.bash"


@pytest.mark.parametrize(
    "words, expected",
    [
        (["c"], ["check", "compact", "compare", "convert", "create"]),
        (["info", "--js"], ["--json"]),
        (["create", "--l"], ["--log-size", "--logical-sector"]),
        (["compact", "--no"], ["--no-fs"]),
        (["trim", "--also", "=", "no-such-folder"], []),
        (["merge", "--or"], ["--orphan-siblings"]),
        (["create", "--type", "=", "d"], ["differencing", "dynamic"]),
        (["meas"], ["measure"]),
        (["convert", "--in"], ["--in-place"]),
        (["create", "--preallocate", "=", "f"], ["falloc", "full"]),
        (["convert", "-O", ""], ["raw", "vhd", "vhdx"]),
        (["create", "--type", "=", "f"], ["fixed"]),
        (["convert", "dis"], ["disk.raw"]),
        (["resize", "--f"], ["--fix-gpt", "--force"]),
        (["resize", "a.vhdx", "mi"], ["min"]),
        (["mount", "--w"], ["--writable"]),
        (["mount", "-o", "all"], ["allow_other"]),
        (["unmount", "dis"], []),
        (["dump", "--re"], ["--regions", "--replayed"]),
        (["meta", ""], ["get", "list", "rm", "set"]),
        (["meta", "set", "a.vhdx", "disk-"], ["disk-id"]),
    ],
)
def test_completion(vhdx, raw_disk, words, expected):
    script = f"""
        source {SCRIPT}
        COMP_WORDS=({COMMAND} {' '.join(repr(word) for word in words)})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _vhdx {COMMAND}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=vhdx.directory, stdout=subprocess.PIPE, check=True)
    assert sorted(done.stdout.decode().split()) == expected


# What zsh brings for completion works only behind its line editor: these stand for it and print what they are given.
ZSH_STUBS = """
    _describe() { print -rl -- ${(P)@[-1]%%:*} }
    _values() { shift; print -rl -- $@ }
    _alternative() { print -rl -- $@ }
    _files() { print -r files $@ }
    compset() { words[CURRENT]=${words[CURRENT]#*=} }
"""


@pytest.mark.parametrize(
    "words, expected",
    [
        ([""], {"create", "convert", "serve"}),
        (["info", "--"], {"--json", "--chain", "--is"}),
        (["create", "--"], {"--log-size", "--logical-sector"}),
        (["create", "--type", ""], {"dynamic", "fixed", "differencing"}),
        (["create", "--type=d"], {"dynamic", "fixed", "differencing"}),
        (["trim", "--also", ""], {"files -/"}),
        (["meta", ""], {"list", "get", "set", "rm"}),
        (["convert", "dis"], {"files"}),
    ],
)
def test_completion_for_zsh(vhdx, words, expected):
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    script = f"""
        {ZSH_STUBS}
        words=({COMMAND} {' '.join(repr(word) for word in words)})
        CURRENT=$#words
        source {SCRIPT.with_suffix('.zsh')}
    """
    done = subprocess.run(["zsh", "-f", "-c", script], cwd=vhdx.directory, stdout=subprocess.PIPE, check=True)
    assert expected <= set(done.stdout.decode().splitlines())
