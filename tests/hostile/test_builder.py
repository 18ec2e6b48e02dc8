"""The builder itself, against the worked bytes and test vectors of the digest (appendices A and B)."""
import builder as b
from builder import MIB, Data, Entry, Header, Region, RegionTable, Zero

LOG_GUID = b.guid("deadbeef-cafe-4bad-8f00-d00dfeedface")
SEQUENCE = 0x1122334455667788


def test_crc32c():
    for data, value in ((b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
                        (bytes(range(32)), 0x46DD794E), (bytes(4096), 0x98F94189), (bytes(65536), 0x72C0C4A4)):
        assert b.crc32c(data) == value


def test_guid():
    assert b.guid("{f88d4d92-6fcc-408d-9bef-9b7c89f15c89}") == bytes.fromhex("924d8df8cc6f8d409bef9b7c89f15c89")


def test_header():
    data = Header(sequence_number=7).encode()
    assert len(data) == 4096 and data[:16] == bytes.fromhex("68656164034f02450700000000000000")
    assert data[64:80] == bytes.fromhex("00000100000010000000100000000000")
    assert Header(sequence_number=8, log_guid=LOG_GUID).encode()[4:8] == bytes.fromhex("39fb0edb")


def test_region_table():
    data = RegionTable([Region(b.BAT, 3 * MIB, MIB), Region(b.METADATA, 2 * MIB, MIB)]).encode()
    assert len(data) == 65536 and data[:16] == bytes.fromhex("72656769ae8c6bc60200000000000000")
    assert data[32:48] == bytes.fromhex("00003000000000000000100001000000")


def test_log_entries():
    first = Entry(sequence_number=SEQUENCE, flushed=4 * MIB, last=4 * MIB).encode()
    assert len(first) == 4096 and first[:16] == bytes.fromhex("6c6f676568a7981d0010000000000000")
    page = b"\x06\0\x40".ljust(4088, b"\0") + b"\x02".ljust(8, b"\0")
    second = Entry(sequence_number=SEQUENCE + 1, tail=4096, flushed=4 * MIB, last=36 * MIB,
                   descriptors=[Data(3 * MIB, page), Zero(5 * MIB, MIB)]).encode()
    assert len(second) == 8192 and second[:16] == bytes.fromhex("6c6f67658f66d6a80020000000100000")
    assert second[8176:] == bytes.fromhex("00000000000000000200000089776655")


def test_parent_locator():
    data = b.Locator([("parent_linkage", b.PARENT_LINKAGE), ("relative_path", r".\p.vhdx")]).encode()
    assert len(data) == 190
    assert data[16:48] == bytes.fromhex("000002002c000000480000001c004c0094000000ae0000001a00100070006100")


def test_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        image = b.Image()
        image.make_dirty(Entry())
        image.write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
