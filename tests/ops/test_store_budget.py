"""When the rules of the objective fire, to the minute: burn rates, nobody asking, every request missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featureplane.ops.rules import store_rules_text
from featureplane.ops.store_alerts import STORE_ALERTS, STORE_RECORDS
from featureplane.research.store.objective import OBJECTIVE
from tests.ops.test_store_rules import RATIOS, WELL, requests, series
from tests.prometheus import promtool

NAMED = {one.name: one for one in STORE_ALERTS}
FAST, SLOW, LONG = (f"FeatureStoreBudgetBurn{one}" for one in ("Fast", "Slow", "Long"))
LOW, CRITICAL = "FeatureStoreHitRatioLow", "FeatureStoreHitRatioCritical"
NO_TRAFFIC = "FeatureStoreNoTraffic"
WINDOWS = {FAST: (14.4, "1h", "5m"), SLOW: (6.0, "6h", "30m"), LONG: (1.0, "3d", "6h")}
"""How many times as fast as it may be the budget is spent, and over which two spans."""

HOUR, DAY = 60, 1_440
Asked = dict[tuple[int, str], bool]
"""Whether an alert fires in a minute."""


def store(*parts: tuple[int, int, int], step: int = 1) -> dict[str, str]:
    """A store over parts of so many minutes, each with so many hits and misses a step of minutes."""
    lasts = sum(minutes for minutes, *_ in parts) // step
    told = {one: f"0x{lasts}" for one in WELL if "requests_total" in one}
    told |= {series("up"): f"1x{lasts}"}
    for name, which in (("hit", 1), ("miss", 2)):
        at, values = 0, list[str]()
        for part in parts:
            steps, rate = part[0] // step, part[which]
            values.append(f"{at}+{rate}x{steps - 1}")
            at += rate * steps
        told[requests(name)] = " ".join(values)
    return told


def judge(folder: Path, given: dict[str, str], asked: Asked, step: int = 1) -> None:
    """Let promtool say whether these alerts fire when they are asked for, and only then."""
    (folder / "rules.yml").write_text(store_rules_text(), encoding="utf-8")
    tests = [
        {
            "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": "{}", "value": int(fires)}],
        }
        for (minute, name), fires in asked.items()
    ]
    told = [{"series": name, "values": values} for name, values in given.items()]
    file: dict[str, Any] = {
        "rule_files": [str(folder / "rules.yml")],
        "evaluation_interval": f"{step}m",
        "group_eval_order": ["featurestore-records", "featurestore-slo"],
        "tests": [{"interval": f"{step}m", "input_series": told, "promql_expr_test": tests}],
    }
    (folder / "tests.yml").write_text(json.dumps(file), encoding="utf-8")
    promtool("test", "rules", str(folder / "tests.yml"))


def test_every_recorded_number_is_what_its_name_says(tmp_path: Path) -> None:
    """Ninety hits and ten misses a minute, beside what is no request of the objective."""
    given = store((2 * HOUR, 90, 10)) | {
        requests(name): f"0+{rate}x{2 * HOUR}"
        for name, rate in (("warm", 70), ("open_day", 9), ("read_only", 5))
    }
    ratios = {one.name: 0.1 for one in STORE_RECORDS if one.name.startswith("featurestore:miss_ratio_")}
    values = {**ratios, "featurestore:hit_ratio_5m": 0.9, "featurestore:request_rate_5m": 100 / 60}
    assert set(values) == {one.name for one in STORE_RECORDS}
    (tmp_path / "rules.yml").write_text(store_rules_text(), encoding="utf-8")
    tests = [
        {
            "expr": f"count(abs({name} - {value!r}) < 1e-9) or vector(0)",
            "eval_time": f"{HOUR + 30}m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for name, value in values.items()
    ]
    told = [{"series": name, "values": one} for name, one in given.items()]
    file = {
        "rule_files": [str(tmp_path / "rules.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": told, "promql_expr_test": tests}],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(file), encoding="utf-8")
    promtool("test", "rules", str(tmp_path / "tests.yml"))


@pytest.mark.parametrize("name", WINDOWS)
def test_burn_rates_are_those_of_the_objective(name: str) -> None:
    times, long, short = WINDOWS[name]
    most = f"{times * (1 - OBJECTIVE):.3g}"
    ratio = "featurestore:miss_ratio"
    assert NAMED[name].expr == f"{ratio}_{long} > {most} and on (job, instance) {ratio}_{short} > {most}"


@pytest.mark.parametrize(
    ("name", "quiet", "fires", "hours"),
    [(FAST, 719, 721, 3), (SLOW, 299, 301, 8), (LONG, 49, 51, 80)],
)
def test_a_budget_that_is_spent_so_fast_fires(
    name: str, quiet: int, fires: int, hours: int, tmp_path: Path
) -> None:
    """Of a thousand: 72 % in an hour, 30 % in six, 5 % in three days."""
    step, ends = 1 if hours < 24 else 5, hours * HOUR
    for missed, is_told in ((quiet, False), (fires, True)):
        judge(tmp_path, store((ends, 1000 - missed, missed), step=step), {(ends - 10, name): is_told}, step)


def test_a_short_outage_is_told_by_the_ratio_and_spends_little(tmp_path: Path) -> None:
    """Ten minutes in which every request misses, in a day of hits."""
    asked = {(5 * HOUR + minute, name): False for minute in range(0, 40, 2) for name in (FAST, SLOW, LONG)}
    given = store((5 * HOUR, 1000, 0), (10, 0, 1000), (HOUR, 1000, 0))
    told = {(5 * HOUR + 4, CRITICAL): False, (5 * HOUR + 9, CRITICAL): True, (5 * HOUR + 25, CRITICAL): False}
    judge(tmp_path, given, asked | told)


def test_what_is_over_burns_no_more(tmp_path: Path) -> None:
    """The long span still has the outage, the short one has not."""
    given = store((2 * HOUR, 1000, 0), (HOUR, 0, 1000), (HOUR, 1000, 0))
    judge(tmp_path, given, {(3 * HOUR - 1, FAST): True, (3 * HOUR + 6, FAST): False})


def test_from_the_first_request_on_every_one_misses(tmp_path: Path) -> None:
    """There is no hit ever, and no series of hits that had to begin."""
    asked = {
        (1, CRITICAL): False,
        (4, CRITICAL): False,
        (8, CRITICAL): True,
        (9, LOW): False,
        (13, LOW): True,
    }
    judge(tmp_path, store((30, 0, 7)), asked | {(29, one): True for one in (CRITICAL, LOW, FAST)})


def test_ninety_five_of_a_hundred_are_enough_and_ninety_four_are_not(tmp_path: Path) -> None:
    for hits, low in ((95, False), (94, True)):
        judge(tmp_path, store((HOUR, hits, 100 - hits)), {(50, LOW): low, (50, CRITICAL): False})
    for hits, critical in ((81, False), (79, True)):
        judge(tmp_path, store((HOUR, hits, 100 - hits)), {(50, LOW): True, (50, CRITICAL): critical})


def test_no_traffic_has_no_ratio_and_an_alert_of_its_own(tmp_path: Path) -> None:
    """Misses, then nobody asks for eight hours, then somebody does.

    A burn rate lasts as long as its short span: five minutes, half an hour, six hours.
    """
    given = store((2 * HOUR, 200, 800), (8 * HOUR, 0, 0), (HOUR, 1000, 0))
    lasts = {SLOW: 30, LONG: 6 * HOUR}
    quiet = {
        (minute, one.name): False
        for one in RATIOS
        for minute in range(2 * HOUR + lasts.get(one.name, 5) + 6, 11 * HOUR, 10)
    }
    told = {
        (3 * HOUR + 3, NO_TRAFFIC): False,
        (3 * HOUR + 7, NO_TRAFFIC): True,
        (10 * HOUR + 3, NO_TRAFFIC): False,
    }
    before = {(2 * HOUR - 1, one): True for one in (LOW, CRITICAL, FAST, SLOW, LONG)}
    judge(tmp_path, given, before | quiet | told | {(3 * HOUR, "FeatureStoreAbsent"): False})


def test_a_store_that_nobody_ever_asked(tmp_path: Path) -> None:
    asked = {(119, one.name): False for one in (*RATIOS, NAMED["FeatureStoreAbsent"])}
    judge(tmp_path, store((2 * HOUR, 0, 0)), asked | {(30, NO_TRAFFIC): False, (119, NO_TRAFFIC): True})


def test_closed_sessions_are_no_breach_and_what_was_missed_before_them_is_not_told_again(
    tmp_path: Path,
) -> None:
    """Friday a fifth of the days is missed, nobody asks on Saturday and Sunday, Monday is well.

    That nobody asks is told meanwhile; the routes keep it to themselves on those two days.
    """
    given = store((DAY, 4_000, 1_000), (2 * DAY, 0, 0), (DAY, 5_000, 0), step=5)
    weekend, monday = range(DAY + 30, 3 * DAY, 6 * HOUR), range(3 * DAY + 15, 4 * DAY, 6 * HOUR)
    asked = {
        (minute // 5 * 5, one.name): False
        for minute in (*weekend, *monday)
        for one in RATIOS
        if one.name != LONG
    }
    asked |= {(minute // 5 * 5, LONG): False for minute in (*weekend[2:], *monday)}
    asked |= {(DAY - 5, LOW): True, (DAY - 5, LONG): True, (2 * DAY, NO_TRAFFIC): True}
    judge(tmp_path, given, asked | {(3 * DAY + 10, NO_TRAFFIC): False}, 5)
