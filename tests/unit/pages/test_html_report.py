"""The page: whole by itself, harmless whatever stands in a file, and readable without seeing it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest
from support.data.histories import refused_line
from support.data.reports import make_group, make_refused, make_report, make_timeline, make_token, minutes

from models.reason import CURES, Reason
from worker.pages.html_report import make_environment, mark_code, render_html
from worker.reports.batch_report.contents import (
    Command,
    Pause,
    Report,
    RowCounts,
    State,
    StepColumn,
    StepShare,
)
from worker.reports.taken_over import TakenOver

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
# Turns the direction of writing, so that a name reads as another.
TURNED = "gpj.\u202eexe"


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


def draw(report: Report) -> Page:
    return Page("".join(render_html(report)))


def make_hostile() -> Report:
    token = make_token(1, serial_number=HOSTILE, person=HOSTILE, lot=HOSTILE, status="dead_letter", reason="locked")
    row = refused_line(serial_number=HOSTILE, detail=HOSTILE)
    report = make_report(
        batch=HOSTILE,
        tokens=(token,),
        dead_letters=(replace(make_group(Reason.LOCKED, 1, token), cure=HOSTILE),),
        refused=(make_refused(reason=HOSTILE, cure=HOSTILE, rows=(row,)),),
        state=State("paused", HOSTILE, f"{HOSTILE} `{HOSTILE}`", is_passing=False),
        counts=RowCounts(active=1, open=1, dead_letter=1),
        commands=(Command(minutes(0), HOSTILE, "load", HOSTILE, {HOSTILE: HOSTILE, "list": [HOSTILE]}),),
        timeline=make_timeline((1, 2), Pause(minutes(1), minutes(2), HOSTILE)),
        step_columns=(StepColumn(HOSTILE, (StepShare(HOSTILE, 20, 18, stands_out=True), StepShare("b", 20, 1))),),
    )
    names = dict.fromkeys(("file", "environment", "environment_id", "loaded_by", "ticket", "parent"), HOSTILE)
    return replace(report, origin=replace(report.origin, **names))


def test_text_from_outside_stays_text() -> None:
    page = draw(make_hostile())

    assert page.tags() & {"script", "img"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.source.count("<script") == 0
    assert page.text.count(HOSTILE) >= 20


def test_what_turns_the_direction_of_writing_is_shown_as_its_code() -> None:
    report = make_report(tokens=(make_token(1, serial_number=TURNED),))
    page = draw(replace(report, origin=replace(report.origin, file=TURNED)))
    assert "\u202e" not in page.source
    assert page.text.count("gpj.\\u202eexe") == 2


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = draw(make_report(timeline=make_timeline((1, 2), Pause(minutes(1), minutes(2), "a"))))

    assert re.findall(r"https?:|//\w", page.source) == []
    assert re.findall(r"@import|url\(", page.source) == []
    assert page.tags() & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"} == set()
    links = [attributes["href"] for attributes in page.all("a")]
    assert all(link and link.startswith("#") for link in links)
    assert {link[1:] for link in links if link} <= {attributes.get("id") for _, attributes in page.elements}
    (policy,) = [each for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = draw(make_report())

    assert page.all("html") == [{"lang": "en"}]
    assert page.source.count("<title>shipment: report of the batch</title>") == 1
    assert len(page.all("caption")) == len(page.all("table")) == 9
    assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
    assert all(each.get("role") == "img" for each in page.all("svg"))
    assert len(page.all("desc")) == 1
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_says_what_was_asked() -> None:
    text = " ".join(draw(make_report()).text.split())

    for said in (
        "3 of 5 tokens are active; 2 are not: 1 was given up and 1 was refused when the file was loaded.",
        CURES[Reason.LOCKED],
        "MADE000004 5 person4",
        "otps_unfit 1 An OTP, its type or its time is missing",
        "17 MADE000017 otp1 is missing: write it there",
        "oathbulk export shipment --status refused -o shipment-refused.csv",
        "MADE000002 3 active 1 2026-03-01 21:32:00",
        "rows of the file 5",
        "ab" * 32,
        "2026-03-01 21:30:00 UTC by alice",
        "CHG-1",
        "oathbulk 1.2.3 from a database of schema 0008 at 2026-03-01 22:00:00",
        "Every time in this report is in UTC.",
    ):
        assert said in text


def test_of_a_batch_of_before_the_page_claims_nothing_of_its_refused_rows() -> None:
    text = " ".join(draw(make_report(refused=None)).text.split())
    assert "loaded before refused rows were kept: 1 row of the file was refused" in text
    assert "No row of the file was refused." not in text
    assert "No row of the file was refused." in draw(make_report(counts=RowCounts(active=3), refused=())).text


def test_of_many_refused_rows_the_first_are_listed_and_the_others_counted() -> None:
    page = draw(make_report(counts=RowCounts(refused=300), refused=(make_refused(300),)))
    assert "The first 1 of 300 rows; the export has the other 299 too." in page.text


def test_the_counts_that_are_shown_add_up() -> None:
    counts = RowCounts(active=2000, dead_letter=30, cancelled=4, open=5, refused=6, already_active=7)
    table = draw(make_report(counts=counts)).source.split('id="rows-title"')[1].split("</table>")[0]
    *parts, total = [int(cell.replace(",", "")) for cell in re.findall(r'<td class="n">([\d,]+)</td>', table)]
    assert sum(parts) == total == counts.rows == 2052


def test_of_many_dead_letters_the_first_are_named_and_the_others_counted() -> None:
    group = make_group(Reason.LOCKED, 203, *(make_token(number) for number in range(200)))
    text = " ".join(draw(make_report(dead_letters=(group,))).text.split())
    assert "The first 200 of 203 tokens; the other 3 are in the CSV." in text


def test_too_many_tokens_are_left_to_the_csv() -> None:
    page = draw(make_report(batch="july 2", tokens=None))
    assert "oathbulk report 'july 2' -o report.csv" in page.text
    assert "in the order of the file" not in page.text


@pytest.mark.parametrize(
    "fields",
    [
        {"tokens": (), "counts": RowCounts(), "timeline": make_timeline(()), "dead_letters": (), "commands": ()},
        {"in_step": StepShare("all tokens", 0, 0), "step_columns": ()},
        {"step_columns": ()},
        {"timeline": make_timeline((0,))},
        {"timeline": make_timeline((), Pause(minutes(1), None, "a"))},
    ],
)
def test_a_batch_that_lacks_something_has_a_page_too(fields: dict[str, Any]) -> None:
    assert draw(make_report(**fields)).source.rstrip().endswith("</html>")


def test_commands_in_a_sentence_are_set_as_code() -> None:
    assert mark_code("Run `oathbulk doctor`, then `a<b`.") == (
        "Run <code>oathbulk doctor</code>, then <code>a&lt;b</code>."
    )
    assert mark_code("a ` alone") == "a ` alone"


def test_a_template_that_names_what_is_not_there_fails() -> None:
    with pytest.raises(Exception, match="is undefined"):
        make_environment().from_string("{{ nothing }}").render()


# Colours.


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_readable_on_each_ground(scheme: int) -> None:
    style = (files("worker.pages") / "templates" / "style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{.*?\}", style, re.DOTALL)[scheme]))
    for ground in ("paper", "wash", "accent-wash"):
        for text in ("ink", "quiet", "accent"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


def test_what_later_batches_made_active_is_said_where_it_ended_here() -> None:
    groups = (make_group(Reason.INVALID_OTP, 21), make_group(Reason.LOCKED, 12))
    ends = {"dead_letter": {"invalid_otp": 20, "locked": 12}}
    whole = make_report(counts=RowCounts(active=1, dead_letter=33), dead_letters=groups)
    text = " ".join(draw(replace(whole, taken_over=TakenOver({"fixed": {"active": 32}}, ends))).text.split())
    _, dead = text.split("Dead letters Later batches made 32 of these tokens active.")
    assert f"invalid_otp 21 {CURES[Reason.INVALID_OTP]}".replace("`", "") in dead
    assert "locked 12 Nothing: active since, in a later batch." in dead
    assert "as they ended in this batch. Later batches made 32 of these tokens active. Times" in dead
    assert "Later batches" not in draw(whole).text


def test_the_axis_of_one_token_names_one() -> None:
    page = draw(make_report(counts=RowCounts(active=1), timeline=make_timeline((1,)))).source
    assert ">1 token</text>" in page
    assert ">3 tokens</text>" in draw(make_report()).source
