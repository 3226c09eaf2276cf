"""Where the recorded market data lie, beside the project; tests that need them skip clearly without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(
    os.environ.get("FEATUREPLANE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)


def shared(name: str) -> Path:
    """Path of a recorded file, or a skip that says what is missing."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"recorded data absent: {path} (set FEATUREPLANE_SHARED_DATA)")
    return path
