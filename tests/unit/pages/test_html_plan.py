"""The page of a plan: whole by itself, and harmless whatever a file or a setting is called."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from support.data.plans import ASKED, make_plan, make_preflight

from worker.pages.html_plan import render_html
from worker.pages.plan_contents import Column, FindingLine, SettingLine, Source, Target, Timing

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
# Turns the direction of writing, so that a name reads as another.
TURNED = "gpj.\u202eexe"


class Page(HTMLParser):
    """The elements and the text that a browser would find."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.tags = set[str]()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_from_outside_stays_text() -> None:
    page = Page(
        render_html(
            make_plan(
                hash=HOSTILE,
                command=HOSTILE,
                made_by=HOSTILE,
                ticket=HOSTILE,
                source=Source(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
                target=Target(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
                columns=(Column(HOSTILE, ((HOSTILE, 1),)),),
                preflight=make_preflight(FindingLine(HOSTILE, "ask", HOSTILE, (HOSTILE,)), unknown=(HOSTILE,)),
                timing=Timing(1, 1.0, 1.0, share=0.5, canary=1, hours=HOSTILE, hours_seconds=1.0),
                settings=(SettingLine(HOSTILE, HOSTILE, HOSTILE),),
            )
        )
    )
    assert page.tags & {"script", "img"} == set()
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "<script" not in page.source
    assert page.text.count(HOSTILE) >= 25


def test_what_turns_the_direction_of_writing_is_shown_as_its_code() -> None:
    plan = make_plan()
    page = render_html(replace(plan, target=replace(plan.target, batch=TURNED), command=TURNED))
    assert "\u202e" not in page
    assert "gpj.\\u202eexe" in page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = render_html(make_plan())
    assert re.findall(r"https?:|//\w|@import|url\(", page) == []
    assert "default-src 'none'" in page


def test_the_hash_stands_at_the_top_and_the_command_below_it() -> None:
    page = Page(render_html(make_plan())).text
    assert page.index("0123456789ab") < page.index("3 tokens of july.csv") < page.index("oathbulk run boxes/july.csv")


def test_each_part_is_on_the_page() -> None:
    page = Page(render_html(make_plan(preflight=make_preflight(replace(ASKED, is_accepted=True))))).text
    for told in ("a" * 64, "b" * 64, "L-2", "CHG-7", "ask, accepted", "Such as MADE1.", "OATHBULK_MAX_ATTEMPTS"):
        assert told in page
    for told in ("oathbulk pause july", "oathbulk unpair july --yes", "oathbulk revoke july --yes", "oathbulk 0.1.0"):
        assert told in page
