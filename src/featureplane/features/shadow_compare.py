"""What a live engine and its shadow say of one message, feature by feature, bit by bit.

Leans on `engine_state` and `frame`. Knows nothing of processes or queues.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from featureplane.features.engine_state import STATE_MAGIC, StateParts, load_symbol, state_parts
from featureplane.features.frame import FeatureFrame, FrameLayout
from featureplane.features.kernels.binding import is_timed
from featureplane.features.plan import Plan, canonical_json
from featureplane.features.spec import FeatureSet
from featureplane.features.symbol import SymbolRun
from featureplane.market.quality import Quality
from featureplane.units import UNDEFINED_F64_BITS, UNDEFINED_I64

__all__ = ["Comparison", "Differences", "in_order", "left_out", "transplanted"]

Differences = dict[str, tuple[object, object]]
"""What is unlike, by name: live, shadow."""

_FLOAT: Final = struct.Struct("<d")
_WORD: Final = 8
_SHOWN: Final = 128  # bytes of a state
_UNDEFINED_F64: Final = UNDEFINED_F64_BITS.to_bytes(_WORD, "little")
_HEAD: Final = ("symbol_id", "seq", "source_ts_ns", "local_ts_ns", "source_seq")


class Comparison:
    """Compares frames of `live` with frames of `shadow`, the same set or another with common features.

    `fresh(fset)` makes a run of the reference for one symbol, to look into states with. Values must have the
    same bits; those of `f64` features may differ by `abs_tol`, where both have one.
    """

    def __init__(
        self,
        live: FeatureSet,
        shadow: FeatureSet,
        *,
        abs_tol: float,
        fresh: Callable[[FeatureSet], SymbolRun],
    ) -> None:
        self._live, self._shadow = live, shadow
        self._same = live.fingerprint == shadow.fingerprint
        self._abs_tol, self._fresh = abs_tol, fresh
        out = left_out(live, shadow)
        self.features = tuple(one for one in live if one not in out)
        self._layouts = FrameLayout.of(live, {}), FrameLayout.of(shadow, {})
        self._places = [(live.index(one), shadow.index(one)) for one in self.features]
        self._same_steps = live.plan.reads == shadow.plan.reads
        wider = live.plan.reads <= shadow.plan.reads
        self._expected = self._same_steps or (wider and "book" in live.plan.reads)

    def frames(self, live: bytes, shadow: bytes | None) -> Differences | None:
        """How two frames of one message differ; None where the shadow need not have made one."""
        if shadow is None:
            return {"_frame": ("there", "missing")} if self._expected else None
        if self._same and live == shadow:
            return {}
        left, right = FeatureFrame(live, self._layouts[0]), FeatureFrame(shadow, self._layouts[1])
        found = self._values(self._of(0, live), self._of(1, shadow))
        self._masks(left, right, found)
        if self._same:
            names = [name for name in _HEAD if getattr(left, name) != getattr(right, name)]
            if names:
                found["_frame"] = _named(names, left), _named(names, right)
        return found

    def _of(self, side: int, frame: bytes) -> bytes:
        return frame[self._layouts[side].values_at :]

    def _values(self, live: bytes, shadow: bytes) -> Differences:
        found: Differences = {}
        for name, (i, j) in zip(self.features, self._places, strict=True):
            mine, other = live[_WORD * i : _WORD * (i + 1)], shadow[_WORD * j : _WORD * (j + 1)]
            if mine != other and not self._near(name, mine, other):
                found[name] = self._shown(name, mine), self._shown(name, other)
        return found

    def _is_loose(self, name: str) -> bool:
        return self._abs_tol > 0 and self._live[name].dtype == "f64"

    def _near(self, name: str, left: bytes, right: bytes) -> bool:
        if not self._is_loose(name):
            return False
        (x,), (y,) = _FLOAT.unpack(left), _FLOAT.unpack(right)
        return bool(abs(x - y) <= self._abs_tol)  # false where one has no value

    def _shown(self, name: str, bits: bytes) -> str:
        number: float | int = int.from_bytes(bits, "little", signed=True)
        if self._live[name].dtype == "f64":
            (number,) = _FLOAT.unpack(bits)
        undefined = bits in {UNDEFINED_I64.to_bytes(_WORD, "little", signed=True), _UNDEFINED_F64}
        return f"{'undefined' if undefined else repr(number)} (0x{bits[::-1].hex()})"

    def _masks(self, left: FeatureFrame, right: FeatureFrame, found: Differences) -> None:
        self._mask("_ready", (left.ready, right.ready), self._places, found)
        if self._same_steps:
            pairs = zip(self.features, self._places, strict=True)
            places = [place for name, place in pairs if not self._is_loose(name)]
            self._mask("_changed", (left.changed, right.changed), places, found)
        flags, other = left.flags, right.flags
        if not self._same:
            compared = ~Quality.PARTIAL_FEATURES if self._same_steps else Quality(0)
            flags, other = flags & compared, other & compared
        if flags != other:
            found["_flags"] = str(flags), str(other)

    def _mask(
        self, name: str, masks: tuple[int, int], places: list[tuple[int, int]], found: Differences
    ) -> None:
        left = "".join(str(masks[0] >> i & 1) for i, _ in places)
        right = "".join(str(masks[1] >> j & 1) for _, j in places)
        if left != right:
            found[name] = left, right

    def states(self, live: bytes, shadow: bytes, frames: Differences) -> Differences:
        """How two states of the same set differ, by the features that are computed from what is unlike.

        With a tolerance, what only `f64` features of equal frames are computed from may differ.
        """
        if live == shadow:
            return {}
        try:
            mine, other = self._fresh(self._live), self._fresh(self._live)
            load_symbol(mine, live)
            load_symbol(other, shadow)
        except Exception as error:  # noqa: BLE001 - whatever it is: these bytes are no state
            return {"_state": (f"{len(live)} bytes", f"{len(shadow)} bytes: {error}")}
        found = self._parts(state_parts(mine), state_parts(other), frames)
        if not found and not frames and not self._abs_tol:
            found["_state"] = f"{len(live)} bytes", f"{len(shadow)} bytes that say the same otherwise"
        return found

    def _parts(self, left: StateParts, right: StateParts, frames: Differences) -> Differences:
        found: Differences = {}
        for part in ("guard", "clock", "seq", "book"):
            mine, other = getattr(left, part), getattr(right, part)
            if mine != other:
                found["_state"] = f"{part} {mine[:_SHOWN].hex()}", f"{part} {other[:_SHOWN].hex()}"
        unlike = [at for at, (a, b) in enumerate(zip(left.nodes, right.nodes, strict=True)) if a != b]
        for name, nodes in _readers(self._live.plan, unlike):
            if name not in frames and not self._is_loose(name):
                at = nodes[-1]
                kernel = f"state of {self._live.plan.nodes[at].kernel} "
                found[name] = kernel + left.nodes[at][:_SHOWN].hex(), kernel + right.nodes[at][:_SHOWN].hex()
        values = self._values(left.values, right.values)
        return {name: values[name] for name in values if name not in frames} | found


def in_order(state: bytes, book: int) -> bytes:
    """A state whose levels, at `book`, are in no order, as every state is: best first."""
    if not book:
        return state
    words = np.frombuffer(state, np.int64).copy()
    at = book // _WORD
    for sign in (-1, 1):
        levels = words[at + 1 : at + 1 + 2 * int(words[at])].reshape(-1, 2)
        levels[:] = levels[np.argsort(sign * levels[:, 0], kind="stable")]
        at += 1 + levels.size
    return words.tobytes()


def _named(names: list[str], frame: FeatureFrame) -> str:
    return ", ".join(f"{name} {getattr(frame, name)}" for name in names)


def _readers(plan: Plan, nodes: Iterable[int]) -> Iterable[tuple[str, list[int]]]:
    """The features computed from some of these nodes, and from which."""
    of = set(nodes)
    below: list[set[int]] = []
    for at, node in enumerate(plan.nodes):
        below.append({at}.union(*(below[one] for one in node.inputs)))
    for feature in plan.features:
        if concerned := sorted(of & below[feature.node]):
            yield feature.feature_id, concerned


def left_out(live: FeatureSet, shadow: FeatureSet) -> dict[str, str]:
    """Features of `live` that cannot be compared with those of `shadow`, and why."""
    out: dict[str, str] = {}
    same_steps = live.plan.reads == shadow.plan.reads
    for spec in live.specs:
        if spec.feature_id not in shadow:
            out[spec.feature_id] = f"not in {shadow.feature_set_id}"
            continue
        twin = shadow[spec.feature_id]
        unlike = [
            name
            for name in ("definition", "dtype", "unit", "scale")
            if getattr(spec, name) != getattr(twin, name)
        ]
        if unlike:
            out[spec.feature_id] = f"another {unlike[0]}: {getattr(twin, unlike[0])}"
        elif not same_steps and _moves(live.plan, live.plan.features[spec.index].node):
            out[spec.feature_id] = "moves with a clock that other messages move"
    return out


def _moves(plan: Plan, at: int) -> bool:
    node = plan.nodes[at]
    return is_timed(node.kernel) or node.kernel == "ema_time" or any(_moves(plan, one) for one in node.inputs)


def transplanted(state: bytes, live: SymbolRun, shadow: SymbolRun, plans: tuple[Plan, Plan]) -> bytes:
    """A live state as one of the shadow's set: what both compute goes on, the rest begins anew.

    `live` and `shadow` are fresh runs of the reference; `plans` are theirs.
    """
    load_symbol(live, state)
    old, new = state_parts(live), state_parts(shadow)
    known = dict(zip(_keys(plans[0]), old.nodes, strict=True))
    nodes = [known.get(key, fresh) for key, fresh in zip(_keys(plans[1]), new.nodes, strict=True)]
    values = bytearray(new.values)
    places = {key: at for at, key in enumerate(_published(plans[0]))}
    for at, key in enumerate(_published(plans[1])):
        if (of := places.get(key)) is not None:
            values[_WORD * at : _WORD * (at + 1)] = old.values[_WORD * of : _WORD * (of + 1)]
    parts = (old.guard, old.clock, old.seq, bytes(values), old.book, *nodes)
    return b"".join((STATE_MAGIC, shadow.layout.prefix, *parts))


def _keys(plan: Plan) -> list[str]:
    """Each node by what it computes, whatever its number."""
    keys: list[str] = []
    for node in plan.nodes:
        text = canonical_json(node.definition() | {"inputs": [keys[one] for one in node.inputs]})
        keys.append(hashlib.sha256(text.encode("ascii")).hexdigest())
    return keys


def _published(plan: Plan) -> list[tuple[str, str]]:
    keys = _keys(plan)
    return [(feature.feature_id, keys[feature.node]) for feature in plan.features]
