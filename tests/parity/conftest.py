"""What every comparison of executions has around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from featureplane.features import native_engine
from featureplane.units import NANOS_PER_SECOND
from tests.soak import compared


@pytest.fixture(autouse=True, scope="module")
def _short_years(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hours and resets of ten years take longer to write down than a few messages to compare."""
    with pytest.MonkeyPatch.context() as patch:
        if getattr(request.module, "SHORT_STREAMS", False):
            patch.setattr(native_engine, "_YEARS_NS", 90 * 86_400 * NANOS_PER_SECOND)
        yield


@pytest.fixture(autouse=True)
def _counted(record_property: Callable[[str, object], None]) -> Iterator[None]:
    """How much was compared stands in the report of each test."""
    before = compared.copy()
    yield
    for name, count in (compared - before).items():
        record_property(name, count)
