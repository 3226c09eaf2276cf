"""The rules and dashboards as files: written by `python -m scripts.docs`, and part of the package.

What makes them is `ops.rules` and `ops.grafana`; to have them takes no extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

__all__ = ["DASHBOARDS", "RULES", "dashboard_files", "rule_files"]

RULES: Final = ("featureplane.rules.yml", "featurestore.rules.yml", "featurestore.alertmanager.yml")
DASHBOARDS: Final = ("feature_plane.json", "shadow_parity.json", "featurestore.json")


def rule_files() -> Mapping[str, str]:
    """Names and texts of the files of rules, and of the routes of a store's alerts."""
    return _read(RULES)


def dashboard_files() -> Mapping[str, str]:
    """Names and texts of the files of dashboards."""
    return _read(DASHBOARDS)


def _read(names: tuple[str, ...]) -> Mapping[str, str]:
    return {name: (files(__package__) / name).read_text(encoding="utf-8") for name in names}
