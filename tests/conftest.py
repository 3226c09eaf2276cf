"""Whether the Rust extension takes part in this run."""

from __future__ import annotations

import os
import sys

import pytest

WITHOUT_NATIVE = bool(os.environ.get("FEATUREPLANE_WITHOUT_NATIVE"))

if WITHOUT_NATIVE:
    # WHY: None in `sys.modules` makes the import fail as it does where the extension was never built.
    sys.modules["featureplane._native"] = None  # type: ignore[assignment] # what typeshed does not know


def pytest_report_header() -> str:
    """The backend, at the top of every run."""
    from featureplane import native  # noqa: PLC0415 - after the line above

    return f"featureplane: {'with' if native.available() else 'without'} the Rust extension"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the extension where it is absent."""
    from featureplane import native  # noqa: PLC0415 - as above

    if native.available():
        return
    for item in items:
        if item.get_closest_marker("native"):
            item.add_marker(pytest.mark.skip(reason="needs the Rust extension"))
