"""What the executions of a plan count, by name.

Knows nothing of what is counted.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COUNTS"]

COUNTS: Final = ("dropped", "gaps", "broken", "resets", "flags", "steps")
"""The tables of `FeatureEngine.counts`, the same in both backends."""
