"""Chains of differencing images, made and read by the command itself."""
import fcntl
import os
import struct
import subprocess
import termios
import time

from conftest import MIB

SIZE = 10 * MIB


def write(vhdx, image, letter, offset, length=4096, **more):
    """Fill a range of an image with a letter."""
    vhdx("bench", "-q", "-w", "--pattern", str(ord(letter)), "-c", "1", "-d", "1", "-s", str(length), "-o", str(offset),
         *more.get("options", []), image)


def leave_dirty(vhdx, image):
    """Make an image whose writer is killed when its log is in use."""
    vhdx("create", "-q", image, "64M")
    writer = vhdx.start("bench", "-q", "-w", "-s", "128K", "--flush-interval", "1", "-c", "1000000", "-d", "1", "--pattern", "7",
                        image)
    while not vhdx.json("info", "--json", "-U", image)["dirty-flag"]:
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    assert vhdx.json("info", "--json", image)["dirty-flag"]


def contents(vhdx, image, *options):
    """What a guest sees, through the chain."""
    return vhdx("convert", *options, "-O", "raw", image, "-")


def assert_sound(vhdx, *images):
    vhdx("check", *images)


def make_chain(vhdx):
    """base.vhdx, middle.avhdx, top.avhdx: each holds a range of its own, one that the next one hides, and zeros."""
    vhdx("create", "-q", "base.vhdx", str(SIZE))
    write(vhdx, "base.vhdx", "b", 0, 3 * MIB)
    write(vhdx, "base.vhdx", "b", 5 * MIB, 2 * MIB)
    vhdx("create", "-q", "--parent", "base.vhdx", "middle.avhdx")
    write(vhdx, "middle.avhdx", "m", MIB - 512, 1024)
    write(vhdx, "middle.avhdx", "\0", 5 * MIB, MIB)
    vhdx("create", "-q", "--parent", "middle.avhdx", "--block-size", "1M", "top.avhdx")
    write(vhdx, "top.avhdx", "t", MIB, 512)
    write(vhdx, "top.avhdx", "t", 8 * MIB + 512, MIB)


def expected_chain():
    """What top.avhdx of make_chain shows, and middle.avhdx, and base.vhdx."""
    base = bytearray(SIZE)
    base[:3 * MIB] = b"b" * (3 * MIB)
    base[5 * MIB:7 * MIB] = b"b" * (2 * MIB)
    middle = bytearray(base)
    middle[MIB - 512:MIB + 512] = b"m" * 1024
    middle[5 * MIB:6 * MIB] = bytes(MIB)
    top = bytearray(middle)
    top[MIB:MIB + 512] = b"t" * 512
    top[8 * MIB + 512:9 * MIB + 512] = b"t" * MIB
    return bytes(top), bytes(middle), bytes(base)


def contents_for_7zip(peer, directory, image):
    """What 7-Zip, which follows parents too, extracts."""
    peer("7zz", "i")
    return subprocess.run(["7zz", "x", "-so", "-tvhdx", image], cwd=directory, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True).stdout


def files(directory):
    """Every file and its bytes."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


class Halted:
    """The command in the middle of a long job: its progress goes to a pipe that is full after the first line."""

    def __init__(self, vhdx, *arguments):
        reader, self.writer = os.pipe()
        self.reader = reader
        room = fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        used = room - len(b"0/100\n1/100")  # one line fits, with one digit or two, and no second one
        os.write(self.writer, bytes(used))
        verb, *rest = arguments
        self.process = vhdx.start(verb, f"--progress={self.writer}", *rest, pass_fds=[self.writer],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, bytes(4)))[0] == used:
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate()
            time.sleep(0.005)

    def end_by(self, number):
        """Send the signal, let the job go on, and return what it said on stdout and stderr."""
        self.process.send_signal(number)
        os.close(self.writer)
        while os.read(self.reader, 65536):
            pass
        os.close(self.reader)
        said = self.process.communicate(timeout=60)
        assert self.process.returncode == -number, said
        return [text.decode() for text in said]
