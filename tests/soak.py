"""How much of a soak is run: all of it, or a share of it to see whether it works (`scripts/soak.py`)."""

from __future__ import annotations

import os
from collections import Counter
from typing import Final

SCALE: Final = float(os.environ.get("FEATUREPLANE_SOAK_SCALE", "1"))
"""Share of a whole soak, above 0."""

compared: Counter[str] = Counter()
"""Events and frames compared so far by this process; the tests of parity report what they add."""


def share(count: int) -> int:
    """So many of `count`, at least one."""
    return max(1, round(count * SCALE))
