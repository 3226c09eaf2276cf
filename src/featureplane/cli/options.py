"""Options that several commands share, said once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from cyclopts import Parameter

__all__ = [
    "READING",
    "AllowCode",
    "Backend",
    "Control",
    "FeatureSetName",
    "Json",
    "Paths",
    "Reading",
    "Source",
    "SourceName",
    "SourceOrGuess",
    "Symbol",
]


def _flag(text: str) -> Parameter:
    return Parameter(help=text, show_default=False)


Json: TypeAlias = Annotated[bool, _flag("Print one JSON object on standard output.")]
AllowCode: TypeAlias = Annotated[bool, _flag("Run a .py file; it is code with all its powers.")]
Paths: TypeAlias = Annotated[
    list[str], Parameter(name="PATH", help="Files that continue each other, in order of time.")
]
SourceName: TypeAlias = Literal[
    "binance-spot", "binance-usdm", "binance-coinm", "lobster", "hftbacktest", "capture", "synthetic"
]
Source: TypeAlias = Annotated[SourceName, Parameter(help="What wrote the files.")]
SourceOrGuess: TypeAlias = Annotated[
    SourceName | None, Parameter(help="What wrote the files; without it their beginning has to tell.")
]
Symbol: TypeAlias = Annotated[
    str | None, Parameter(help="The symbol to take; may be left out where the stream has one.")
]
FeatureSetName: TypeAlias = Annotated[
    str,
    Parameter(name="--features", help="The id of a shipped set, or a .toml or .py file that holds one."),
]
Control: TypeAlias = Annotated[
    Path, Parameter(help="The socket that `featureplane run --control` was given.")
]
Backend: TypeAlias = Annotated[
    Literal["auto", "rust", "python"], Parameter(help="Who computes; auto is Rust where it is installed.")
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Reading:
    """How the files are to be read."""

    instruments: Annotated[
        Path | None, Parameter(help="Instruments file; without one exponents are found in the data.")
    ] = None
    on_gap: Annotated[
        Literal["wait", "continue", "refuse"],
        Parameter(help="When ids are missing: wait for a snapshot, go on, or stop with an error."),
    ] = "wait"
    on_malformed: Annotated[
        Literal["raise", "drop"],
        Parameter(help="What no rule accepts: stop with an error, or drop the message and count it."),
    ] = "raise"
    on_mismatch: Annotated[
        Literal["raise", "adopt"],
        Parameter(help="LOBSTER rows the messages do not explain: stop with an error, or take the row."),
    ] = "raise"
    seed: Annotated[
        Literal["snapshot", "increments"],
        Parameter(help="Start the book from a snapshot, or empty from the first change."),
    ] = "snapshot"
    seed_after: Annotated[
        int | None, Parameter(help="With increments: frames after which the book counts as whole.")
    ] = None

    def options(self) -> dict[str, Any]:
        """As keyword arguments of `read_events`, `iter_events` and `compute`."""
        return {
            "instruments": self.instruments,
            "on_gap": self.on_gap,
            "on_malformed": self.on_malformed,
            "on_mismatch": self.on_mismatch,
            "seed": self.seed,
            "seed_after": self.seed_after,
        }

    def words(self) -> list[str]:
        """What was said of it, as words of a command."""
        said = {name: value for name, value in self.options().items() if value != getattr(READING, name)}
        return [word for name, value in said.items() for word in (f"--{name.replace('_', '-')}", str(value))]


READING: Final = Reading()
"""Nothing said about it."""
