"""What other policies would have kept: least recently used, and what nobody can do better than."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence


def lru_hits(asked: Sequence[str], sizes: Mapping[str, int], room: int) -> int:
    """How many requests find what they ask for where what was used longest ago goes first."""
    held: OrderedDict[str, None] = OrderedDict()
    hits = taken = 0
    for key in asked:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        taken += sizes[key]
        held[key] = None
        while taken > room:
            taken -= sizes[held.popitem(last=False)[0]]
    return hits


def clairvoyant_hits(asked: Sequence[str], sizes: Mapping[str, int], room: int) -> int:
    """The same where what is asked for again last goes first (Belady's): the best for equal sizes."""
    never = len(asked)
    following, last = [never] * never, dict[str, int]()
    for place in range(never - 1, -1, -1):
        following[place] = last.get(asked[place], never)
        last[asked[place]] = place
    held: dict[str, int] = {}
    hits = taken = 0
    for place, key in enumerate(asked):
        hits += key in held
        if key not in held:
            taken += sizes[key]
        held[key] = following[place]
        while taken > room:
            farthest = max(held, key=held.__getitem__)
            del held[farthest]
            taken -= sizes[farthest]
    return hits


def most_saved(
    asked: Sequence[str], sizes: Mapping[str, int], worth: Mapping[str, float], room: int
) -> float:
    """An upper bound of the worth of all hits that any policy can have, even one that knows the future.

    A hit takes the bytes of what is hit from the request before to this one. All hits together cannot take
    more than `room` at all times; the bound takes the hits that are worth most for that, the last in part.
    """
    last: dict[str, int] = {}
    offers: list[tuple[float, int, float]] = []
    for place, key in enumerate(asked):
        if key in last:
            needs = sizes[key] * (place - last[key])
            offers.append((worth[key] / needs, needs, worth[key]))
        last[key] = place
    left, saved = room * len(asked), 0.0
    for _, needs, gain in sorted(offers, reverse=True):
        share = min(1.0, left / needs)
        saved += share * gain
        left -= round(share * needs)
        if left <= 0:
            break
    return saved
