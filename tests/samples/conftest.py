"""Tests of images that others made.  VHDX_BUILD names the build directory."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import guest  # noqa: E402

command = guest.load_conftest("command")
vhdx = command.vhdx
peer = command.peer
