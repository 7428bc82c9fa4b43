"""The alerts for Prometheus: they fire when they should, name metrics that exist, and say what to do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.data.facts import make_reading, parse_metrics, write_metrics
from support.pages.reading import read_page

from models.reason import PASSING, PauseReason

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "monitoring" / "alerts.yml"
PAGE = (DOCS / "monitoring.md").read_text(encoding="utf-8")
TESTS = ALERTS.with_name("alerts_test.yml")
PROMTOOL = shutil.which("promtool")
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
# A metric in an expression, with the labels in the braces behind it.
NAMED = re.compile(r"\b(oathbulk_\w+)(?:\{([^}]*)\})?")


def exposed() -> dict[str, set[str]]:
    """The names of all samples, and the labels that each has."""
    return {name: {label for label, _ in labels} for name, labels in parse_metrics(write_metrics(make_reading()))}


def test_no_rule_is_missing() -> None:
    assert len(NAMES) == 7


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_names_metrics_and_labels_that_the_exporter_exposes(rule: dict[str, Any]) -> None:
    found = exposed()
    for name, braces in NAMED.findall(rule["expr"]):
        assert name in found
        assert set(re.findall(r"(\w+)\s*(?:=|!|<|>)", braces)) <= found[name]
    labels = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert set(labels) <= set().union(*(found[name] for name, _ in NAMED.findall(rule["expr"])))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_where_the_page_says_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook"] == "docs/monitoring.md#the-alerts"
    assert f"| `{rule['alert']}` |" in read_page("docs/monitoring.md#the-alerts")


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_firing_and_silent(name: str) -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == name]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_a_pause_that_passes_or_has_an_alert_of_its_own_waits_for_no_person() -> None:
    (rule,) = [rule for rule in RULES if rule["alert"] == "OathbulkPausedForAPerson"]
    (left_out,) = re.findall(r'reason!~"([^"]*)"', rule["expr"])
    assert set(left_out.split("|")) == {*map(str, PASSING), str(PauseReason.CREDENTIALS)}


def test_the_page_lists_every_metric_and_no_other() -> None:
    families = {family.name: family.type for family in text_string_to_metric_families(write_metrics(make_reading()))}
    names = {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}
    assert set(re.findall(r"^\| `(oathbulk_\w+)`", PAGE, re.MULTILINE)) == names


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
@pytest.mark.parametrize("arguments", [("check", "rules", ALERTS), ("test", "rules", TESTS)], ids=["check", "test"])
def test_promtool_finds_nothing_wrong(arguments: tuple[str | Path, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
def test_promtool_finds_the_metrics_well_written() -> None:
    assert PROMTOOL is not None
    text = write_metrics(make_reading())
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
