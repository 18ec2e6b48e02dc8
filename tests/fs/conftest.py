"""Disks with file systems in them, made by the tools of their makers, and what fs_probe says about them."""

import pytest


@pytest.fixture
def new_file(tmp_path):
    def make(name, size):
        path = tmp_path / name
        with open(path, "wb") as file:
            file.truncate(size)
        return path

    return make
