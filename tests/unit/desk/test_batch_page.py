"""The page as a file: whole by itself, harmless whatever stands in it, and readable without seeing it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from support.data.facts import RUNNING, batch, make_command, make_overview, make_timeline, minutes

from models.reason import CURES, Reason
from worker import __version__
from worker.desk.batch_page import write_file
from worker.reports.facts import BatchStatus
from worker.reports.overview import Overview, Pause
from worker.reports.stall import Rehearsal

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
# Turns the direction of writing, so that a name reads as another.
TURNED = "gpj.\u202eexe"
ENDED = replace(
    batch("finished", active=3, dead_letter=1),
    rows_refused=1,
    dead_letters={"locked": 1},
    refused={"otps_unfit": 1},
    finished_at=minutes(30),
    read_at=minutes(30),
)


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        # Two cells are two words.
        self.text += " " if tag in ("td", "th") else ""

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def draw(overview: Overview, status: BatchStatus = ENDED) -> Page:
    return Page(write_file(status, overview))


def read(overview: Overview, status: BatchStatus = ENDED) -> str:
    """What a person reads of the page."""
    return " ".join(draw(overview, status).text.split())


def make_hostile() -> tuple[Overview, BatchStatus]:
    overview = make_overview(
        commands=(make_command(minutes(0), HOSTILE, "load", HOSTILE, {HOSTILE: HOSTILE, "list": [HOSTILE]}),),
        timeline=make_timeline((1, 2), Pause(minutes(1), minutes(2), HOSTILE)),
    )
    names = dict.fromkeys(("file", "environment", "environment_id", "loaded_by", "ticket"), HOSTILE)
    stands = {"state": "paused", "reason": HOSTILE, "detail": f"{HOSTILE} `{HOSTILE}`"}
    status = replace(RUNNING, name=HOSTILE, environment=HOSTILE, **stands)
    return replace(overview, origin=replace(overview.origin, **names)), status


def test_text_from_outside_stays_text() -> None:
    page = draw(*make_hostile())

    assert page.tags() & {"script", "img"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.source.count("<script") == 0
    assert page.text.count(HOSTILE) >= 17


def test_what_turns_the_direction_of_writing_is_shown_as_its_code() -> None:
    overview = make_overview()
    page = draw(replace(overview, origin=replace(overview.origin, file=TURNED)), replace(ENDED, environment=TURNED))
    assert "\u202e" not in page.source
    assert page.text.count("gpj.\\u202eexe") == 2


def test_the_page_needs_nothing_from_elsewhere_and_leads_nowhere() -> None:
    overview = make_overview(timeline=make_timeline((1, 2), Pause(minutes(1), minutes(2), "a")))
    for status in (ENDED, RUNNING, replace(RUNNING, state="paused", reason="person", detail="alice paused it.")):
        page = draw(overview, status)

        assert re.findall(r"https?:|//\w", page.source) == []
        assert re.findall(r"@import|url\(", page.source) == []
        loading = {"script", "link", "img", "iframe", "object", "embed", "base", "use", "image"}
        assert page.tags() & (loading | {"a", "form", "button", "input"}) == set()
        (policy,) = [each for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
        assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = draw(make_overview())

    assert page.all("html") == [{"lang": "en"}]
    assert page.source.count("<title>pallet-7</title>") == 1
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    assert all(each.get("role") == "img" for each in page.all("svg"))
    assert len(page.all("desc")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_was_asked() -> None:
    text = read(make_overview())

    for said in (
        "3 of 5 tokens are active; 2 are not: 1 was given up and 1 was refused at loading.",
        CURES[Reason.LOCKED],
        "otps_unfit 1 An OTP, its type or its time is missing",
        "oathbulk export pallet-7 --left -o pallet-7-left.csv",
        "Each of them: oathbulk export pallet-7 -o FILE",
        "The first token became active at 2026-03-01 21:31:00 UTC",
        "rows of the batch 5",
        "ab" * 32,
        "2026-03-01 21:30:00 UTC by alice",
        "CHG-1",
        f"Made by oathbulk {__version__} at 2026-03-01 22:00:00",
        "Every time on this page is in UTC.",
    ):
        assert said in text


def test_failures_have_a_colour_that_nothing_else_has() -> None:
    source = draw(make_overview()).source
    assert (source.count('class="n failed"'), source.count('class="given-up"')) == (2, 1)
    colour = re.search(r"\.failed {([^}]*)}", source)
    assert colour is not None
    assert "var(--bad)" in colour[1]
    assert set(re.findall(r"(\S+) {[^}]*var\(--bad\)", source)) == {".failed", ".given-up", ".state-dead_letter"}


def test_of_a_batch_of_before_the_page_claims_nothing_of_its_refused_rows() -> None:
    text = read(make_overview(), replace(ENDED, refused=None))
    assert "1 row of the file was refused before refused rows were kept" in text
    assert "Refused rows" not in read(make_overview(), replace(ENDED, rows_refused=0, refused={}))


def test_commands_of_a_rehearsal_are_those_that_find_it() -> None:
    rehearsed = replace(ENDED, rehearsal=Rehearsal(Path("/tmp/first"), "oathbulk"))
    assert "OATHBULK_HOME=/tmp/first oathbulk export pallet-7 -o FILE" in read(make_overview(), rehearsed)


def test_the_counts_that_are_shown_add_up() -> None:
    status = replace(batch(active=2000, dead_letter=30, cancelled=4, pending=5), rows_refused=6)
    table = draw(make_overview(), status).source.split('id="rows-title"')[1].split("</table>")[0]
    *parts, total = [int(cell.replace(",", "")) for cell in re.findall(r'<td class="n">([\d,]+)</td>', table)]
    assert sum(parts) == total == status.rows == 2045


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"timeline": make_timeline(()), "commands": ()}, batch()),
        ({"timeline": make_timeline((0,))}, ENDED),
        ({"timeline": make_timeline((), Pause(minutes(1), None, "a"))}, ENDED),
    ],
)
def test_a_batch_that_lacks_something_has_a_page_too(fields: dict[str, Any], status: BatchStatus) -> None:
    assert draw(make_overview(**fields), status).source.rstrip().endswith("</html>")


def test_the_axis_of_one_token_names_one() -> None:
    page = draw(make_overview(timeline=make_timeline((1,)))).source
    assert ">1 token</text>" in page
    assert ">3 tokens</text>" in draw(make_overview()).source
