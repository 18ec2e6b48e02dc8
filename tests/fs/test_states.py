"""File systems in a state that makes their tables lie are refused, with the cure; what nobody reads is left alone."""

import struct

import pytest
from makers import MIB, Exfat, Ext, Fat, Ntfs, make
from tables import mbr, mbr_entry
from tools import only_volume, probe, run


def patch(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def patch_bits(path, at, bits):
    with open(path, "r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([value ^ bits]))


def ext(*command):
    def change(maker):
        for line in command:
            maker.debugfs(line)

    return change


def fat_dirty_by_windows(maker):
    for copy in range(2):
        with open(maker.path, "rb") as file:
            boot = file.read(512)
        sector, reserved, length = (struct.unpack_from("<H", boot, at)[0] for at in (11, 14, 22))
        patch_bits(maker.path, (reserved + copy * length) * sector + 3, 0x80)


STATES = {
    "journal needs recovery": ("ext4-4k", ext("feature needs_recovery"), "journal needs recovery", "e2fsck"),
    "errors seen": ("ext4-4k", ext("ssv state 3"), "errors", "e2fsck"),
    "ext2 not unmounted": ("ext2", ext("ssv state 0"), "not unmounted", "e2fsck"),
    "orphans present": ("ext4-4k", ext("feature FEATURE_R16"), "not unmounted", "e2fsck"),
    "compatible feature": ("ext2", ext("feature FEATURE_C20"), "features", "libvhdx"),
    "incompatible feature": ("ext2", ext("feature FEATURE_I30"), "features", "libvhdx"),
    "read-only feature": ("ext2", ext("feature FEATURE_R30"), "features", "libvhdx"),
    "FAT dirty by Linux": ("fat16", lambda maker: patch_bits(maker.path, 0x25, 1), "dirty", "chkdsk"),
    "FAT dirty by Windows": ("fat16", fat_dirty_by_windows, "dirty", "chkdsk"),
    "FAT32 dirty by Linux": ("fat32", lambda maker: patch_bits(maker.path, 0x41, 1), "dirty", "chkdsk"),
    "exFAT dirty": ("exfat", lambda maker: patch_bits(maker.path, 106, 2), "dirty", "chkdsk"),
    "exFAT media failure": ("exfat", lambda maker: patch_bits(maker.path, 106, 4 | 2), "dirty", "chkdsk"),
    "NTFS dirty": ("ntfs", lambda maker: maker.set_volume_flags(1), "dirty", "chkdsk"),
    "NTFS chkdsk under way": ("ntfs", lambda maker: maker.set_volume_flags(0x4000), "dirty", "chkdsk"),
    "NTFS hibernated": ("ntfs", lambda maker: maker.hibernate(), "hibernated", "shutdown"),
    "NTFS log not closed": ("ntfs", lambda maker: maker.open_log(), "log was not closed", "chkdsk"),
}


@pytest.mark.parametrize("state", STATES)
def test_refused(state, new_file, tmp_path):
    kind, change, reason, cure = STATES[state]
    maker = make(kind, new_file, tmp_path)
    assert only_volume(maker.path)["verdict"] == "readable"
    change(maker)
    layout = probe(maker.path, "--ranges")
    volume = layout["volumes"][0]
    assert (volume["verdict"], volume["free"], volume["ranges"]) == ("refused", 0, [])
    assert reason in volume["reason"] and cure in volume["cure"] + volume["reason"]
    assert reason in layout["refusal"]


@pytest.mark.parametrize("maker,options", [(Ext, ["-O", "mmp"]), (Ext, ["-O", "journal_dev"]), (Fat, ["-F", "16", "-f", "1"])])
def test_left_alone(maker, options, new_file, tmp_path):
    path = new_file("disk", maker.size)
    maker(path, tmp_path, *options).make()
    volume = only_volume(path, "--ranges")
    assert (volume["verdict"], volume["ranges"]) == ("left-alone", [])
    assert volume["reason"]


SIGNATURES = {
    "XFS": (0, b"XFSB"), "btrfs": (65536 + 64, b"_BHRfS_M"), "LVM": (512, b"LABELONE"), "LUKS": (0, b"LUKS\xba\xbe"),
    "BitLocker": (3, b"-FVE-FS-"), "ReFS": (3, b"ReFS\0\0\0\0"),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_recognised_and_left_alone(kind, new_file):
    path = new_file("disk", MIB)
    patch(path, *SIGNATURES[kind])
    layout = probe(path, "--ranges")
    volume = layout["volumes"][0]
    assert (volume["kind"], volume["verdict"], volume["ranges"]) == (kind, "left-alone", [])
    assert volume["cure"] and layout["refusal"] == ""


def test_swap(new_file):
    path = new_file("disk", 4 * MIB)
    run("mkswap", "-L", "a label", path)
    volume = only_volume(path, "--ranges")
    assert (volume["kind"], volume["label"], volume["ranges"]) == ("swap", "a label", [[4096, 4 * MIB - 4096]])
    patch(path, 4086, b"S1SUSPEND\0")
    volume = only_volume(path, "--ranges")
    assert (volume["verdict"], volume["ranges"]) == ("refused", []) and "shut it down" in volume["cure"]


def test_signs_of_two_kinds_are_refused(new_file, tmp_path):
    maker = make("exfat", new_file, tmp_path)
    patch(maker.path, 65536 + 64, b"_BHRfS_M")
    volume = only_volume(maker.path, "--ranges")
    assert (volume["verdict"], volume["ranges"]) == ("refused", [])
    assert "exFAT" in volume["reason"] and "btrfs" in volume["reason"] and "wipefs" in volume["cure"]


def test_a_table_over_a_stale_file_system_is_refused(new_file, tmp_path):
    maker = make("ext2", new_file, tmp_path)
    patch(maker.path, 0, mbr(mbr_entry(0x83, 2048, 2048)))
    layout = probe(maker.path, "--ranges")
    assert layout["verdict"] == "refused" and "wipefs" in layout["cure"]
    assert [volume["ranges"] for volume in layout["volumes"]] == [[]]
