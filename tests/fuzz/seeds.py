#!/usr/bin/python3
"""Seeds for the fuzz targets, from images that the command and, where they are installed, QEMU's tools make.

    tests/fuzz/seeds.py BUILD FOLDER

writes FOLDER/TARGET/NAME for every target.  BUILD holds the command; what cannot be made is left out, since every target
starts from images of its own, too (tests/fuzz/image.c).
"""
import os
import random
import shutil
import subprocess
import sys
import tempfile

import encode

SMALL_TARGETS = ("header", "region", "metadata", "identifier", "locator", "parents", "log", "bat", "fs")
PATHS = (b".\\base.vhdx", b"..\\..\\disks\\base.avhdx", b"\\\\?\\C:\\a\\b.vhdx", b"\\\\?\\UNC\\server\\share\\a.vhdx",
         b"\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\a.vhdx", b"/srv,/mnt/c", b"same-dir")


def run(*command):
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def raw_disk(path):
    with open(path, "wb") as file:
        file.truncate(9 << 20)
        for offset in (0, 700 << 10, 3 << 20, (8 << 20) + 4096):
            file.seek(offset)
            file.write(b"libvhdx" * 9)


def our_images(vhdx, folder, raw):
    """What the command makes; children follow their parents."""
    plain, child = folder + "/ours.vhdx", folder + "/ours-child.vhdx"
    run(vhdx, "convert", raw, plain)
    run(vhdx, "create", "--parent", plain, child)
    run(vhdx, "convert", "--type", "fixed", raw, folder + "/ours-fixed.vhdx")
    run(vhdx, "create", "--block-size", "32M", folder + "/ours-large.vhdx", "3G")


def qemu_images(folder, raw):
    for kind, options in (("dynamic", "subformat=dynamic,block_size=1M"), ("fixed", "subformat=fixed"),
                          ("blocks", "subformat=dynamic,block_size=8M,log_size=2M")):
        path = f"{folder}/qemu-{kind}.vhdx"
        run("qemu-img", "convert", "-O", "vhdx", "-o", options, raw, path)
    dirty = folder + "/qemu-dirty.vhdx"  # killed: its log is left behind
    if run("qemu-img", "create", "-f", "vhdx", "-o", "block_size=1M", dirty, "9M"):
        run("qemu-io", "-f", "vhdx", "-c", "write 0 64k", "-c", "write 5M 64k", "-c", "flush", "-c", "abort", dirty)


def write(folder, target, name, data):
    os.makedirs(f"{folder}/{target}", exist_ok=True)
    with open(f"{folder}/{target}/{name}", "wb") as file:
        file.write(data)


def seeds_of_images(folder, images):
    """Programs of random operations behind each image: the same in each run."""
    numbers = random.Random(1)
    images["base-parent"] = encode.image(encode.PARENT)
    for base in range(1, 10):
        images[f"base-{base}"] = encode.image(base)
    for name, data in images.items():
        tail = numbers.randbytes(80)
        for target in ("open", "replay", "program"):
            write(folder, target, name, data + tail)
        parent = images.get(name.replace("-child", ""), images["base-parent"]) if "child" in name else images["base-parent"]
        write(folder, "chain", name, data + parent + tail)


def seeds_of_failures(folder):
    """Calls and allocations that fail in a check, an open for reading and one for writing (fuzz_open.c)."""
    for base in (encode.CHILD, encode.DIRTY_CHILD):
        for which in range(6):
            for n in range(1, 45):
                write(folder, "open", f"failure-{base}-{which}-{n}", encode.image(base) + bytes([2, which, n]))


def main():
    build, folder = sys.argv[1:]
    images = {}
    with tempfile.TemporaryDirectory() as scratch:
        raw = scratch + "/disk.raw"
        raw_disk(raw)
        our_images(os.path.abspath(build) + "/tools/vhdx/vhdx", scratch, raw)
        qemu_images(scratch, raw)
        for name in sorted(os.listdir(scratch)):
            if name.endswith(".vhdx"):
                images[name[:-5]] = encode.real_file(f"{scratch}/{name}")
    seeds_of_images(folder, images)
    seeds_of_failures(folder)
    numbers = random.Random(2)
    for target in SMALL_TARGETS:
        for size in (0, 16, 64):
            write(folder, target, f"random-{size}", numbers.randbytes(size))
    for i, path in enumerate(PATHS):
        write(folder, "parents", f"path-{i}", b"\x01\xff" + path + b"\0\xff" + b"C:=/mnt/c")


if __name__ == "__main__":
    main()
