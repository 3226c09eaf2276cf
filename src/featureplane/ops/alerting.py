"""What an alert rule is, and the few expressions that many of them are made of.

Knows nothing of which rules there are: those are in `alerts` and `rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["COMPUTED", "JOB", "ON", "SYMBOLS", "Alert", "Record", "grown"]

JOB: Final = "featureplane"
"""The `job` under which a service is scraped."""

ON: Final = "on (job, instance)"

SYMBOLS: Final = "count by (job, instance) (book_whole)"
"""How many symbols a service has: what happens to all of them at once happens so many times."""

COMPUTED: Final = 'result=~"emitted|updated"'
"""Of updates those that made a frame."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody is told: `critical` wakes one up, `warning` waits for working hours.

    `summary` and `description` may use labels of the expression, as `{{ $labels.instance }}`; `page` is the
    page of the runbook; `lasts` how long the expression must hold; `labels` are those beside the severity.
    """

    name: str
    severity: Literal["critical", "warning"]
    expr: str
    page: str
    summary: str
    description: str
    lasts: str = "0m"
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A number that is computed once and read by panels and rules."""

    name: str
    expr: str


def grown(counter: str, span: str, where: str = "", *, by: str = "") -> str:
    """How much a counter grew in that time, by service and that label; `where` are matchers."""
    labels = f"job, instance, {by}" if by else "job, instance"
    matched = f"{counter}{{{where}}}" if where else counter
    return f"sum by ({labels}) (increase({matched}[{span}]))"
