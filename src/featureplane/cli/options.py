"""Options that several commands share, said once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

__all__ = ["AllowCode", "Json"]


def _flag(text: str) -> Parameter:
    return Parameter(help=text, show_default=False)


Json: TypeAlias = Annotated[bool, _flag("Print one JSON object on standard output.")]
AllowCode: TypeAlias = Annotated[bool, _flag("Run a .py file; it is code with all its powers.")]
