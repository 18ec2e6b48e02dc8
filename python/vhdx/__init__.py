"""Hyper-V VHDX disks: read, write, create, check, compact and merge them.

    with vhdx.open("disk.vhdx") as disk:
        boot_sector = disk.pread(512, 0)

A disk is a raw binary file object (io.RawIOBase), so io.BufferedReader, shutil.copyfileobj and whatever reads files take it.
pread, pwrite and the other calls with an offset may be made by any number of threads at once: the library does its work
without the global interpreter lock.  Errors are vhdx.Error, an OSError, and a class of their own for each code.
"""
from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import typing
import uuid

from . import _vhdx

__all__ = ["Disk", "Error", "Extent", "Finding", "Info", "check", "compact", "copy", "create", "merge", "open", "replay",
           "resize", "version"]

version: str = _vhdx.VERSION

Path = typing.Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Progress = typing.Callable[[int, int], typing.Any]
Say = typing.Callable[[str], typing.Any]

_WRITE, _IGNORE_LOG, _FORCE_SHARE, _NO_PARENTS = 1, 2, 4, 8  # VHDX_OPEN_* of vhdx/disk.h
_FORMATS = {"auto": 0, "vhdx": 1, "raw": 2}
_TYPES = {"dynamic": 0, "fixed": 1}
_PREALLOCATIONS = {"default": 0, "off": 1, "falloc": 2, "full": 3}

# ---- errors ----


class Error(OSError):
    """What went wrong, and where.

    code is the library's name for it ("BAD_BAT"); part and offset say where in the file (or None), rule and severity which
    rule of the format is broken (docs/vhdx-format.md, section 8), or 0 and None.
    """

    code: str
    part: str | None
    severity: str | None
    rule: int
    offset: int | None


def _make_class(code: str, builtin: type | None) -> type[Error]:
    name = "".join(word.capitalize() for word in code.split("_")) + "Error"
    made = type(name, (Error,) if builtin is None else (Error, builtin), {"__module__": __name__})
    globals()[name] = made
    __all__.append(name)
    return made


_BUILTINS = {"NOT_FOUND": FileNotFoundError, "EXISTS": FileExistsError, "PERMISSION": PermissionError}
_CLASSES = {code: _make_class(code, _BUILTINS.get(code)) for code, _, _ in _vhdx.CODES}


def _make_error(code: str, errno: int, message: str, part: str | None, severity: str | None, rule: int,
                offset: int | None) -> Error:
    error = _CLASSES[code](errno, message)
    error.code, error.part, error.severity, error.rule, error.offset = code, part, severity, rule, offset
    return error


_vhdx.set_error_maker(_make_error)


@contextlib.contextmanager
def _about(path: Path) -> typing.Iterator[bytes]:
    """The path as the library takes it; an error names it."""
    try:
        yield os.fsencode(path)
    except Error as error:
        error.filename = os.fsdecode(path)
        error.strerror = error.strerror.removeprefix(f"{error.filename}: ")
        raise


# ---- what calls take and give ----


def _choose(what: str, choices: dict[str, int], value: str) -> int:
    try:
        return choices[value]
    except KeyError:
        raise ValueError(f"{what}: {value!r} is none of {', '.join(choices)}") from None


def _parents(parents: str | typing.Iterable[Path], maps: typing.Mapping[str, Path] | None) -> tuple[bytes, tuple[bytes, ...]]:
    which = os.fsencode(parents) if isinstance(parents, str) else b",".join(os.fsencode(folder) for folder in parents)
    return which, tuple(os.fsencode(windows) + b"=" + os.fsencode(folder) for windows, folder in (maps or {}).items())


class Extent(typing.NamedTuple):
    """A range of a disk and where its bytes are."""

    offset: int              #: on the disk, bytes
    length: int
    layer: int               #: 0 is the disk itself, 1 its parent, ...
    file_offset: int | None  #: in the layer's file; None where nothing is stored
    is_zero: bool            #: reads as zeros
    is_present: bool         #: some layer decides what is read here


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about one image of a chain.  Sizes are bytes."""

    filename: str
    format: str                #: "vhdx" or "raw"
    type: str                  #: "dynamic", "fixed" or "differencing"
    virtual_size: int
    file_size: int
    block_size: int
    logical_sector_size: int
    physical_sector_size: int
    is_dirty: bool             #: its log held changes when it was opened
    disk_id: uuid.UUID
    data_write_guid: uuid.UUID  #: what children of the image ask for
    file_write_guid: uuid.UUID
    log_guid: uuid.UUID
    parent_linkage: uuid.UUID  #: what this image asks for; all zero without a parent
    block_count: int
    creator: str
    finding_count: int         #: rules that were seen broken while it was opened
    parent_relative_path: str


def _make_info(fields: tuple[typing.Any, ...]) -> Info:
    return Info(os.fsdecode(fields[0]), *(uuid.UUID(value) if 9 <= at <= 13 else value
                                          for at, value in enumerate(fields[1:], 1)))


# ---- disks ----


class Disk(io.RawIOBase):
    """An open disk; vhdx.open makes it.  Never copies what is read or written."""

    def __init__(self, handle: _vhdx.Disk, name: str, is_writable: bool) -> None:
        super().__init__()
        self._handle = handle
        self._is_writable = is_writable
        self._position = 0
        self.name = name
        self.size: int = handle.size()  #: bytes a guest sees
        self.mode = "r+b" if is_writable else "rb"

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        state = "closed" if self.closed else self.mode
        return f"<vhdx.Disk {self.name!r} {state}, {self.size} bytes>"

    # -- calls with an offset: for any number of threads --

    def pread(self, length: int, offset: int) -> bytes:
        """Read bytes; fewer than asked for only at the end of the disk."""
        length = min(length, self.size - offset)
        return self._handle.read(length, offset) if length > 0 else b""

    def pread_into(self, buffer: typing.Any, offset: int) -> None:
        """Fill a writable buffer (bytearray, memoryview, mmap, numpy array, ...) as a whole."""
        self._handle.read_into(buffer, offset)

    def pwrite(self, data: typing.Any, offset: int) -> None:
        """Write a buffer; durable after the next flush."""
        self._demand_writable()
        self._handle.write(data, offset)

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros; whole blocks of a dynamic image give up their space."""
        self._demand_writable()
        self._handle.zero(offset, length, False)

    def trim(self, offset: int, length: int) -> None:
        """Say that a range is not needed any more.  On a dynamic image it reads as zeros afterwards."""
        self._demand_writable()
        self._handle.zero(offset, length, True)

    def flush(self) -> None:
        """Make durable all that was written, zeroed or trimmed before."""
        if not self.closed and self._is_writable:
            self._handle.flush()

    def extents(self, offset: int = 0, length: int | None = None, *, sparse: bool = False) -> typing.Iterator[Extent]:
        """Where the bytes of a range lie, in order and without gaps; with sparse, holes of the host's files show, too."""
        end = self.size if length is None else offset + length
        while offset < end:
            for fields in self._handle.extents(offset, end - offset, sparse):
                extent = Extent(*fields)
                yield extent
            offset = extent.offset + extent.length

    @property
    def info(self) -> Info:
        """Facts about the disk's own image."""
        return _make_info(self._handle.info(0))

    @property
    def chain(self) -> list[Info]:
        """Facts about each image, the disk's own first, then its parent, ..."""
        return [_make_info(self._handle.info(depth)) for depth in range(self._handle.layer_count())]

    # -- as a file --

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._is_writable

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: typing.Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self._position))
        if count > 0:
            self._handle.read_into(view[:count], self._position)
            self._position += count
        return count

    def write(self, data: typing.Any) -> int:
        view = memoryview(data).cast("B")
        self.pwrite(view, self._position)
        self._position += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """Make everything durable and close.  An error says that it could not be; the disk is closed all the same."""
        if self.closed:
            return
        try:
            self._handle.close()
        except Error:
            self._forget()
            raise
        self._forget()

    def _forget(self) -> None:
        self._is_writable = False  # nothing is left to flush: io.RawIOBase asks for it
        super().close()

    def _demand_writable(self) -> None:
        if not self._is_writable:
            raise io.UnsupportedOperation("the disk is open for reading only")


def open(path: Path, mode: str = "r", *, format: str = "auto", parents: str | typing.Iterable[Path] = "same-dir",
         maps: typing.Mapping[str, Path] | None = None, ignore_log: bool = False, force_share: bool = False,
         cache_size: int = 0) -> Disk:
    """Open a disk: mode "r" to read, "r+" to read and write.

    format       "auto" (a VHDX or an error), "vhdx", "raw"
    parents      where the parents of a differencing image may be: "none", "same-dir", "any", or folders
    maps         where drives and shares of Windows are here: {"C:": "/mnt/c"}
    ignore_log   the file as it lies, without the changes its log holds; "r" only
    force_share  take no locks; "r" only
    cache_size   bytes of tables kept in memory, 0: 32 MiB
    """
    if mode not in ("r", "rb", "r+", "r+b", "rb+"):
        raise ValueError(f"mode {mode!r} is neither 'r' nor 'r+'")
    is_writable = "+" in mode
    flags = (is_writable and _WRITE) | (ignore_log and _IGNORE_LOG) | (force_share and _FORCE_SHARE)
    if parents == "none":
        flags |= _NO_PARENTS
    with _about(path) as name:
        handle = _vhdx.open(name, flags, _choose("format", _FORMATS, format), cache_size, *_parents(parents, maps))
    return Disk(handle, os.fsdecode(path), is_writable)


# ---- jobs ----


def create(path: Path, size: int = 0, *, parent: Path | None = None, type: str = "dynamic", block_size: int = 0,
           logical_sector_size: int = 0, physical_sector_size: int = 0, log_size: int = 0,
           disk_id: uuid.UUID | None = None, preallocation: str = "default", overwrite: bool = False,
           parents: str | typing.Iterable[Path] = "any", maps: typing.Mapping[str, Path] | None = None,
           progress: Progress | None = None) -> None:
    """Make a new image of `size` bytes, or with `parent` a differencing image over that (size 0: as large as it).

    What is 0 or None is as the library chooses: blocks of 2 MiB, sectors of 512 and 4096 bytes, a log of 1 MiB, a random id.
    """
    with _about(path) as name:
        _vhdx.create(name, b"" if parent is None else os.fsencode(parent), size, _choose("type", _TYPES, type), block_size,
                     logical_sector_size, physical_sector_size, log_size, b"" if disk_id is None else disk_id.bytes_le,
                     _choose("preallocation", _PREALLOCATIONS, preallocation), overwrite, *_parents(parents, maps), progress)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A broken rule of the format."""

    code: str
    message: str
    part: str | None
    severity: str       #: "warn", "repair", "ro", "block", "refuse": mildest first
    rule: int           #: N of rule VN in docs/vhdx-format.md, section 8
    offset: int | None  #: in the file


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check found."""

    findings: list[Finding]
    leaked_bytes: int
    allocated_blocks: int
    total_blocks: int
    file_size: int
    virtual_size: int
    is_dirty: bool     #: a log to be replayed; the findings are about the disk as it will be then
    is_complete: bool  #: every rule that applies could be looked at

    @property
    def is_damaged(self) -> bool:
        """Whether something is wrong that keeps the image from being read or written as it should."""
        return any(finding.severity in ("ro", "block", "refuse") for finding in self.findings)


def check(path: Path, *, force_share: bool = False, ignore_log: bool = False, progress: Progress | None = None) -> Report:
    """Look at every rule of the format that one file decides.  Nothing is written."""
    findings: list[Finding] = []

    def take(code: str, errno: int, message: str, part: str | None, severity: str, rule: int, offset: int | None) -> None:
        findings.append(Finding(code, message, part, severity, rule, offset))

    with _about(path) as name:
        return Report(findings, *_vhdx.check(name, force_share, ignore_log, take, progress))


@dataclasses.dataclass(frozen=True)
class CompactResult:
    """What compacting did, or with dry_run would do; bytes."""

    file_size_before: int
    file_size_after: int
    bytes_released: int
    blocks_freed: int
    blocks_moved: int
    guest_bytes_free: int  #: of file systems, what they called free


def compact(path: Path, *, file_systems: bool = False, zeroes: bool = False, sparse: bool = False, dry_run: bool = False,
            orphan_children: bool = False, parents: str | typing.Iterable[Path] = "any",
            maps: typing.Mapping[str, Path] | None = None, say: Say | None = None,
            progress: Progress | None = None) -> CompactResult:
    """Make the file of an image smaller, in place; an interrupted call is finished by the next one.

    file_systems  give up what FAT, exFAT and swap call free, and leave every other file system alone (the command `vhdx
                  compact` knows ext and NTFS, too)
    zeroes        read everything: what is zero needs no space
    """
    with _about(path) as name:
        return CompactResult(*_vhdx.compact(name, zeroes, file_systems, sparse, dry_run, orphan_children,
                                            *_parents(parents, maps), say, progress))


def resize(path: Path, size: int, *, dry_run: bool = False, parents: str | typing.Iterable[Path] = "any",
           maps: typing.Mapping[str, Path] | None = None, say: Say | None = None, progress: Progress | None = None) -> None:
    """Give the disk of an image another size, in bytes.  What a smaller disk cuts off is gone, without a question."""
    with _about(path) as name:
        _vhdx.resize(name, size, dry_run, *_parents(parents, maps), say, progress)


@dataclasses.dataclass(frozen=True)
class MergeResult:
    """What merging did, or with dry_run would do."""

    bytes_copied: int
    blocks_changed: int
    images_relinked: int


def merge(path: Path, *, into: Path | None = None, delete: bool = False, orphan_siblings: bool = False, dry_run: bool = False,
          parents: str | typing.Iterable[Path] = "any", maps: typing.Mapping[str, Path] | None = None, say: Say | None = None,
          progress: Progress | None = None) -> MergeResult:
    """Merge an image into its parent, or into the ancestor `into`; an interrupted call is finished by the next one."""
    with _about(path) as name:
        return MergeResult(*_vhdx.merge(name, b"" if into is None else os.fsencode(into), orphan_siblings, delete, dry_run,
                                        *_parents(parents, maps), say, progress))


def copy(source: Disk, target: Disk, *, threads: int = 0, detect_zeros: bool = True, progress: Progress | None = None) -> None:
    """Copy the contents of a disk to one that reads as zeros and is at least as large; holes and zeros are left out."""
    target._demand_writable()
    _vhdx.copy(source._handle, target._handle, threads, detect_zeros, progress)


def replay(path: Path) -> bool:
    """Write the changes that an image's log holds to their place.  Tells whether there were any."""
    with _about(path) as name:
        return _vhdx.replay(name)
