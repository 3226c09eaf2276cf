"""Objects below one prefix of a bucket, through pyarrow: put whole, look, read, list, move, delete.

An object is there whole or not at all, and nobody is told what becomes of it. Everything here ends within
a bounded time. Knows nothing of days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa

from featureplane.errors import StoreError
from featureplane.research.store.shelf import Unreachable

__all__ = ["Bucket", "Found"]

T = TypeVar("T")

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 15.0
_TRIES: Final = 2
_REFUSED: Final = ("ACCESS_DENIED", "CREDENTIALS", "INVALID_ACCESS_KEY_ID", "SIGNATURE", "AUTH", "TOKEN")


class Found(NamedTuple):
    """An object that is there; `mtime_ns` is when it was put, to the second."""

    path: str
    size: int
    mtime_ns: int


class Bucket:
    """The objects below `s3://bucket/prefix`; paths are relative to it.

    `endpoint` is the address of a server that speaks S3, that of AWS if empty. Credentials and region come
    from where the AWS tools look for them. Raises `StoreError` for a bucket that is not there or cannot be
    reached, and where credentials do not do; later on whatever cannot be reached is `Unreachable`.
    """

    def __init__(self, url: str, endpoint: str = "") -> None:
        self.url = url
        self._endpoint = endpoint
        told = urlsplit(url)
        self._bucket = told.netloc
        self._base = PurePosixPath(told.netloc, told.path.strip("/"))
        self._fs = _connected(endpoint)
        try:
            there = self._look(self._bucket) is not None
        except Unreachable as error:
            raise _cannot_begin(url, endpoint, str(error)) from None
        if not there:
            hint = "make the bucket first; is the region, or FEATURE_STORE_ENDPOINT, that of the bucket?"
            raise StoreError(f"{url}: there is no bucket {self._bucket!r}", hint=hint)

    def put(self, path: str, file: Path) -> None:
        """Put the bytes of a file under a name, whole; raises `Unreachable`."""
        with file.open("rb") as stream:
            data = stream.read()

        def put() -> None:
            stream = self._fs.open_output_stream(self._key(path))
            stream.write(data)
            stream.close()  # WHY not by `with`: what could not be written must not be completed

        self._asked(put)

    def find(self, path: str) -> Found | None:
        """An object, None where there is none; raises `Unreachable`."""
        info = self._look(self._key(path))
        return None if info is None else self._found(info)

    def read(self, path: str) -> pa.Buffer:
        """All bytes of an object; raises `FileNotFoundError`, `Unreachable`."""

        def read() -> pa.Buffer:
            with self._fs.open_input_file(self._key(path)) as stream:
                found: pa.Buffer = stream.read_buffer()
                return found

        return self._asked(read)

    def all(self, below: str = "") -> Iterator[Found]:
        """Every object, by path; raises `Unreachable`."""
        from pyarrow import fs  # noqa: PLC0415 - see `_connected`

        where = fs.FileSelector(self._key(below), recursive=True, allow_not_found=True)
        infos = self._asked(lambda: self._fs.get_file_info(where))
        yield from sorted(self._found(info) for info in infos if info.type == fs.FileType.File)

    def move(self, path: str, target: str) -> None:
        """Give an object another name; raises `FileNotFoundError`, `Unreachable`."""
        self._asked(lambda: self._fs.move(self._key(path), self._key(target)))

    def delete(self, path: str) -> None:
        """Remove an object, if it is there; raises `Unreachable`."""
        if self.find(path) is not None:
            self._asked(lambda: self._fs.delete_file(self._key(path)))

    def _key(self, path: str) -> str:
        return str(self._base / path)

    def _look(self, key: str) -> Any:
        from pyarrow import fs  # noqa: PLC0415 - see `_connected`

        info = self._asked(lambda: self._fs.get_file_info(key))
        return None if info.type == fs.FileType.NotFound else info

    def _found(self, info: Any) -> Found:
        path = str(PurePosixPath(info.path).relative_to(self._base))
        return Found(path, int(info.size or 0), int(info.mtime_ns or 0))

    def _asked(self, ask: Callable[[], T]) -> T:
        with _told(self.url):
            return ask()


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreachable(f"{url}: {error}") from None


def _connected(endpoint: str) -> Any:
    """WHY imported here: it loads the tools of AWS, which a root in a folder does not need."""
    from pyarrow import fs  # noqa: PLC0415

    told = urlsplit(endpoint)
    options: dict[str, Any] = {"endpoint_override": told.netloc, "scheme": told.scheme} if endpoint else {}
    options["allow_delayed_open"] = True  # one request for a small object
    return fs.S3FileSystem(
        connect_timeout=_CONNECT_S,
        request_timeout=_ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        **options,
    )


def _cannot_begin(url: str, endpoint: str, text: str) -> StoreError:
    if any(word in text for word in _REFUSED):
        hint = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, of somebody who may use the bucket"
        return StoreError(f"{url}: refused ({text})", hint=hint)
    where = endpoint or "AWS"
    hint = "is FEATURE_STORE_ENDPOINT the right one, and the network there?"
    return StoreError(f"{url}: {where} does not answer ({text})", hint=hint)
