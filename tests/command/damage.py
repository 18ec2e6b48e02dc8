"""Damaging an image by hand, checksums kept right."""
TABLE = [0]
for byte in range(1, 256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


class Image:
    """A sound image, to be damaged."""

    def __init__(self, vhdx, path):
        self.path = path
        info = vhdx.json("info", "--json", path.name)
        self.bat, self.metadata = info["bat"]["offset"], info["metadata"]["offset"]

    def read(self, offset, length):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def write(self, offset, data):
        with open(self.path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def seal(self, offset, length):
        piece = bytearray(self.read(offset, length))
        piece[4:8] = bytes(4)
        self.write(offset + 4, crc32c(piece).to_bytes(4, "little"))

    def change_headers(self, offset, data):
        for at in (0x10000, 0x20000):
            self.write(at + offset, data)
            self.seal(at, 4096)

    def set_entry(self, index, value):
        self.write(self.bat + 8 * index, value.to_bytes(8, "little"))

    def entry(self, index):
        return int.from_bytes(self.read(self.bat + 8 * index, 8), "little")

    def first_present(self):
        return next(i for i in range(25) if self.entry(i) & 7 == 6)
