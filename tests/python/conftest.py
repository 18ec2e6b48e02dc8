"""The Python module of the build tree (VHDX_BUILD); skipped where it was not built."""
import os
import pathlib
import sys

import pytest

BUILD = pathlib.Path(os.environ.get("VHDX_BUILD", "build")).resolve()
sys.path.insert(0, str(BUILD / "python"))


@pytest.fixture
def vhdx(tmp_path, monkeypatch):
    module = pytest.importorskip("vhdx", reason="the Python module was not built")
    monkeypatch.chdir(tmp_path)
    return module
