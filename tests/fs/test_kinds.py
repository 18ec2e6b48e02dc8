"""Every kind of file system, filled and deleted from: as much is free as its own tools say, and nothing live ever is."""

import pytest
from makers import KINDS, make
from tables import MIB, unwrap, wrap
from tools import BUILD, only_volume, probe, run


@pytest.mark.parametrize("kind", KINDS)
def test_free_ranges_are_the_tools_own_and_hold_nothing_live(kind, new_file, tmp_path):
    maker = make(kind, new_file, tmp_path)
    volume = only_volume(maker.path, "--ranges")
    assert (volume["verdict"], volume["kind"], volume["reason"]) == ("readable", maker.kind, "")
    assert volume["free"] == sum(length for _, length in volume["ranges"]) == maker.free_bytes()
    probe(maker.path, "--junk")
    maker.assert_intact()
    assert only_volume(maker.path)["free"] == volume["free"]


@pytest.mark.parametrize("table,sector", [("MBR", 512), ("GPT", 512), ("GPT", 4096)])
@pytest.mark.parametrize("kind", ["ext4-4k", "fat32", "exfat", "ntfs"])
def test_in_a_partition(kind, table, sector, new_file, tmp_path):
    maker = make(kind, new_file, tmp_path)
    bare = only_volume(maker.path, "--ranges")
    disk = wrap(maker.path, tmp_path / "disk", table, sector)
    layout = probe(disk, "--ranges")
    volume = layout["volumes"][0]
    assert (layout["table"], layout["sector-size"], volume["number"], volume["offset"]) == (table, sector, 1, MIB)
    assert volume["ranges"] == [[at + MIB, length] for at, length in bare["ranges"]]
    probe(disk, "--junk")
    unwrap(disk, maker.path)
    maker.assert_intact()


def test_in_a_vhdx(new_file, tmp_path):
    maker = make("ext4-4k", new_file, tmp_path)
    image, disk = tmp_path / "disk.vhdx", wrap(maker.path, tmp_path / "disk", "GPT")
    run(BUILD / "tools/vhdx/vhdx", "convert", "-q", "-f", "raw", disk, image)
    inside, outside = probe(image, "--ranges"), probe(disk, "--ranges")
    assert inside == outside


def test_without_its_module_ext_is_left_alone(new_file, tmp_path):
    maker = make("ext2", new_file, tmp_path)
    volume = only_volume(maker.path, "--own")
    assert (volume["kind"], volume["verdict"], volume["ranges"]) == ("ext", "left-alone", [])
    assert "libext2fs2" in volume["cure"]
