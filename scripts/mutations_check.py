"""What a mutation has to get past: both languages over streams that reach every rule, quickly.

    python -m scripts.mutations_check [--seconds]

Exit status 0 if everything agrees, `DIFFERS` at the first disagreement, which is printed; anything
else says that the comparison itself did not run. With `--seconds` what each case takes is told.

Cases that are short and strange come first: most mutations fall there.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import featureplane
from featureplane import native
from featureplane.errors import EmptyStream
from featureplane.features import kernels as k
from featureplane.features import native_engine
from featureplane.features.native_engine import NativeEngine
from featureplane.features.parity import Mismatch, parity
from featureplane.features.reference import ReferenceEngine
from featureplane.features.spec import FeatureSet
from featureplane.market.events import EventBatch, EventFlag, Kind, Side, SourceInfo, StreamOptions
from featureplane.market.synthetic import Faults
from featureplane.units import NANOS_PER_SECOND
from scripts.mutations import DIFFERS, ROOT
from tests import binance_lines
from tests.binance_lines import MALFORMED
from tests.parity import test_any_messages, test_compositions, test_corners
from tests.parity.corners import INSTRUMENTS, Op, book, instruments, script
from tests.parity.streams import ODD, SETS, TRADES, V1, V2, synthetic
from tests.streams import Change, order
from tests.unit import test_hftbacktest, test_lobster
from tests.unit.test_binance_parity import SOUND
from tests.unit.test_plan import EVERY_CONSTRUCTOR

_SAMPLE: Final = ROOT / "src" / "featureplane" / "sample" / "ethusdt_20240808.gz"
_SAMPLE_BYTES: Final = 300_000
_SOURCE: Final = SourceInfo("test", sequenced=True, has_snapshots=True, local_time=True, trade_sides=True)

DECAY: Final = FeatureSet(
    "decay_v1",
    features={
        **{f"intensity_{ms}ms": k.trade_intensity(half_life_ms=ms) for ms in (3, 17, 90, 400)},
        **{f"mid_{ms}ms": k.ema_time(k.mid_x2(), half_life_ms=ms) for ms in (3, 17, 90, 400)},
    },
)
"""Half-lives as short as the time between messages: only there every term of the decay counts."""

WIDE: Final = FeatureSet(
    "wide_v1", features={f"{name}_{i}": x for i in (1, 2) for name, x in EVERY_CONSTRUCTOR.items()}
)
"""Every kernel, and masks of two words."""


# -- shaped by hand


class Shape(NamedTuple):
    """A stream of a few messages, and what is not usual of its options and instruments."""

    name: str
    ops: list[Op]
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to
    instrument: dict[str, Any] = {}  # noqa: RUF012 - never written to


def _level(side: Side, price: int, qty: int, kind: Kind = Kind.LEVEL, flags: int = 0) -> Change:
    return Change(kind, side, price, qty, flags)


def _move(i: int) -> Op:
    """A book message behind which something is unlike before."""
    return Op((_level(Side.BID, 100 - i % 2, 3 + i % 5), _level(Side.ASK, 101 + i % 3, 2 + i % 4)))


def _trade(i: int, ids: str = "next", trades: int = 1) -> Op:
    side = (Side.BID, Side.ASK)[i % 2]
    return Op(tuple(Change(Kind.TRADE, side, 100 + i % 2, 1 + (i + n) % 3) for n in range(trades)), ids)


def _halves(size: int) -> Shape:
    """Books whose microprice and imbalance lie between two integers."""
    bid, ask = 9_999, 9_999 + 16_385
    snapshot = Kind.SNAPSHOT_LEVEL, int(EventFlag.RECOVERY)
    ops = [Op((_level(Side.BID, bid, size, *snapshot), _level(Side.ASK, ask, size, *snapshot)))]
    for bids, asks in ((1, 3), (3, 1), (1, 1), (129, 127), (127, 129)):
        ops.append(Op((_level(Side.BID, bid, bids * size), _level(Side.ASK, ask, asks * size))))
    return Shape(f"halves of sizes of {size}", ops)


def _orders() -> Shape:
    """A book of orders: the same ids again in an emptied one, clears up to where an order stands."""

    def full(bid: int, ask: int) -> Op:
        flags = int(EventFlag.RECOVERY)
        adds = [order(Kind.ADD, i, Side.BID, bid - i, 4 + i) for i in range(1, 4)]
        adds += [order(Kind.ADD, 3 + i, Side.ASK, ask + i, 4 + i) for i in range(1, 4)]
        return Op(tuple(one._replace(flags=flags) for one in (Change(Kind.CLEAR), *adds)))

    def changes(i: int) -> list[Op]:
        bound = int(EventFlag.BOUND)
        told = (
            order(Kind.MODIFY, 1, Side.BID, 99 - i, 7),
            order(Kind.EXECUTE, 4, Side.ASK, 0, 2),
            order(Kind.CANCEL, 5, Side.ASK, 0, i),
            order(Kind.CANCEL, 77, Side.ASK, 0, 1),
            Change(Kind.CLEAR, Side.BID, 98, 0, bound),
            order(Kind.ADD, 9, Side.BID, 98, 3),
            Change(Kind.CLEAR, Side.ASK, 105, 0, bound),
            order(Kind.ADD, 8, Side.ASK, 106, 3),
        )
        return [Op((change,)) for change in told]

    gap = _move(0)._replace(ids="gap")
    return Shape(
        "orders", [full(101, 102), *changes(0), _trade(0), gap, full(98, 103), *changes(1), _move(1)]
    )


def _far() -> Shape:
    """Levels thousands of ticks from the best, on either side of it, in a thin book."""
    sizes = (
        (10_000, 5),
        (1_000, 6),
        (12_000, 7),
        (12_000, 8),
        (999, 4),
        (12_000, 0),
        (1_000, 3),
        (10_000, 0),
    )
    changes = [_level(Side.BID, price, qty) for price, qty in sizes]
    changes += [_level(Side.ASK, 30_000 - price, qty) for price, qty in sizes]
    return Shape("far", [book(), Op((Change(Kind.CLEAR),)), *(Op((change,)) for change in changes)])


def _early(count: int) -> Shape:
    """So many messages from a clock that was set, and a few behind them."""
    ahead = [_move(i)._replace(lat_ms=-70_000, source_ms=250) for i in range(count)]
    return Shape(f"{count} early", [book(), _move(0), *ahead, *(_trade(i) for i in range(3)), _move(1)])


def _crossed(ms: int) -> Shape:
    """A book that stands crossed for so long, and trades before, in and behind that."""
    still = [Op((_level(Side.BID, 90, 1 + i),), source_ms=ms // 4) for i in range(4)]
    crossed = [Op((_level(Side.BID, 103, 4),)), *(_trade(i) for i in range(4)), *still, _trade(0)]
    mended = [Op((_level(Side.BID, 103, 0),)), *(_trade(i) for i in range(6)), _move(1)]
    return Shape(f"crossed for {ms} ms", [book(), _move(0), _trade(1), *crossed, *mended])


def _midnight(steps: tuple[int, ...], name: str, instrument: dict[str, Any]) -> Shape:
    """Midnight comes two seconds behind the beginning."""
    ops = [op._replace(source_ms=ms) for ms in steps for op in (_move(ms), _trade(ms)._replace(lat_ms=1))]
    return Shape(f"{name}, {steps} ms", [book(), _trade(0), *ops, _move(2), _trade(1)], {}, instrument)


def _shapes() -> Iterator[Shape]:
    late = [book(), _move(0), _move(1)._replace(ids="gap"), _move(2)._replace(ids="old"), _move(3)]
    late += [_trade(0), _trade(1, "gap"), _trade(2, "old"), _trade(3)]
    for on_gap in ("wait", "continue"):
        yield Shape(f"late, {on_gap}", late, {"on_gap": on_gap})
    ids = ("next", "again", "wide", "overlap", "again", "old", "gap", "fill", "next", "none", "next")
    yield Shape("ids", [book(), *(_move(i)._replace(ids=how) for i, how in enumerate(ids)), book(), _move(0)])
    yield _orders()
    yield _far()
    yield from (_halves(size) for size in (8, 1 << 37, 1 << 45))  # in floats, in 64 bits and in 128
    yield from (_early(count) for count in (5, 31, 32, 40))
    yield from (_crossed(ms) for ms in (900, 1_000, 1_004, 4_000))
    for name, at in (("UTC", 0), ("sessions", 3), ("New York", 5)):
        for steps in ((998, 1, 1), (999, 1, 1), (1_999, 1), (2_500,)):
            yield _midnight(steps, name, INSTRUMENTS[at])
    locked = [Op((_level(Side.BID, 101, qty),)) for qty in (4, 0)]
    for instrument in ({}, {"locked": "valid"}):
        yield Shape("locked", [book(), _move(0), locked[0], _move(1), locked[1], _move(2)], {}, instrument)
    several = [_trade(i, trades=1 + i % 3) for i in range(12)]
    between = [op for i, trades in enumerate(several) for op in (_move(i), trades)]
    yield Shape("several trades", [book(), *between])
    slow = [_move(i)._replace(lat_ms=900 + 40 * (i % 7), source_ms=5_000) for i in range(30)]
    yield Shape("late by seconds", [book(), *slow])


def shaped() -> None:
    """Streams of a few messages under every set, checked and trusted."""
    for shape in _shapes():
        events, _ = script([*shape.ops, _trade(0)])  # no set without a frame
        for fset in (*SETS, DECAY, test_any_messages.MIXED):
            for on_malformed in ("raise", "drop"):
                options = StreamOptions(on_malformed=on_malformed, **shape.options)
                agree(EventBatch(events, instruments(**shape.instrument), _SOURCE, options), fset, shape.name)


def continued() -> None:
    """States saved in one language and continued by the other, of a few kinds of instrument."""
    ops = [book(), book(symbol=1), *(_move(i) for i in range(4)), _trade(0), _move(5)._replace(ids="gap")]
    ops += [_trade(1), _move(2), Op((_level(Side.BID, 103, 4),), "fill"), *(_move(i) for i in range(3))]
    ops += [_move(3)._replace(source_ms=2_000), _move(4), _trade(2)]  # midnight
    for fset, about in ((V2, 0), (TRADES, 1), (ODD, 2)):
        for on_gap in ("wait", "continue"):
            feed = test_corners.Feed(instruments(**INSTRUMENTS[about]), _SOURCE, StreamOptions(on_gap=on_gap))
            test_corners.check_continued(fset, ops, feed, cut=9)


# -- drawn


def any_messages() -> None:
    """Messages no market would send, with all options, sampled frames among them."""
    for seed in range(60):
        report = test_any_messages.compared(seed, 160)
        if report is not None and report.first_mismatch is not None:
            raise AssertionError(f"seed {seed}: {shown(report.first_mismatch)}")


def compositions() -> None:
    """Sets nobody wrote: every kernel upon every other, and what has no value travels."""
    stream = synthetic(1_500, 3, vpin_bucket="500", tick_size="0.01")
    agree(stream, WIDE)
    for seed in range(6):
        stream = synthetic(700, seed, symbols=2, vpin_bucket="500", tick_size="0.01")
        agree(stream, test_compositions.random_set(seed))


def faulty() -> None:
    """Made-up markets with accidents."""
    for count, seed, special in (
        (2_500, 7, {}),
        (2_500, 8, {"symbols": 2}),
        (2_000, 5, {"order_level": True}),
    ):
        for fset in (*SETS, DECAY):
            agree(synthetic(count, seed, **special), fset)
    for fset, every in ((V1, 7), (V2, "100ms"), (TRADES, "1s")):
        agree(synthetic(1_500, 17, symbols=2), fset, every=every, emit="change")


def handed_over() -> None:
    """A market whose state goes from one language to the other and back every few hundred events."""
    for fset, special in ((V2, {"symbols": 2}), (ODD, {"order_level": True})):
        batch = synthetic(2_400, 21, **special)
        expected = [(frame.pack(), point) for frame, point in _engine(batch, fset, 0).process(batch.array)]
        states: dict[int, bytes] = {}
        got = []
        for at, piece in enumerate(batch.chunks(300)):
            engine = _engine(batch, fset, at)
            for symbol_id, state in states.items():
                engine.restore(symbol_id, state)
            got += [(frame.pack(), point) for frame, point in engine.process(piece.array)]
            states = {one.symbol_id: engine.snapshot(one.symbol_id) for one in batch.instruments}
        assert got == expected, f"{fset.feature_set_id}: frames behind states handed over"


def _engine(batch: EventBatch, fset: FeatureSet, at: int) -> Any:
    stream = (fset, batch.instruments, batch.source, batch.options)
    if at % 2 == 0:
        return ReferenceEngine(*stream)
    return NativeEngine(*stream, execution=("streaming", "block")[at // 2 % 2])


def readers() -> None:
    """What the fast readers make of bytes, and what the plain ones do."""
    texts: list[tuple[bytes, dict[str, Any]]] = [(SOUND, {})]
    texts += [(SOUND + text + SOUND, {"drop": True}) for text in MALFORMED.values()]
    with gzip.open(_SAMPLE) as stream:
        spot = {"futures": False, "symbol": "ETHUSDT", "exponents": (2, 5)}
        texts.append((stream.read(_SAMPLE_BYTES), spot))
    for text, options in texts:
        rust, python = (binance_lines.read(text, backend, **options).said() for backend in ("rust", "python"))
        assert rust == python, f"lines of Binance, {text[-200:]!r}"
    with tempfile.TemporaryDirectory() as folder:
        for books in (test_lobster.BOOKS, None):
            pair = test_lobster.write(Path(folder), books=books)
            told = [test_lobster.outcome(pair, backend) for backend in ("rust", "python")]
            assert told[0] == told[1], f"rows of LOBSTER, {'a' if books else 'no'} book file"
    test_hftbacktest.test_both_readers_agree_on_rows_of_chance()


def quiet() -> None:
    """Windows of minutes are covered only where nothing interrupts them."""
    for fset in (V2, ODD):
        agree(synthetic(9_000, 3, faults=Faults.none()), fset)


def agree(events: EventBatch, fset: FeatureSet, name: str = "market", **choice: Any) -> None:
    """AssertionError with the first frame that differs."""
    mismatch = parity(events, fset, **choice).first_mismatch
    assert mismatch is None, f"{name}, {fset.feature_set_id}: {shown(mismatch)}"


def shown(mismatch: Mismatch) -> str:
    """What differs first, in a few words."""
    name, (left, right) = next(iter(mismatch.differs.items()))
    return f"{mismatch.execution}, event {mismatch.event}: {name}: {left!r}, {right!r}"


CASES: Final[tuple[Callable[[], None], ...]] = (
    any_messages,
    shaped,
    readers,
    faulty,
    continued,
    handed_over,
    compositions,
    quiet,
)


def disagreement(case: Callable[[], None]) -> str:
    """What a case says that does not agree; empty if all does."""
    try:
        case()
    except EmptyStream:
        raise  # nothing was compared
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a mutation may raise anything; a panic of Rust is no Exception
        return f"{case.__name__}: {type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def main() -> int:
    """Run the cases until one disagrees."""
    parser = argparse.ArgumentParser(description="Compare both languages over short streams.")
    parser.add_argument("--seconds", action="store_true", help="tell what each case takes")
    tells = parser.parse_args().seconds
    native.module()
    # Hours and resets of ten years take longer to write down than a few messages to compare.
    native_engine._YEARS_NS = 90 * 86_400 * NANOS_PER_SECOND  # type: ignore[misc] # noqa: SLF001 - as above
    assert Path(featureplane.__file__).is_relative_to(ROOT), "another package than the one beside this script"
    for case in CASES:
        began = time.perf_counter()
        if told := disagreement(case):
            print(told)
            return DIFFERS
        if tells:
            print(f"{time.perf_counter() - began:6.2f} s  {case.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
