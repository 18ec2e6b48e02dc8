"""vhdx tree: folders of chains, whole and broken, with what cures them."""
import json
import os
import shutil

import pytest


@pytest.fixture
def chains(vhdx, tmp_path):
    """vm/: a base, two checkpoints of it, one below the first; and a disk that stands alone."""
    (tmp_path / "vm").mkdir()
    vhdx("create", "vm/base.vhdx", "16M")
    vhdx("create", "vm/alone.vhdx", "1G")
    for child, parent in (("a.avhdx", "base.vhdx"), ("b.avhdx", "base.vhdx"), ("c.avhdx", "a.avhdx")):
        vhdx("create", "-q", "--parent", f"vm/{parent}", f"vm/{child}")
    return tmp_path / "vm"


def write(vhdx, path):
    vhdx("bench", "-w", "-c", "1", "--pattern", "7", "--orphan-children", path)


def rows(text):
    """What the tree shows of each image, by name."""
    lines = text.decode().split("\n\n")[0].splitlines()[1:]
    return {line.lstrip("|`- ").split()[0]: line for line in lines}


def images(vhdx, *arguments, status=0):
    done = vhdx.run("tree", "--json", *arguments)
    assert done.returncode == status, done.stderr
    return {os.path.basename(image["filename"]): image for image in json.loads(done.stdout)["images"]}


def kinds(image):
    return [trouble["kind"] for trouble in image["troubles"]]


def test_a_sound_folder(vhdx, chains):
    text = vhdx("tree", "vm").decode()
    lines = text.splitlines()
    assert [line[:12].rstrip() for line in lines[1:6]] \
        == ["alone.vhdx", "base.vhdx", "|- a.avhdx", "|  `- c.avhd", "`- b.avhdx"]
    assert lines[4].startswith("|  `- c.avhdx ") and lines[4].endswith("differencing, checkpoint, leaf")
    assert lines[3].endswith("differencing, checkpoint") and lines[1].endswith("dynamic")
    assert "1 GiB" in lines[1] and "16 MiB" in lines[2]
    assert lines[-1] == "5 images, every chain is complete."


def test_json(vhdx, chains):
    found = images(vhdx, "vm")
    assert list(found) == ["alone.vhdx", "base.vhdx", "a.avhdx", "c.avhdx", "b.avhdx"]
    assert found["c.avhdx"]["parent"] == "vm/a.avhdx" and found["c.avhdx"]["depth"] == 2
    assert found["c.avhdx"]["parent-linkage"] == found["a.avhdx"]["data-write-guid"]
    assert "parent" not in found["base.vhdx"] and found["base.vhdx"]["child-count"] == 2
    assert [name for name, image in found.items() if image["leaf"]] == ["c.avhdx", "b.avhdx"]
    assert found["base.vhdx"]["virtual-size"] == 16 << 20 and found["a.avhdx"]["checkpoint"]
    assert not any(image["troubles"] for image in found.values())
    assert vhdx.json("tree", "--json", "vm")["complete"] is True


def test_an_orphan(vhdx, chains):
    (chains / "a.avhdx").unlink()
    done = vhdx.run("tree", "vm")
    assert done.returncode == 3 and rows(done.stdout)["c.avhdx"].endswith("leaf, ORPHAN")
    assert b"vm/c.avhdx has lost its parent" in done.stdout and b"rebase --relink ITS-PARENT vm/c.avhdx" in done.stdout
    assert done.stdout.endswith(b"4 images, 1 in trouble.\n")
    assert kinds(images(vhdx, "vm", status=3)["c.avhdx"]) == ["orphan"]


def test_a_parent_that_was_written_to(vhdx, chains):
    write(vhdx, "vm/base.vhdx")
    found = images(vhdx, "vm", status=3)
    assert kinds(found["a.avhdx"]) == kinds(found["b.avhdx"]) == ["parent-changed"] and kinds(found["c.avhdx"]) == []
    assert found["a.avhdx"]["parent"] == "vm/base.vhdx"
    assert found["a.avhdx"]["troubles"][0]["help"].endswith("vhdx rebase --relink vm/base.vhdx vm/a.avhdx")
    assert b"PARENT CHANGED" in vhdx.run("tree", "vm").stdout


def test_a_parent_that_was_renamed(vhdx, chains):
    (chains / "base.vhdx").rename(chains / "base-2024.vhdx")
    found = images(vhdx, "vm", status=3)
    assert kinds(found["a.avhdx"]) == kinds(found["b.avhdx"]) == ["parent-moved"]
    assert found["a.avhdx"]["parent"] == "vm/base-2024.vhdx"
    assert b"rebase --relink vm/base-2024.vhdx vm/a.avhdx" in vhdx.run("tree", "vm").stdout
    assert kinds(images(vhdx, "--parents=none", "vm")["a.avhdx"]) == []  # GUIDs alone: places are not looked at


def test_the_cure_cures(vhdx, chains):
    (chains / "base.vhdx").rename(chains / "base-2024.vhdx")
    cures = {trouble["help"].split(";")[0] for image in images(vhdx, "vm", status=3).values()
             for trouble in image["troubles"]}
    assert len(cures) == 2
    if vhdx.run("rebase", "--help").returncode != 0:
        pytest.skip("no rebase")
    for cure in cures:
        vhdx(*cure.split()[1:])
    assert vhdx("tree", "vm").endswith(b"every chain is complete.\n")


def test_copies(vhdx, chains):
    shutil.copy(chains / "base.vhdx", chains / "copy.vhdx")
    found = images(vhdx, "vm")  # nothing is broken by it
    assert kinds(found["base.vhdx"]) == kinds(found["copy.vhdx"]) == ["copy"]
    assert found["copy.vhdx"]["twin"] == "vm/base.vhdx" and found["a.avhdx"]["parent"] == "vm/base.vhdx"
    text = vhdx("tree", "vm")
    assert text.count(b"is a copy of the other") == 1 and b"vhdx compare vm/copy.vhdx vm/base.vhdx" in text


def test_parents_that_lie_elsewhere(vhdx, chains, tmp_path):
    (tmp_path / "more").mkdir()
    vhdx("create", "-q", "--parent", "vm/a.avhdx", "more/far.avhdx")
    found = images(vhdx, "more")
    assert list(found) == ["base.vhdx", "a.avhdx", "far.avhdx"]
    assert found["base.vhdx"]["elsewhere"] and found["a.avhdx"]["elsewhere"] and not found["far.avhdx"]["elsewhere"]
    assert kinds(images(vhdx, "--parents=same-dir", "more", status=3)["far.avhdx"]) == ["orphan"]
    both = images(vhdx, "more", "vm", "more/../vm/")
    assert len(both) == 6 and not both["base.vhdx"]["elsewhere"] and both["base.vhdx"]["child-count"] == 2
    assert b"\n`- more/far.avhdx" not in vhdx("tree", "more") and b"`- far.avhdx" in vhdx("tree", "more")


def test_tracking_files(vhdx, chains):
    for name in ("c.avhdx.rct", "c.avhdx.mrt", "b.avhdx.rct", "stray.rct"):
        (chains / name).touch()
    text = vhdx("tree", "vm")
    assert rows(text)["c.avhdx"].endswith(", tracked") and not rows(text)["a.avhdx"].endswith("tracked")
    assert b"\n  vm/c.avhdx.rct\n  vm/c.avhdx.mrt\n" in text and b"stray" not in text
    assert images(vhdx, "vm")["c.avhdx"]["tracking-files"] == ["vm/c.avhdx.rct", "vm/c.avhdx.mrt"]


def test_what_is_no_image(vhdx, chains):
    (chains / "junk.vhdx").write_bytes(b"junk" * 1000)
    os.mkfifo(chains / "pipe.vhdx")
    (chains / "link.vhdx").symlink_to("base.vhdx")
    found = images(vhdx, "vm", status=3)
    assert "pipe.vhdx" not in found and "link.vhdx" not in found
    assert kinds(found["junk.vhdx"]) == ["unreadable"] and found["junk.vhdx"]["type"] == "unknown"
    assert found["junk.vhdx"]["error"]["code"] == "NOT_VHDX"
    assert b"Help: vhdx check vm/junk.vhdx" in vhdx.run("tree", "vm").stdout


def test_names_cannot_write_to_the_terminal(vhdx, chains):
    name = "x\x1b[31m \"\\\n\u202e.vhdx"
    (chains / "alone.vhdx").rename(chains / name)
    for arguments in ((), ("--dot",), ("--json",)):
        output = vhdx("tree", *arguments, "vm")
        assert b"\x1b" not in output and "\u202e".encode() not in output
    assert os.path.basename(vhdx.json("tree", "--json", "vm")["images"][-1]["filename"]) == name
    assert b'[label="x?[31m \\"\\\\??.vhdx\\n' in vhdx("tree", "--dot", "vm")


def test_columns_stay_aligned(vhdx, chains):
    (chains / "alone.vhdx").rename(chains / "größe.vhdx")
    lines = vhdx("tree", "vm").decode().splitlines()
    assert len({line.index("dynamic" if "dynamic" in line else "differencing") for line in lines[1:6]}) == 1
    assert lines[0].index("About") == lines[1].index("differencing" if "differencing" in lines[1] else "dynamic")


def test_dot(vhdx, chains, tmp_path, peer):
    text = vhdx("tree", "--dot", "vm").decode()
    assert text.startswith("digraph vhdx {\n") and text.endswith("}\n")
    assert text.count(" -> ") == 3 and 'label="a.avhdx\\n16 MiB, ' in text and "red" not in text
    (chains / "a.avhdx").unlink()
    broken = vhdx.run("tree", "--dot", "vm").stdout
    assert b"color=red" in broken
    (tmp_path / "broken.dot").write_bytes(broken)
    assert b"<svg" in peer("dot", "-Tsvg", "broken.dot")


def test_a_deep_chain(vhdx, tmp_path):
    vhdx("create", "0.vhdx", "4M")
    for level in range(1, 16):
        vhdx("create", "-q", "--parent", f"{level - 1}.vhdx", f"{level}.vhdx")
    lines = vhdx("tree", ".").decode().splitlines()
    assert lines[13].startswith(" " * 33 + "`- 12.vhdx ") and lines[14].startswith("(013) " + " " * 33)
    assert len({line.index("differencing") for line in lines[2:17]}) == 1


def test_a_full_folder_says_so(vhdx, chains):
    for number in range(1001):
        (chains / f"{number}.vhdx").touch()
    done = vhdx.run("tree", "--json", "vm")
    assert done.returncode == 3 and json.loads(done.stdout)["complete"] is False and b"1000 files" in done.stderr


def test_nothing_there(vhdx, tmp_path):
    (tmp_path / "empty").mkdir()
    assert vhdx("tree", "empty") == b"No images.\n"
    assert vhdx.json("tree", "--json", "empty")["images"] == []
    assert vhdx.fails(1, "tree", "empty", "nowhere").startswith("vhdx: opening folder nowhere: ")
    done = vhdx.run("tree", "--json", "nowhere")
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "NOT_FOUND"
    assert "one" in vhdx.fails(2, "tree", "--dot", "--json", "empty")
    vhdx("create", "x.vhdx", "4M")
    vhdx.fails(1, "tree", "x.vhdx")
