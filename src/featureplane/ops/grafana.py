"""Dashboards as Grafana imports them, of any version from 10.1 on.

Made with grafana-foundation-sdk (extra `ops`); who wants only the files takes them from `shipped`. Leans on
`dashboards`. Where panels stand follows from their kind and order.
"""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from featureplane.errors import ExtraUnavailable
from featureplane.ops.dashboards import Board, Panel, Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

__all__ = ["dashboard_text"]

_SIZES: Final = {"number": (3, 4), "lines": (12, 8), "table": (12, 8)}
"""Width and height by kind of panel; a row is 24 wide."""

_CHOICES: Final = (("job", ""), ("instance", 'job=~"$job"'))

_REFRESH: Final = "10s"


def dashboard_text(board: Board) -> str:
    """The JSON of a dashboard.

    Raises `ExtraUnavailable` without the extra `ops`.
    """
    try:
        from grafana_foundation_sdk.builders import dashboard  # noqa: PLC0415 - an extra
        from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ExtraUnavailable("grafana-foundation-sdk", "ops", str(error)) from error

    made = dashboard.Dashboard(board.title).uid(board.uid).description(board.says).tags(["featureplane"])
    made = made.refresh(_REFRESH).time("now-1h", "now").timezone("utc").editable()
    made = made.variables([_datasource(), *(_choice(board.known_by, *one) for one in _CHOICES)])
    numbers = count(1)
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            made = made.with_panel(_panel(panel, next(numbers)))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _source() -> DataSourceRef:
    from grafana_foundation_sdk.models.dashboard import DataSourceRef  # noqa: PLC0415 - an extra

    return DataSourceRef(type_val="prometheus", uid="${datasource}")


def _datasource() -> Any:
    from grafana_foundation_sdk.builders.dashboard import DatasourceVariable  # noqa: PLC0415 - an extra

    return DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _choice(metric: str, label: str, where: str) -> Any:
    """Which of the services are shown; all of them at first."""
    from grafana_foundation_sdk.builders.dashboard import QueryVariable  # noqa: PLC0415 - an extra
    from grafana_foundation_sdk.models.dashboard import VariableRefresh  # noqa: PLC0415 - as above

    asked = f"label_values({metric}{{{where}}}, {label})"
    made = QueryVariable(label).label(label).query(asked).datasource(_source())
    made = made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).all_value(".*")
    return made.include_all(include_all=True).multi(multi=True)


def _panel(panel: Panel, number: int) -> Any:
    from grafana_foundation_sdk.builders import stat, table, timeseries  # noqa: PLC0415 - an extra
    from grafana_foundation_sdk.builders.common import VizTooltipOptions  # noqa: PLC0415 - as above
    from grafana_foundation_sdk.models import common  # noqa: PLC0415 - as above

    kinds: dict[str, Any] = {"number": stat.Panel, "lines": timeseries.Panel, "table": table.Panel}
    width, height = _SIZES[panel.kind]
    made = kinds[panel.kind]().title(panel.title).description(panel.says).datasource(_source())
    made = made.span(width).height(height).unit(panel.unit).thresholds(_thresholds(panel)).id(number)
    if panel.kind == "number":
        made = made.color_mode(common.BigValueColorMode.VALUE).graph_mode(common.BigValueGraphMode.AREA)
    elif panel.kind == "lines":
        tooltip = VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
        made = made.tooltip(tooltip).show_points(common.VisibilityMode.NEVER).fill_opacity(8)
    else:
        made = made.show_header(show_header=True)
    for at, query in enumerate(panel.queries):
        made = made.with_target(_query(query, "ABCDEF"[at], table=panel.kind == "table"))
    return made


def _query(query: Query, name: str, *, table: bool) -> Any:
    from grafana_foundation_sdk.builders.prometheus import Dataquery  # noqa: PLC0415 - an extra
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat  # noqa: PLC0415 - as above

    made = Dataquery().expr(query.expr).ref_id(name).datasource(_source())
    if table:
        return made.format(PromQueryFormat.TABLE).instant()
    return made.legend_format(query.legend) if query.legend else made


def _thresholds(panel: Panel) -> ThresholdsConfig:
    from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig  # noqa: PLC0415 - an extra
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode  # noqa: PLC0415 - as above

    steps = [Threshold(value=None, color="green")]
    if panel.bad_below is not None:
        steps = [Threshold(value=None, color="red"), Threshold(value=panel.bad_below, color="green")]
    if panel.bad_from is not None:
        steps.append(Threshold(value=panel.bad_from, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
