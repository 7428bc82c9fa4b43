"""The report as JSON: what programs rely on, each key explained in docs/report.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.data.reports import make_report, make_timeline, make_token, minutes

from worker.pages.json_report import render_json
from worker.reports.batch_report.contents import Pause

DOCUMENTED = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")


def read() -> dict[str, Any]:
    report = make_report(timeline=make_timeline((1, 2), Pause(minutes(1), minutes(2), "paused by alice")))
    read = json.loads("".join(render_json(report, report.tokens or ())))
    assert isinstance(read, dict)
    return read


def name_keys(value: Any) -> Iterator[str]:
    """All keys, but for those of a command's facts, which are the audit's."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from () if key == "facts" else name_keys(part)
    elif isinstance(value, list):
        for part in value:
            yield from name_keys(part)


def test_every_key_is_documented() -> None:
    assert {key for key in name_keys(read()) if not re.search(rf"`{key}`", DOCUMENTED)} == set()


def test_it_says_the_same_as_the_page() -> None:
    answer = read()

    assert answer["outcome"].startswith("3 of 5 tokens are active")
    assert sum(number for name, number in answer["counts"].items() if name != "rows") == answer["counts"]["rows"] == 5
    assert answer["timeline"]["active"][-1] == {"at": "2026-03-01T21:32:00+00:00", "tokens": 2}
    assert answer["timeline"]["pauses"][0]["why"] == "paused by alice"
    assert [token["serial"] for token in answer["tokens"]] == [f"MADE00000{number}" for number in (1, 2, 3, 4)]
    assert answer["zone"] == "UTC"
    (refused,) = answer["refused"]
    assert (refused["reason"], refused["count"], refused["rows"][0]["row"]) == ("otps_unfit", 1, 17)


def test_no_token_and_hostile_text_are_json_too() -> None:
    assert json.loads("".join(render_json(make_report(), ())))["tokens"] == []
    hostile = '"],\u2028</script>\ud800'
    text = "".join(render_json(make_report(), [make_token(1, serial_number=hostile)]))
    assert json.loads(text)["tokens"][0]["serial"] == hostile
    text.encode()
