"""Where a store is: a folder, or a prefix of a bucket with a folder of this machine beside it.

Leans on `settings`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featureplane.arguments import as_path
from featureplane.errors import SettingError
from featureplane.research.store.shelf import Shelf
from featureplane.settings import read_store_settings

__all__ = ["Place", "place_of"]

_SCHEME: Final = "s3://"
_BUCKET: Final = r"(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
_URL: Final = re.compile(rf"s3://{_BUCKET}(?P<prefix>(/[\w.+@=-]+)*)/?", re.ASCII)
_ANY_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_HINT: Final = "a folder, or s3://BUCKET/PREFIX, as text"


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` has everything but the days, if those lie below `url` on the server `endpoint`, else all."""

    folder: Path
    url: str = ""
    endpoint: str = ""

    def __str__(self) -> str:
        return self.url or str(self.folder)

    def shelf(self, on_step: Callable[[str], None] | None = None) -> Shelf:
        """Its files; raises `StoreError` for a bucket that is not there or cannot be reached."""
        if not self.url:
            return Shelf(self.folder, on_step)
        from featureplane.research.store.objects import ObjectShelf  # noqa: PLC0415 - for those alone

        return ObjectShelf(self.url, self.folder, self.endpoint, on_step)


def place_of(root: str | os.PathLike[str] | None) -> Place:
    """The place that a root names, `FEATURE_STORE_PATH` by default; raises `SettingError` for none.

    The folder of a root on object storage has a name that follows from its address, below
    `FEATURE_STORE_LOCAL_PATH`.
    """
    settings = read_store_settings()
    if root is not None:
        as_path("root", root)
    text = os.fspath(settings.path if root is None else root)
    if not _ANY_SCHEME.match(text):
        return Place(Path(text))
    told = _URL.fullmatch(text)
    if told is None or any(set(part) == {"."} for part in text.split("/")):
        raise SettingError(f"{text!r} is no root of a store", hint=_HINT)
    url = _SCHEME + told["bucket"] + told["prefix"]
    name = hashlib.sha256(f"{settings.endpoint} {url}".encode()).hexdigest()[:16]
    return Place(settings.local_path / f"{told['bucket']}-{name}", url, settings.endpoint)
