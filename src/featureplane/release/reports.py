"""Reports of `featureplane backtest --ab --json`, as evidence for a promotion.

Leans on nothing but the file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from featureplane.errors import SettingError, UnreadableFile

__all__ = ["Report", "read_report"]

_BYTES_MAX: Final = 16 << 20
_WHAT: Final = "what `featureplane backtest --ab --json` prints"
_NAME_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Report:
    """Both forms of a strategy over one recording.

    `strategy` is the name it has in the service, `form` the class of its shared form, `fingerprint` that of
    the set which that read, `decisions` how many each form took, `signed_by` who answers for a divergence.
    `sha256` is the file's.
    """

    strategy: str
    fingerprint: object
    same: object
    decisions: tuple[object, ...]
    sha256: str
    form: object
    signed_by: str = ""

    def against(self, candidate: str, form: str | None) -> tuple[bool, str]:
        """Whether it speaks for a candidate and the strategy of that class that consumed it, and why."""
        if (other := self._other(candidate, form)) is not None:
            return False, other
        counts = [one for one in self.decisions if type(one) is int and one >= 0]
        if len(counts) != 2 or sum(counts) == 0:
            return False, "no decision was compared"
        if self.same is True and counts[0] == counts[1]:
            return True, f"equal in {counts[0]:,} decisions"
        if self.same is not False:
            return False, "it does not say whether both forms agree"
        if not self.signed_by.strip():
            return False, "they differ, and nobody has signed that"
        return True, f"they differ, signed by {self.signed_by.strip()}"

    def _other(self, candidate: str, form: str | None) -> str | None:
        """What it is about, if that is something else."""
        if form is None:
            return "its class is not known: it has not consumed the candidate"
        if self.form != form:
            return f"about {self.form}, and in the canary it is {form}"
        return None if candidate and self.fingerprint == candidate else "about another feature set"

    def to_json(self) -> dict[str, Any]:
        """For the history."""
        return {
            "strategy": self.strategy,
            "form": str(self.form),
            "fingerprint": str(self.fingerprint),
            "sha256": self.sha256,
            "same": self.same is True,
            "signed_by": self.signed_by.strip() or None,
        }


def read_report(text: str, signed_by: str = "") -> Report:
    """The report in a file, given as `NAME=FILE`, or as `FILE` where a strategy has the name of its class.

    Raises `UnreadableFile` for a file that is none.
    """
    name, equals, rest = text.partition("=")
    path = Path(rest if equals else text)
    if len(signed_by) > _NAME_MAX or not signed_by.isprintable():
        raise SettingError(f"--sign {signed_by[:40]!r}", hint="the name of who answers for it")
    try:
        with path.open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
        table = json.loads(data)
    except OSError as error:
        raise UnreadableFile(str(path), error.strerror or str(error), _WHAT) from None
    except (ValueError, RecursionError):
        raise UnreadableFile(str(path), "no JSON", _WHAT) from None
    if not isinstance(table, dict) or not {"same", "decisions", "form", "fingerprint"} <= table.keys():
        raise UnreadableFile(str(path), "something else", _WHAT)
    decisions = table["decisions"]
    counts = (
        tuple(decisions.get(form) for form in ("legacy", "shared")) if isinstance(decisions, dict) else ()
    )
    digest = hashlib.sha256(data).hexdigest()
    form = table["form"]
    strategy = name if equals else str(form)
    return Report(strategy, table["fingerprint"], table["same"], counts, digest, form, signed_by)
