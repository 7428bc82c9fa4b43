"""Text in pages: commands are code, templates are whole, and colours can be read."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from worker.desk.batch_page import make_environment, mark_code, write_exact_share
from worker.observability.counting import write_share


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
    style = (files("worker.desk") / "templates" / "style.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{.*?\}", style, re.DOTALL)[scheme]))
    for ground in ("paper", "wash", "accent-wash"):
        for text in ("ink", "quiet", "accent"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.parametrize(
    ("share", "said", "exactly"),
    [
        (0, "0 %", "0 %"),
        (0.00001, "0.1 %", "0.1 %"),
        (0.123, "12 %", "12.3 %"),
        (0.98633, "99 %", "98.6 %"),
        (0.99999, "99.9 %", "99.9 %"),
        (1, "100 %", "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_to_all(share: float, said: str, exactly: str) -> None:
    assert (write_share(share), write_exact_share(share)) == (said, exactly)
