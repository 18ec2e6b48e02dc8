"""Parent locators and sector bitmaps, as far as the child alone tells."""
import builder as b
from builder import FULLY_PRESENT, MIB, PARENT_LINKAGE, PARTIALLY_PRESENT, bat_entry
from verdicts import case, child, refused

LINKAGE = ("parent_linkage", PARENT_LINKAGE)
PATH = ("relative_path", r".\parent.vhdx")


def pairs(*given, **fields):
    return lambda image: image.make_child(list(given), **fields)


def entries(number, **fields):
    """A good locator but for fields of one of its entries."""
    return lambda image: image.make_child(entries={number: fields})


def path(value, key="relative_path"):
    return pairs(LINKAGE, (key, value))


bad_locator = "BAD_LOCATOR"

case("loc-good", "a child with nothing wrong", child(), lambda i: i.make_child())
case("loc-linkage-upper", "parent_linkage in upper case", child(),
     pairs((LINKAGE[0], PARENT_LINKAGE.upper()), PATH))
for name, value in (("etc-passwd", "/etc/passwd"), ("dotdot", r"..\..\..\etc\passwd"),
                    ("url", "nbd://127.0.0.1:1/x"), ("json", 'json:{"driver":"file"}'), ("dev-zero", "/dev/zero"),
                    ("dev-stdin", "/dev/stdin"), ("proc-mem", "/proc/self/mem"), ("dir", "."),
                    ("self", r".\loc-self.vhdx"),
                    ("long-path", "x" * 32000), ("control-characters", "\x1b[2J\x07\r\n\u202egnp.vhdx")):
    case(f"loc-{name}", f"relative_path {value[:40]!a}: not opened", child(), path(value))
case("loc-win-abs", "only an absolute path", child(), path(r"\\?\C:\..\..\etc\passwd", "absolute_win32_path"))
case("loc-unc", "a path on the network", child(120), path(r"\\attacker\share\x.vhdx", "absolute_win32_path"))
case("loc-volume-path", "only a volume path", child(),
     path(r"\\?\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\x", "volume_path"))
case("loc-volume-path-odd", "a volume path of another form", child(121), path(r"C:\x", "volume_path"))
case("loc-linkage-nonguid", "parent_linkage is not a GUID", refused(117, bad_locator),
     pairs((LINKAGE[0], "{01234567-89ab}"), PATH))
case("loc-linkage-missing", "no parent_linkage", refused(117, bad_locator), pairs(PATH))
case("loc-linkage2-nonguid", "parent_linkage2 is not a GUID", child(118),
     pairs(LINKAGE, PATH, ("parent_linkage2", "x")))
case("loc-no-paths", "no path", child(119), pairs(LINKAGE))
case("loc-case-key", "Relative_Path: keys are case-sensitive", child(119), path("x", "Relative_Path"))
case("loc-type-guid", "another kind of locator", refused(111, "UNSUPPORTED"),
     pairs(LINKAGE, PATH, kind=b.unknown_guid(3)))
case("loc-res", "the reserved field", child(112), pairs(LINKAGE, PATH, reserved=1))
case("loc-count0", "no pair", refused(113, bad_locator), pairs(LINKAGE, PATH, count=0))
case("loc-count-max", "65535 pairs in a small item", refused(113, bad_locator), pairs(LINKAGE, PATH, count=65535))
case("loc-short", "an item of 19 bytes", refused(110, bad_locator),
     lambda i: (i.make_child(), i.metadata.item(b.PARENT_LOCATOR).change(data=bytes(19))))
case("loc-key-off-out", "a key behind the item", child(114, 119), entries(1, key_offset=0x10000))
case("loc-key-off-0", "a key at offset 0", child(114, 119), entries(1, key_offset=0))
case("loc-key-off-wrap", "a key whose end overflows", child(114, 119), entries(1, key_offset=2**32 - 2))
case("loc-val-len-out", "a value that goes on behind the item", refused(114, bad_locator),
     entries(1, value_length=65534))
case("loc-val-len-0", "a value of no length", refused(114, bad_locator), entries(0, value_length=0))
case("loc-odd-len", "a value of odd length", refused(115, bad_locator), entries(1, value_length=25))
case("loc-lone-surrogate", "half a surrogate pair in a path", refused(115, bad_locator), path(b"a\0\x00\xd8b\0"))
case("loc-nul", "a NUL in a path", refused(115, bad_locator), path("a\0b"))
case("loc-unknown-nul", "a NUL in a value of a key nobody knows", child(115),
     pairs(LINKAGE, PATH, ("mine", "a\0b")))
case("loc-dup-path", "two relative paths", refused(116, bad_locator), pairs(LINKAGE, PATH, PATH))
case("loc-dup-unknown", "an unknown key twice", child(116), pairs(LINKAGE, PATH, ("mine", "a"), ("mine", "b")))


# ---- sector bitmaps: block 1 is partly present at 6 MiB, the bitmap of the chunk is at 7 MiB ----

def partial(bitmap_entry, sectors=b"\x01", slice_offset=256):
    def bend(image):
        image.make_child()
        image.bat[1] = bat_entry(PARTIALLY_PRESENT, 6 * MIB)
        image.bat[4096] = bitmap_entry
        image.length = 8 * MIB
        image.blocks[6 * MIB] = b.pattern(1)
        image.blocks[7 * MIB] = bytes(slice_offset) + sectors

    return bend


def bend_past_the_end(image):
    """A disk of 3.5 MiB; of its last block sector 0 is present, and a bit is set far behind the last sector."""
    image.make_child()
    image.disk_size = 3 * MIB + 512 * b.KIB
    image.set_value(b.DISK_SIZE, "<Q", image.disk_size)
    image.bat[3] = bat_entry(PARTIALLY_PRESENT, 5 * MIB)
    image.bat[4096] = bat_entry(FULLY_PRESENT, 6 * MIB)
    image.blocks[6 * MIB] = (bytes(3 * 256) + b"\1").ljust(3 * 256 + 200, b"\0") + b"\1"
    image.length = 7 * MIB


PRESENT = bat_entry(FULLY_PRESENT, 7 * MIB)

case("sbm-good", "a block of which one sector is present", child(), partial(PRESENT))
case("sbm-missing", "no bitmap for a partly present block", child(143), partial(0))
case("sbm-eof", "a bitmap behind the end of the file", child(144), partial(bat_entry(FULLY_PRESENT, 64 * MIB)))
case("sbm-over-bat", "a bitmap over the BAT", child(144), partial(bat_entry(FULLY_PRESENT, 3 * MIB)))
case("sbm-alias-payload", "a bitmap that is a block too", child(137), partial(bat_entry(FULLY_PRESENT, 5 * MIB)))
case("sbm-state-zero", "a bitmap entry in state 2", child(141), partial(bat_entry(b.ZERO, 7 * MIB)))
case("sbm-off0", "a bitmap at offset 0", child(144), partial(bat_entry(FULLY_PRESENT)))
case("sbm-all", "all sectors present", child(156), partial(PRESENT, b"\xff" * 256))
case("sbm-none", "no sector present", child(157), partial(PRESENT, b"\xff", slice_offset=0))
case("sbm-unused", "a bitmap nobody needs", child(158),
     lambda i: (partial(PRESENT)(i), i.bat.update({1: bat_entry(FULLY_PRESENT, 6 * MIB)})))
case("sbm-bat-short", "no room for the bitmap entry of the last chunk", refused(130, "BAD_BAT"),
     lambda i: (i.empty_disk(disk_size=131040 * MIB + MIB), i.make_child()))
case("sbm-past-the-end", "bits of sectors behind the end of the disk", child(155), bend_past_the_end)
