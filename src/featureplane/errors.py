"""Every exception the package raises on purpose.

    FeaturePlaneError
    |- InputError            what came in cannot be used
    |  |- MalformedEvent
    |  |  `- BookMismatch
    |  |- UnreadableFile
    |  |- UnknownSymbol
    |  |- SequenceGap
    |  |- MissingSnapshot
    |  |- MissingDay
    |  |- FileOrder
    |  |- InstrumentMismatch
    |  |- InvalidInstrument
    |  |- InvalidOrder
    |  `- EmptyStream
    |- ContractError         two parts disagree about a shared shape
    |  |- UnknownFeature
    |  |- UnknownFeatureSet
    |  |- UnknownStrategy
    |  |- FeatureSetConflict
    |  |- FeatureSetMismatch
    |  |- PlanError
    |  `- ParityBreach
    |- StateError            asked for in a state that does not allow it
    |  |- NotReady
    |  |- IllegalTransition
    |  |- NoService
    |  |- BackendUnavailable
    |  `- ExtraUnavailable
    |- StoreError            the store or its manifest cannot be trusted
    `- SettingError          a setting or an argument cannot be read
       `- WrongArgument

Each class composes its own message from values, so that both backends say the same words; the
values are attributes too. `hint`, what to do next, is printed by the outermost layer, a traceback too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = [
    "BackendUnavailable",
    "BookMismatch",
    "ContractError",
    "EmptyStream",
    "ExtraUnavailable",
    "FeaturePlaneError",
    "FeatureSetConflict",
    "FeatureSetMismatch",
    "FileOrder",
    "IllegalTransition",
    "InputError",
    "InstrumentMismatch",
    "InvalidInstrument",
    "InvalidOrder",
    "MalformedEvent",
    "MissingDay",
    "MissingSnapshot",
    "NoService",
    "NotReady",
    "ParityBreach",
    "PlanError",
    "SequenceGap",
    "SettingError",
    "StateError",
    "StoreError",
    "UnknownFeature",
    "UnknownFeatureSet",
    "UnknownStrategy",
    "UnknownSymbol",
    "UnreadableFile",
    "WrongArgument",
]


def _listed(names: Sequence[object], most: int = 12) -> str:
    shown = ", ".join(str(n) for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "") if names else "none"


def _nearest(name: object, known: Sequence[str]) -> str:
    """What may have been meant, as the beginning of a hint."""
    import difflib  # noqa: PLC0415 - for an error alone, and importing the package is to cost nothing

    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]}? " if close else ""


class FeaturePlaneError(Exception):
    """The root of the tree. `hint` says what to do next, or is None."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class InputError(FeaturePlaneError):
    """What came in cannot be used."""


class MalformedEvent(InputError):
    """Bytes or events that no rule can turn into a market event.

    `line` counts from 1, `offset` (bytes, or events where `unit` says so) from 0.
    """

    def __init__(
        self,
        found: str,
        expected: str,
        *,
        file: str | None = None,
        line: int | None = None,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = ":".join(str(p) for p in (file, line) if p is not None)
        if offset is not None:
            place = f"{place} at byte {offset}" if place else f"byte {offset}"
        super().__init__(
            f"{place + ': ' if place else ''}found {found}, expected {expected}",
            hint=hint or "look at the named place; is this the right file for the source?",
        )
        self.found, self.expected = found, expected
        self.file, self.line, self.offset = file, line, offset


class BookMismatch(MalformedEvent):
    """A row of an order-book file that the messages beside it do not explain.

    `side` is "bid" or "ask", `price` scaled; `expected_size` is that of the order-book file, `got_size`
    that by the messages, scaled, 0 where the level is not there.
    """

    def __init__(
        self,
        side: str,
        price: int,
        expected: int,
        got: int,
        *,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(
            f"{side} {price} with size {got} by the messages",
            f"size {expected} as in the order-book file",
            file=file,
            line=line,
            hint="do both files belong together? "
            '`on_mismatch="adopt"` (`--on-mismatch adopt`) takes the row as it stands',
        )
        self.side, self.price, self.expected_size, self.got_size = side, price, expected, got


class UnreadableFile(InputError):
    """A file that is missing, of another kind, cut short or damaged."""

    def __init__(self, path: str, found: str, expected: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"{path}: found {found}, expected {expected}",
            hint=hint or "is the path right, and the file whole?",
        )
        self.path, self.found, self.expected = path, found, expected


class UnknownSymbol(InputError):
    """A symbol that is not in the stream or the engine; `known` are those that are."""

    def __init__(self, symbol: object, known: Sequence[object] = ()) -> None:
        super().__init__(
            f"symbol {symbol!r} is not here",
            hint=f"{_nearest(symbol, [str(one) for one in known])}these are: {_listed(known)}"
            if known
            else None,
        )
        self.symbol, self.known = symbol, tuple(known)


class SequenceGap(InputError):
    """Ids are missing in a stream that was opened with `on_gap="refuse"`."""

    def __init__(self, symbol: str, channel: str, expected: int, got: int) -> None:
        super().__init__(
            f"{symbol}: {channel} ids ({expected}, {got}] are missing",
            hint='`on_gap="wait"` (`--on-gap wait`) carries on behind the next snapshot',
        )
        self.symbol, self.channel, self.expected, self.got = symbol, channel, expected, got


class MissingSnapshot(InputError):
    """A stream of increments without the snapshot they build on."""

    def __init__(self, symbol: str, source: str) -> None:
        super().__init__(
            f"{symbol}: the {source} stream has no snapshot a book can start from",
            hint='add the file that has it, or ask for `seed="increments"` (`--seed increments`)',
        )
        self.symbol, self.source = symbol, source


class MissingDay(InputError):
    """A day that no file of a dataset holds; a day on which the market was closed is none of these."""

    def __init__(self, symbol: str, day: str, source: str) -> None:
        super().__init__(
            f"{symbol}: no file of the {source} dataset holds {day}",
            hint="add the file that does, ask for other days, or name the date among the `holidays`",
        )
        self.symbol, self.day, self.source = symbol, day, source


class FileOrder(InputError):
    """Files that do not continue each other in the order given; `right` is the order that would."""

    def __init__(self, given: Sequence[str], right: Sequence[str]) -> None:
        super().__init__(
            f"{_listed(given)}: a file begins before the one before it ended",
            hint="they overlap in time; leave one of them out"
            if list(given) == list(right)
            else f"the order by time is: {_listed(right)}",
        )
        self.given, self.right = tuple(given), tuple(right)


class InstrumentMismatch(InputError):
    """The instruments file says one thing, the data another."""

    def __init__(
        self, field: str, declared: object, found: object, *, file: str | None, line: int | None
    ) -> None:
        place = ":".join(str(p) for p in (file, line) if p is not None)
        super().__init__(
            f"{place + ': ' if place else ''}`{field}` is declared as {declared}, the data have {found}",
            hint="`featureplane instruments infer` writes a file that fits the data",
        )
        self.field, self.declared, self.found, self.file, self.line = field, declared, found, file, line


class InvalidInstrument(InputError):
    """An instrument, or a line of an instruments file, that cannot be meant as it stands."""

    def __init__(
        self, field: str, found: object, expected: str, *, file: str | None = None, line: int | None = None
    ) -> None:
        place = ":".join(str(p) for p in (file, line) if p is not None)
        super().__init__(
            f"{place + ': ' if place else ''}`{field}`: found {found!r}, expected {expected}",
            hint="`featureplane instruments infer` writes a file that fits its data",
        )
        self.field, self.found, self.expected, self.file, self.line = field, found, expected, file, line


class InvalidOrder(InputError):
    """An order that cannot be meant as it stands; nothing was asked of anyone."""

    def __init__(self, field: str, found: object, expected: str, *, hint: str | None = None) -> None:
        super().__init__(f"`{field}` of an order: found {found!r}, expected {expected}", hint=hint)
        self.field, self.found, self.expected = field, found, expected


class EmptyStream(InputError):
    """Nothing to work on: no events, or no frames. A comparison of nothing proves nothing."""

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"{what}: nothing there", hint=hint)
        self.what = what


class ContractError(FeaturePlaneError):
    """Two parts disagree about a shared shape."""


class UnknownFeature(ContractError):
    """A feature id that the set does not have."""

    def __init__(self, feature_id: object, known: Sequence[str] = ()) -> None:
        near = _nearest(feature_id, known)
        super().__init__(
            f"no feature {feature_id!r} in this set",
            hint=f"{near}it has: {_listed(known)}" if known else None,
        )
        self.feature_id, self.known = feature_id, tuple(known)


class UnknownFeatureSet(ContractError):
    """A feature set id that is not registered."""

    def __init__(self, set_id: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no feature set {set_id!r}",
            hint=f"{_nearest(set_id, known)}there are: {_listed(known)}; or give a .toml or .py file",
        )
        self.set_id, self.known = set_id, tuple(known)


class UnknownStrategy(ContractError):
    """A strategy that a module or file does not have; `known` are those it has."""

    def __init__(self, name: str, place: str, known: Sequence[str] = (), kind: str = "strategy") -> None:
        super().__init__(
            f"no {kind} {name!r} in {place}", hint=f"{_nearest(name, known)}it has: {_listed(known)}"
        )
        self.name, self.place, self.known = name, place, tuple(known)


class FeatureSetConflict(ContractError):
    """A second definition of a feature set id; `first` names the first feature that differs."""

    def __init__(self, set_id: str, first: str) -> None:
        super().__init__(
            f"feature set {set_id!r} is already defined otherwise; the first difference is {first}",
            hint="a set never changes after release; give the new one another id",
        )
        self.set_id, self.first = set_id, first


class FeatureSetMismatch(ContractError):
    """Two parties hold different fingerprints; `first` names the first feature that differs.

    `about` says who they are, where that is known.
    """

    def __init__(self, expected: str, got: str, first: str | None = None, *, about: str = "") -> None:
        super().__init__(
            f"{f'{about}: ' if about else ''}expected feature set fingerprint {expected}, got {got}"
            + (f"; the first difference is {first}" if first else ""),
            hint="`featureplane features diff A B` shows every difference",
        )
        self.expected, self.got, self.first = expected, got, first


class PlanError(ContractError):
    """A feature set that cannot be compiled or run.

    `feature_id` is the feature it is about; `place` the file and line it was read from.
    """

    def __init__(
        self,
        found: str,
        expected: str,
        *,
        feature_id: str | None = None,
        place: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = "".join(f"{p}: " for p in (place, f"`{feature_id}`" if feature_id else None) if p)
        super().__init__(
            f"{where}found {found}, expected {expected}",
            hint=hint or "`featureplane features show lob_shared_v2` prints definitions that work",
        )
        self.found, self.expected, self.feature_id, self.place = found, expected, feature_id, place

    def at(self, place: str) -> PlanError:
        """The same error with the file and line it was read from."""
        return PlanError(self.found, self.expected, feature_id=self.feature_id, place=place, hint=self.hint)


class ParityBreach(ContractError):
    """Two executions of one plan gave different bytes."""

    def __init__(self, where: str, reference: str, other: str, *, replay: str) -> None:
        super().__init__(f"{where}: reference {reference}, other {other}", hint=f"see it again: `{replay}`")
        self.where, self.reference, self.other, self.replay = where, reference, other, replay


class StateError(FeaturePlaneError):
    """Asked for in a state that does not allow it."""


class NotReady(StateError):
    """A feature without value now; it is never read as 0."""

    def __init__(self, symbol: str, feature_id: str, why: str) -> None:
        super().__init__(
            f"{symbol}: `{feature_id}` has no value: {why}",
            hint="look at `warmup_ready_mask` before reading, or ask with `default=`",
        )
        self.symbol, self.feature_id, self.why = symbol, feature_id, why


class IllegalTransition(StateError):
    """An event that a state machine has no row for; the state stays. `allowed` are the events that have."""

    def __init__(self, who: str, state: str, event: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"{who}: `{event}` is not possible from `{state}`",
            hint=f"from `{state}` one can: {_listed(allowed)}",
        )
        self.who, self.state, self.event, self.allowed = who, state, event, tuple(allowed)


class NoService(StateError):
    """Nobody listens where a running service was asked."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(
            f"{place}: no service answers ({why})",
            hint="is it running? --control names the place `featureplane run` was given",
        )
        self.place, self.why = place, why


class BackendUnavailable(StateError):
    """The Rust backend was asked for by name and is not installed."""

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"backend {backend!r} is not installed",
            hint="`featureplane doctor` says what is missing; `backend='auto'` falls back to the reference",
        )
        self.backend = backend


class ExtraUnavailable(StateError):
    """A package that an optional extra brings is not installed, or cannot be imported."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{package} cannot be used: {why}",
            hint=f"{sys.executable} -m pip install 'featureplane[{extra}]' brings it",
        )
        self.package, self.extra, self.why = package, extra, why


class StoreError(FeaturePlaneError):
    """The store or its manifest cannot be trusted."""


class SettingError(FeaturePlaneError):
    """A setting or an argument cannot be read."""


class WrongArgument(SettingError):
    """An argument of another kind than the function takes; `found` is what was given, by type and value."""

    def __init__(self, argument: str, given: object, expected: str, *, hint: str | None = None) -> None:
        import reprlib  # noqa: PLC0415 - for an error alone, and importing the package is to cost nothing

        kind = type(given)
        plain = given is None or kind in {bool, int, float, str, bytes}
        found = reprlib.repr(given) if plain else f"a `{kind.__module__.split('.')[0]}.{kind.__qualname__}`"
        super().__init__(f"`{argument}`: found {found}, expected {expected}", hint=hint or f"give {expected}")
        self.argument, self.found, self.expected = argument, found, expected
