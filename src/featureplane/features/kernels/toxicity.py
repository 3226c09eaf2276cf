"""What signed trades say about who trades: VPIN and Kyle's lambda.

Both read `signed_qty`. Leans on `cell`, `state` and `units`. Twin: `kernels/toxicity.rs`.
"""

from __future__ import annotations

from typing import Final

from featureplane.features.kernels.cell import NO_VALUE, NOT_WARM, OVERFLOWN, Cell
from featureplane.features.kernels.state import StateReader, StateWriter
from featureplane.units import half_even_div

__all__ = ["KyleLambda", "Vpin"]


class Vpin:
    """Share of one-sided volume over the last n full buckets of volume V, in ppm, 0 to 10^6.

    Signed trades fill buckets of V one after the other, in order; a trade that fills one up goes on
    in the next. A bucket is full at the trade that brings it to V, not at the one after.

        R(10^6 sum |buy - sell|, n V)

    Sides are aggressor flags, not the bulk classification of the paper. V is the instrument's
    `vpin_bucket` (`bucket=None`: it names none, and there is never a value).

    State      size bought and size sold in the bucket being filled (two words, `u64`), then
               |buy - sell| of the last n full buckets (count, words, `u64`)
    Warm-up    n full buckets
    Reset      forgets all buckets and what the present one holds
    Undefined  before warm-up
    Source     Easley, Lopez de Prado, O'Hara, "Flow Toxicity and Liquidity in a High-frequency
               World", Rev. Financial Studies 25(5), 2012, pp. 1457-1493
    Twin       `kernels/toxicity.rs`, exact

    >>> vpin = Vpin(bucket=10, n=2)
    >>> for signed_qty in (6, -4, 13):
    ...     vpin.update(signed_qty)
    >>> vpin.read(0).value  # buckets 6:4 and 10:0, and 3 bought in the third
    600000
    """

    __slots__ = ("_bucket", "_buy", "_imbalances", "_n", "_sell")

    def __init__(self, bucket: int | None, n: int) -> None:
        if n < 1 or (bucket is not None and bucket < 1):
            raise ValueError(f"vpin: {n} buckets of {bucket}, expected at least 1 of at least 1")
        self._bucket = bucket
        self._n = n
        self.reset()

    def reset(self) -> None:
        self._buy = 0
        self._sell = 0
        self._imbalances: list[int] = []

    def update(self, x: int, clock_ns: int = 0) -> None:
        bucket = self._bucket
        if bucket is None:
            return
        rest = abs(x)
        # What only passes through can be cut to n buckets: the window holds no more.
        passing = max(rest // bucket - self._n - 1, 0)
        rest -= passing * bucket
        while rest > 0:
            part = min(rest, bucket - self._buy - self._sell)
            rest -= part
            if x > 0:
                self._buy += part
            else:
                self._sell += part
            if self._buy + self._sell == bucket:
                self._imbalances.append(abs(self._buy - self._sell))
                self._buy = self._sell = 0
        del self._imbalances[: -self._n]

    def read(self, clock_ns: int) -> Cell:
        if self._bucket is None or len(self._imbalances) < self._n:
            return NOT_WARM
        total = 0
        for imbalance in self._imbalances:
            total += imbalance
        return Cell.of_int(half_even_div(1_000_000 * total, self._n * self._bucket))

    def save(self, out: StateWriter) -> None:
        out.u64(self._buy)
        out.u64(self._sell)
        out.sequence_i64(self._imbalances)

    def load(self, state: StateReader) -> None:
        buy, sell, imbalances = state.u64(), state.u64(), state.sequence_i64()
        bucket = self._bucket or 0
        if buy + sell >= max(bucket, 1) or len(imbalances) > self._n:
            raise ValueError(f"vpin: saved state of another bucket than {self._n} of {self._bucket}")
        if not all(0 <= imbalance <= bucket for imbalance in imbalances):
            raise ValueError(f"vpin: saved imbalances outside 0 to {bucket}")
        self._buy, self._sell, self._imbalances = buy, sell, imbalances


_MOMENT_LIMIT: Final = 1 << 47
"""Second moments take values below this magnitude (rule 8)."""


class KyleLambda:
    """Price impact: the slope of the mid's move on signed size over the last n pairs.

    A pair is one message with signed trades: x its signed size, y the move of `mid_x2` from before
    it to before the next such message, which completes the pair. A pair whose message, or the next
    one, had no valid two-sided book before it is skipped.

        F(n Sxy - Sx Sy) / (2.0 * F(n Sxx - Sx^2))

    Unit: price per size, the 2.0 taking back the two of `mid_x2`.

    State      the message not completed: 0, or 1 with its `mid_x2` (optional `i64`) and its signed
               size so far (`i128`); then the pairs: count, and x, y of each (`i64`, oldest first),
               where a magnitude of 2^47 stands for that and all beyond it
    Warm-up    n completed pairs
    Reset      forgets pairs and message
    Undefined  before warm-up; all x alike; a pair with |x| or |y| >= 2^47 among the n (`OVERFLOW`)
    Source     Kyle, "Continuous Auctions and Insider Trading", Econometrica 53(6), 1985,
               pp. 1315-1335; estimated by least squares
    Twin       `kernels/toxicity.rs`, exact

    >>> impact = KyleLambda(n=2)
    >>> for step, (signed_qty, mid_x2) in enumerate([(5, 200), (-3, 204), (1, 200)]):
    ...     impact.update(signed_qty, mid_x2, step)
    >>> impact.read(0).value  # the mid moved by 2 on 5 bought, by -2 on 3 sold
    0.5
    """

    __slots__ = ("_message", "_n", "_pairs", "_step")

    def __init__(self, n: int) -> None:
        if not 2 <= n <= 1 << 16:
            raise ValueError(f"kyle_lambda: {n} pairs, expected 2 to 65536")
        self._n = n
        self.reset()

    def reset(self) -> None:
        self._message: tuple[int | None, int] | None = None
        self._step: int | None = None
        self._pairs: list[tuple[int, int]] = []

    def update(self, x: int, mid_before: int | None, step: int) -> None:
        """Take one signed size of message `step`; `mid_before` is the same for all of a message."""
        if self._message is not None and step == self._step:
            mid, size = self._message
            self._message = mid, size + x
            return
        if self._message is not None:
            mid, size = self._message
            if mid is not None and mid_before is not None:
                self._pairs.append((_held(size), _held(mid_before - mid)))
                del self._pairs[: -self._n]
        self._message = mid_before, x
        self._step = step

    def read(self, clock_ns: int) -> Cell:
        n = self._n
        if len(self._pairs) < n:
            return NOT_WARM
        sx = sy = sxx = sxy = 0
        for x, y in self._pairs:
            if abs(x) >= _MOMENT_LIMIT or abs(y) >= _MOMENT_LIMIT:
                return OVERFLOWN
            sx += x
            sy += y
            sxx += x * x
            sxy += x * y
        below = n * sxx - sx * sx
        if below == 0:
            return NO_VALUE
        return Cell.of_float(float(n * sxy - sx * sy) / (2.0 * float(below)))

    def save(self, out: StateWriter) -> None:
        out.flag(self._message is not None)
        if self._message is not None:
            out.option_i64(self._message[0])
            out.i128(self._message[1])
        out.u64(len(self._pairs))
        for x, y in self._pairs:
            out.i64(x)
            out.i64(y)

    def load(self, state: StateReader) -> None:
        self.reset()
        # The step is not saved: state is cut between steps, so the next trade is of another one.
        self._message = (state.option_i64(), state.i128()) if state.flag() else None
        self._pairs = [(state.i64(), state.i64()) for _ in range(state.count(16))]
        if len(self._pairs) > self._n:
            raise ValueError(f"kyle_lambda: {len(self._pairs)} saved pairs, expected at most {self._n}")
        if any(_held(x) != x or _held(y) != y for x, y in self._pairs):
            raise ValueError(f"kyle_lambda: saved pairs beyond {_MOMENT_LIMIT}")


def _held(x: int) -> int:
    return max(-_MOMENT_LIMIT, min(x, _MOMENT_LIMIT))
