"""One class a kind of file system: make it, fill it, take files away, read them back, check it, count what is free."""

import hashlib
import random
import re
import struct

from tools import run


KIB = 1024
MIB = 1024 * KIB


def contents(number):
    """Of a file: its size too depends on the number."""
    source = random.Random(number)
    return source.randbytes(source.choice([100, 5000, 70_000, 400_000]))


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Maker:
    """`kept` maps the names of the files that stay to the hash of their contents."""

    size = 40 * MIB

    def __init__(self, path, folder, *options):
        self.path, self.folder, self.options = path, folder, options
        self.kept = {}

    def file(self, number):
        path = self.folder / f"f{number}"
        path.write_bytes(contents(number))
        return path

    def fill(self, count=12):
        self.make()
        for number in range(count):
            self.add(number)
        for number in range(0, count, 3):
            self.remove(number)
        self.kept = {f"f{n}": digest(contents(n)) for n in range(count) if n % 3 != 0}
        self.check()
        return self

    def assert_intact(self):
        self.check()
        assert {name: digest(self.read(name)) for name in self.kept} == self.kept


class Ext(Maker):
    size = 80 * MIB
    kind = "ext4"

    def make(self):
        run("mkfs.ext4", "-q", "-F", "-L", "a label", *self.options, self.path)
        if "ext2" in self.options:
            self.kind = "ext2"

    def debugfs(self, command):
        return run("debugfs", "-w", "-R", command, self.path).stdout

    def add(self, number):
        self.debugfs(f"write {self.file(number)} f{number}")

    def remove(self, number):
        self.debugfs(f"rm f{number}")

    def read(self, name):
        target = self.folder / "out"
        target.unlink(missing_ok=True)
        self.debugfs(f"dump {name} {target}")
        return target.read_bytes()

    def check(self):
        run("e2fsck", "-fn", self.path)

    def facts(self):
        text = run("dumpe2fs", self.path).stdout.decode()
        return {key: int(re.search(rf"^{key}:\s+(\d+)", text, re.M)[1])
                for key in ("Free blocks", "Block size", "First block", "Blocks per group")} | {
            "bitmaps": [int(n) for n in re.findall(r"Block bitmap at (\d+)", text)],
            "descriptors": [int(n) for n in re.findall(r"Group descriptors at (\d+)", text)]}

    def free_bytes(self):
        facts = self.facts()
        return facts["Free blocks"] * facts["Block size"]

    def tables(self):
        facts = self.facts()
        size = facts["Block size"]
        return [(1024, 1024), (facts["descriptors"][0] * size, 64 * 5),
                *((number * size, 1024) for number in facts["bitmaps"])]


class Fat(Maker):
    def make(self):
        run("mkfs.vfat", "-n", "A LABEL", *self.options, self.path)
        self.kind = "FAT" + self.options[self.options.index("-F") + 1]

    def add(self, number):
        run("mcopy", "-i", self.path, self.file(number), f"::f{number}")

    def remove(self, number):
        run("mdel", "-i", self.path, f"::f{number}")

    def read(self, name):
        return run("mtype", "-i", self.path, f"::{name}").stdout

    def check(self):
        run("fsck.fat", "-n", self.path)

    def free_bytes(self):
        text = run("fsck.fat", "-n", "-v", self.path).stdout.decode()
        used, count = map(int, re.search(r"(\d+)/(\d+) clusters", text).groups())
        return (count - used) * int(re.search(r"(\d+) bytes per cluster", text)[1])

    def tables(self):
        with open(self.path, "rb") as file:
            boot = file.read(512)
        sector, reserved = struct.unpack_from("<H", boot, 11)[0], struct.unpack_from("<H", boot, 14)[0]
        return [(0, 90), (reserved * sector, 4000)]


class Exfat(Maker):
    """Debian has no tool that writes files into an image of exFAT, so this does, into the root directory."""

    kind = "exFAT"

    def make(self):
        run("mkfs.exfat", "-L", "label", *self.options, self.path)
        with open(self.path, "rb") as file:
            boot = file.read(512)
        self.fat_at, _, heap, self.count, self.root = struct.unpack_from("<5I", boot, 80)
        shift = boot[108]
        self.cluster = 1 << (shift + boot[109])
        self.fat_at <<= shift
        self.heap = heap << shift
        self.next = self.root + 1

    def at(self, cluster):
        return self.heap + (cluster - 2) * self.cluster

    def patch(self, at, data):
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(data)

    def fetch(self, at, length):
        with open(self.path, "rb") as file:
            file.seek(at)
            return file.read(length)

    def entries(self):
        data = self.fetch(self.at(self.root), self.cluster)
        return [data[i:i + 32] for i in range(0, len(data), 32)]

    def table(self, kind):
        entry = next(entry for entry in self.entries() if entry[0] == kind)
        return struct.unpack_from("<IQ", entry, 20)

    def set_used(self, clusters, value):
        at = self.at(self.table(0x81)[0])
        bits = bytearray(self.fetch(at, (self.count + 7) // 8))
        for cluster in clusters:
            bit = 1 << (cluster - 2) % 8
            bits[(cluster - 2) // 8] = bits[(cluster - 2) // 8] & ~bit | (bit if value else 0)
        self.patch(at, bits)

    def add(self, number):
        data = contents(number)
        clusters = range(self.next, self.next + -(-len(data) // self.cluster))
        self.next = clusters.stop + 1
        contiguous = number % 2 == 0
        if not contiguous:
            chain = [*clusters[1:], 0xFFFFFFFF]
            self.patch(self.fat_at + 4 * clusters[0], struct.pack(f"<{len(chain)}I", *chain))
        self.patch(self.at(clusters[0]), data)
        self.set_used(clusters, True)
        name = f"f{number}"
        stream = struct.pack("<BBBBHHQIIQ", 0xC0, 3 if contiguous else 1, 0, len(name), self.name_hash(name), 0,
                             len(data), 0, clusters[0], len(data))
        names = struct.pack("<BB30s", 0xC1, 0, name.encode("utf-16-le"))
        first = bytearray(struct.pack("<BBHHH24x", 0x85, 2, 0, 0x20, 0))
        for at in (8, 12, 16):
            struct.pack_into("<I", first, at, (45 << 25) | (1 << 21) | (1 << 16))
        struct.pack_into("<H", first, 2, self.sum16(bytes(first) + stream + names))
        free = next(i for i, entry in enumerate(self.entries()) if entry[0] == 0)
        self.patch(self.at(self.root) + 32 * free, bytes(first) + stream + names)

    @staticmethod
    def sum16(data, skipped=(2, 3)):
        value = 0
        for i, byte in enumerate(data):
            if i not in skipped:
                value = ((value << 15 | value >> 1) + byte) & 0xFFFF
        return value

    def name_hash(self, name):
        return self.sum16(name.upper().encode("utf-16-le"), ())

    def find(self, name):
        encoded = name.encode("utf-16-le").ljust(30, b"\0")
        entries = self.entries()
        return next(i for i in range(2, len(entries)) if entries[i][0] == 0xC1 and entries[i][2:] == encoded)

    def file_chain(self, name):
        """Clusters in order, and the length."""
        stream = self.entries()[self.find(name) - 1]
        first, length = struct.unpack_from("<IQ", stream, 20)
        clusters = [first]
        while len(clusters) < -(-length // self.cluster):
            following = struct.unpack("<I", self.fetch(self.fat_at + 4 * clusters[-1], 4))[0]
            clusters.append(clusters[-1] + 1 if stream[1] & 2 else following)
        return clusters, length

    def remove(self, number):
        at = self.find(f"f{number}")
        self.set_used(self.file_chain(f"f{number}")[0], False)
        for i in (at - 2, at - 1, at):
            self.patch(self.at(self.root) + 32 * i, bytes([self.entries()[i][0] & 0x7F]))

    def read(self, name):
        clusters, length = self.file_chain(name)
        return b"".join(self.fetch(self.at(cluster), self.cluster) for cluster in clusters)[:length]

    def check(self):
        run("fsck.exfat", "-n", self.path)

    def free_bytes(self):
        text = run("dump.exfat", self.path).stdout.decode()
        return int(re.search(r"Free Clusters:\s+(\d+)", text)[1]) * self.cluster

    def tables(self):
        return [(0, 512), (self.fat_at, 2000), (self.at(self.table(0x81)[0]), self.table(0x81)[1]),
                (self.at(self.root), 32 * 60)]


class Ntfs(Maker):
    kind = "NTFS"

    def make(self):
        run("mkntfs", "-q", "-F", "-L", "a label", *self.options, self.path)

    def add(self, number):
        run("ntfscp", "-f", self.path, self.file(number), f"f{number}")

    def remove(self, number):
        """No tool of ntfs-3g deletes; one that writes less over it frees as well."""
        empty = self.folder / "empty"
        empty.write_bytes(b"")
        run("ntfscp", "-f", self.path, empty, f"f{number}")

    def read(self, name):
        return run("ntfscat", "-f", self.path, name).stdout

    def check(self):
        run("ntfsfix", "-n", self.path)

    def facts(self):
        text = run("ntfsinfo", "-m", "-f", self.path).stdout.decode()
        return {key: int(re.search(rf"{key}: +(\d+)", text)[1])
                for key in ("Free Clusters", "Cluster Size", "LCN of Data Attribute for FILE_MFT")}

    def free_bytes(self):
        facts = self.facts()
        return facts["Free Clusters"] * facts["Cluster Size"]

    def tables(self):
        facts = self.facts()
        mft = facts["LCN of Data Attribute for FILE_MFT"] * facts["Cluster Size"]
        with open(self.path, "rb") as file:
            data = file.read()
        bitmap = self.bitmap_at(data[mft + 6 * 1024:mft + 7 * 1024]) * facts["Cluster Size"]
        return [(0, 84), (mft, 16 * 1024), (bitmap, self.size // facts["Cluster Size"] // 8)]

    def record(self, number):
        facts = self.facts()
        return facts["LCN of Data Attribute for FILE_MFT"] * facts["Cluster Size"] + number * 1024

    def patch(self, at, data):
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(data)

    def set_volume_flags(self, flags):
        """Of $Volume's attribute 0x70, which lies before the end of the first sector of the record."""
        at = self.record(3)
        with open(self.path, "rb") as file:
            file.seek(at)
            record = file.read(1024)
        found = struct.unpack_from("<H", record, 20)[0]
        while struct.unpack_from("<I", record, found)[0] != 0x70:
            found += struct.unpack_from("<I", record, found + 4)[0]
        value = found + struct.unpack_from("<H", record, found + 20)[0]
        with open(self.path, "rb") as file:
            mirror = struct.unpack_from("<Q", file.read(512), 56)[0] * self.facts()["Cluster Size"] + 3 * 1024
        for copy in (at, mirror):
            self.patch(copy + value + 10, struct.pack("<H", flags))

    def hibernate(self):
        path = self.folder / "hiberfil.sys"
        path.write_bytes(b"hibr" + bytes(5000))
        run("ntfscp", "-f", self.path, path, "hiberfil.sys")

    def open_log(self):
        """mkntfs leaves a log that was never used; this is a restart page of a volume that is in use."""
        data = bytearray(4096)
        struct.pack_into("<4sHHQIIHhH", data, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, 1, 1)
        area = 48
        struct.pack_into("<QHHHHIHHqII", data, area, 0, 1, 0xFFFF, 0, 0, 67 - 15, 224, 64, 0, 0, 0)
        struct.pack_into("<HH", data, area + 40, 48, 64)
        struct.pack_into("<QQHHH", data, area + 64, 0, 0, 0xFFFF, 0xFFFF, 0)
        self.patch_log(data)

    def patch_log(self, data):
        for i in range(0, 4096, 512):
            struct.pack_into("<2s", data, 30 + 2 + i // 256, bytes(data[i + 510:i + 512]))
            data[i + 510:i + 512] = b"\1\0"
        data[30:32] = b"\1\0"
        mft_log = self.record(2)
        with open(self.path, "rb") as file:
            file.seek(mft_log)
            record = file.read(1024)
        at = self.bitmap_at(record) * self.facts()["Cluster Size"]
        self.patch(at, bytes(data))
        self.patch(at + 4096, bytes(data))

    @staticmethod
    def bitmap_at(record):
        """The first cluster of a file's contents: of its attribute 0x80, the first run."""
        at = struct.unpack_from("<H", record, 20)[0]
        while struct.unpack_from("<I", record, at)[0] != 0x80:
            at += struct.unpack_from("<I", record, at + 4)[0]
        runs = at + struct.unpack_from("<H", record, at + 32)[0]
        lengths = record[runs]
        start = runs + 1 + (lengths & 15)
        return int.from_bytes(record[start:start + (lengths >> 4)], "little")


KINDS = {
    "ext4-4k": (Ext, "-b", "4096"),
    "ext4-1k": (Ext, "-b", "1024"),
    "ext4-bigalloc": (Ext, "-b", "4096", "-O", "bigalloc"),
    "ext4-no-flex-bg": (Ext, "-b", "4096", "-O", "^flex_bg"),
    "ext4-no-checksums": (Ext, "-b", "1024", "-O", "^metadata_csum,^uninit_bg"),
    "ext2": (Ext, "-t", "ext2"),
    "fat12": (Fat, "-F", "12", "-s", "32"),
    "fat16": (Fat, "-F", "16"),
    "fat32": (Fat, "-F", "32", "-s", "1"),
    "exfat": (Exfat,),
    "ntfs": (Ntfs,),
}


def make(kind, new_file, folder):
    cls, *options = KINDS[kind]
    return cls(new_file(f"{kind}.img", cls.size), folder, *options).fill()
