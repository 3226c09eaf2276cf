"""What a mutation has to get past: small streams with faults under every set, both languages.

Exit status 1 at the first disagreement. Kept short: it runs once a mutation.
"""

from __future__ import annotations

from typing import Any, Final

from featureplane.errors import FeaturePlaneError
from featureplane.features.parity import parity
from featureplane.market.synthetic import Faults
from tests.parity.streams import ODD, SETS, V2, synthetic

STREAMS: Final[tuple[tuple[int, int, dict[str, Any]], ...]] = (
    (2_500, 7, {}),
    (2_500, 8, {"symbols": 2}),
    (2_000, 5, {"order_level": True}),
)
"""Events, seed and what else is special."""


def main() -> int:
    """Compare, and say what differed."""
    try:
        for count, seed, special in STREAMS:
            for fset in SETS:
                report = parity(synthetic(count, seed, **special), fset)
                if not report.agrees:
                    print(report.first_mismatch)
                    return 1
        # Windows of minutes cover only where nothing interrupts them.
        for fset in (V2, ODD):
            report = parity(synthetic(9_000, 3, faults=Faults.none()), fset)
            if not report.agrees:
                print(report.first_mismatch)
                return 1
    except (FeaturePlaneError, AssertionError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
