"""A file that appears at its path whole or not at all; what stood there stays until then.

    with WholeFile(path) as file:
        file.part.write_bytes(data)        beside the path, under a name of its own

Leans on `errors`.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from featureplane.errors import SettingError

__all__ = ["WholeFile", "check_ending", "check_target", "is_text"]

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_KINDS: Final = (
    (stat.S_ISDIR, "a folder", "name a file in it"),
    (stat.S_ISCHR, "a device", "name a file: the whole one takes its place"),
    (stat.S_ISBLK, "a device", "name a file: the whole one takes its place"),
    (stat.S_ISFIFO, "a pipe", "name a file: the whole one takes its place"),
    (stat.S_ISSOCK, "a socket", "name a file: the whole one takes its place"),
)

_FORMATS: Final = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".npz": "NumPy arrays",
    ".npy": "a NumPy array",
    ".html": "HTML",
    ".htm": "HTML",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".arrow": "Arrow",
    ".ipc": "Arrow",
    ".feather": "Feather",
    ".orc": "ORC",
    ".avro": "Avro",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".pkl": "a pickle",
    ".pickle": "a pickle",
    ".xls": "a spreadsheet",
    ".xlsx": "a spreadsheet",
    ".gz": "gzip",
    ".zst": "Zstandard",
    ".zip": "a ZIP archive",
}
"""What a name's ending promises to who opens it next. Any other ending promises nothing."""


def is_text(path: Path) -> bool:
    """Whether a path can be said in UTF-8: in a message, in a file's metadata, to another language."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_target(path: str | os.PathLike[str], inputs: object = ()) -> Path:
    """Where a file would be written: `path`, or what it links to.

    `inputs` is what is read for it: a path, several, or anything else, which is no file. Raises
    `SettingError` for a folder, a device, a pipe, a socket, and for one of the inputs.
    """
    target = Path(path)
    if not is_text(target):
        found = str(target).encode(errors="surrogateescape")
        raise SettingError(f"{found!r}: cannot be written (no name in UTF-8)", hint="name another file")
    if target.is_symlink():
        target = target.resolve()
    with suppress(OSError):
        mode = target.stat().st_mode
        for is_one, what, hint in _KINDS:
            if is_one(mode):
                raise SettingError(f"{path}: cannot be written (it is {what})", hint=hint)
        for one in _paths(inputs):
            if one.exists() and one.samefile(target):
                raise SettingError(
                    f"{path}: cannot be written (it is read, too)", hint="name another file to write"
                )
    return target


def check_ending(path: str | os.PathLike[str], ending: str) -> None:
    """Raise `SettingError` where a name ends as a format does that is not written: that of `ending` is.

    A name without an ending, or with one that no format has, is as good as any.
    """
    check_target(path)
    named, written = _FORMATS.get(Path(path).suffix.lower()), _FORMATS[ending]
    if named not in {None, written}:
        hint = f"name it {Path(path).with_suffix(ending)}"
        raise SettingError(
            f"{path}: found a name of {named}, expected {ending}: {written} is written", hint=hint
        )


class WholeFile:
    """A file to be written beside its path, at `part`, and put there by `publish`.

    An exception that leaves the `with` block, also Ctrl-C, discards it. Raises `SettingError` for a path that
    cannot be written, and where the disk has no room.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._given = path
        self.path = check_target(path)
        self.part = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        # WHY before it is there: an interrupt between two lines of ours must not leave it behind.
        weakref.finalize(self, _forget, self.part)
        try:
            self.part.touch(exist_ok=False)
        except OSError as error:
            raise self._refused(error) from None

    def publish(self) -> None:
        """Bring it to the disk and give it its name; raises `SettingError` where that cannot be done."""
        try:
            _sync(self.part, os.O_RDWR)
            self.part.replace(self.path)
            _sync(self.path.parent, os.O_RDONLY)
        except OSError as error:
            self.discard()
            raise self._refused(error) from None

    def discard(self) -> None:
        """Forget it; nothing is left behind."""
        _forget(self.part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.publish()
        else:
            self.discard()
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise self._refused(error) from None

    def _refused(self, error: OSError) -> SettingError:
        return SettingError(
            f"{self._given}: cannot be written ({error.strerror or error})",
            hint="is its folder there, has it room, and may it be written?",
        )


def _paths(inputs: object) -> Iterable[Path]:
    """Those of the inputs that name a file."""
    if isinstance(inputs, str | os.PathLike):
        return (Path(inputs),)
    several: Iterable[Any] = inputs if isinstance(inputs, list | tuple) else ()
    return [Path(one) for one in several if isinstance(one, str | os.PathLike)]


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
