"""Compacting an image in place, beside the usual road to a smaller one: zerofree, then qemu-img convert to a second file.

The image has lived: files of three times what is live were written all over its ext4, and most of them deleted again.  The
road gets it as a raw file, which spares it the reading of a VHDX; each way ends when its result is durable.
"""
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import time

MIB = 1 << 20
LIVE, WRITTEN = 0.30, 0.82  # of the disk
TOOLS = ("zerofree", "mkfs.ext4", "debugfs", "e2fsck")
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


def missing_tools():
    return [tool for tool in TOOLS if not shutil.which(tool, path=PATH)]


def run(*command, **more):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PATH": PATH}, **more)


def fill(folder, size):
    """Files of 1 to 64 MiB with random bytes; returns the names of those that are to go."""
    draw, written, live, gone = random.Random(4), 0, 0, []
    junk = draw.randbytes(64 * MIB)
    while written < WRITTEN * size:
        length = draw.choice((1, 3, 8, 21, 64)) * MIB - draw.randrange(8192)
        name = f"{len(os.listdir(folder)):05}"
        with open(folder / name, "wb") as file:
            file.write(name.encode())
            file.write(junk[:length])
        written += length
        if live >= LIVE / WRITTEN * written:
            gone.append(name)
        else:
            live += length
    return gone


def make_disk(vhdx, raw, image, size, folder):
    files = folder / "files"
    files.mkdir()
    gone = fill(files, size)
    with open(raw, "wb") as file:
        file.truncate(size)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-d", files, raw)
    shutil.rmtree(files)
    run("debugfs", "-w", "-f", "-", raw, input="".join(f"rm {name}\n" for name in gone).encode())
    run("e2fsck", "-fn", raw)
    run(vhdx, "convert", "-q", "-f", "raw", raw, image)


def copy(source, target):
    run("cp", "--sparse=always", "--reflink=never", source, target)
    os.sync()


def timed(*steps):
    """Of each step the seconds."""
    seconds = []
    for step in steps:
        start = time.monotonic()
        run(*step)
        seconds.append(time.monotonic() - start)
    return seconds


def taken(path):
    return os.stat(path).st_blocks * 512


def measure_compact(vhdx, folder, rounds, gib):
    """Rows of who, seconds, length and taken; and how many times faster ours is, round by round."""
    folder = pathlib.Path(folder) / "compact"
    folder.mkdir()
    raw, image, ours, road, second = (folder / n for n in ("d.raw", "d.vhdx", "ours.vhdx", "road.raw", "second.vhdx"))
    make_disk(vhdx, raw, image, gib * 1024 * MIB, folder)
    figures = {"zerofree": [], "qemu-img convert": [], "ours": []}
    for _ in range(rounds):
        copy(raw, road)
        zero, convert, flush = timed(("zerofree", road), ("qemu-img", "convert", "-f", "raw", "-O", "vhdx", road, second),
                                     ("sync", second))
        figures["zerofree"].append(zero)
        figures["qemu-img convert"].append(convert + flush)
        sizes = {"qemu-img convert": (second.stat().st_size, taken(second))}
        road.unlink()
        second.unlink()

        copy(image, ours)
        figures["ours"] += timed((vhdx, "compact", "-q", ours))
        sizes["ours"] = (ours.stat().st_size, taken(ours))
        run("qemu-img", "convert", "-f", "vhdx", "-O", "raw", ours, road)
        run("e2fsck", "-fn", road)
        road.unlink()
        ours.unlink()
    shutil.rmtree(folder)
    rows = [{"who": who, "seconds": statistics.median(seconds), "length": sizes.get(who, (0, 0))[0],
             "taken": sizes.get(who, (0, 0))[1]} for who, seconds in figures.items()]
    ratio = statistics.median((a + b) / c for a, b, c in zip(*figures.values()))
    return rows, ratio


def compact_lines(rows, ratio, gib):
    """For the document."""
    sizes = {row["who"]: row["length"] for row in rows}
    small = sizes["ours"] <= sizes["qemu-img convert"]
    lines = ["", f"Compacting an image of {gib} GiB with an ext4, {LIVE * gib:.1f} GiB of it live, {WRITTEN * gib:.1f} GiB"
             " written before: in place, and by zerofree and a copy.", "",
             "| who | seconds | length of the file, MiB | taken of the host, MiB |", "|---|---:|---:|---:|"]
    for row in rows:
        cells = [f"{row[key] / MIB:.0f}" if row[key] else "" for key in ("length", "taken")]
        lines.append(f"| {row['who']} | {row['seconds']:.2f} | {cells[0]} | {cells[1]} |")
    return [*lines, "", f"Ours is {ratio:.1f} times as fast as the road; goal at least 2: "
            + ("met" if ratio >= 2 else "**missed**") + ".  At least as small: " + ("met." if small else "**missed**.")]
