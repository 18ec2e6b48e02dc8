"""The real tools, and fs_probe: run from here by the tests of this folder, and by those of the command."""

import json
import os
import pathlib
import subprocess

BUILD = pathlib.Path(os.environ.get("VHDX_BUILD", "build")).resolve()
ENVIRONMENT = {**os.environ, "VHDX_MODULE_PATH": str(BUILD / "modules"), "MTOOLS_SKIP_CHECK": "1",
               "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, env=ENVIRONMENT, check=False, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout!r}\n{done.stderr!r}"
    return done


def probe(path, *options):
    return json.loads(run(BUILD / "tests/fs/fs_probe", *options, path).stdout)


def only_volume(path, *options):
    volumes = probe(path, *options)["volumes"]
    assert len(volumes) == 1
    return volumes[0]
