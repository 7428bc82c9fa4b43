"""The JSON of a plan: what `--plan` and other programs read."""

from __future__ import annotations

import json

import pytest
from support.data.plans import ASKED, make_plan, make_preflight

from worker.pages.plan_files import PlanForm, render_plan


def test_the_json_has_the_hash_and_the_parts_that_it_is_made_of() -> None:
    read = json.loads(render_plan(PlanForm.JSON, make_plan()))
    assert (read["plan"], read["parts"]) == ("0123456789ab", {"batch": "july", "canary": None})


def test_the_json_tells_what_the_page_tells() -> None:
    read = json.loads(render_plan(PlanForm.JSON, make_plan(preflight=make_preflight(ASKED))))
    assert read["purpose"].startswith("3 tokens of july.csv")
    assert (read["blocking"], read["findings"][0]["accepted"]) == (["devices_old"], False)
    assert read["columns"] == [{"column": "lot", "values": {"L-1": 2, "L-2": 1}}]
    assert {"command": "oathbulk unpair july --yes", "does": read["undo"][2]["does"]} == read["undo"][2]
    assert read["settings"] == [{"name": "OATHBULK_MAX_ATTEMPTS", "value": "8", "from": "default", "in_hash": True}]


@pytest.mark.parametrize(("form", "beginning"), [(PlanForm.HTML, "<!doctype html>"), (PlanForm.JSON, "{")])
def test_each_form_is_written(form: PlanForm, beginning: str) -> None:
    assert render_plan(form, make_plan()).startswith(beginning)
