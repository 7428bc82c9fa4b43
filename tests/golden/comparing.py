"""Compares what was shown with its golden file, and writes that anew where somebody asks for it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path

from worker import __version__

# Holds what is shown, by the name of its golden file.
Compare = Callable[[str, str], None]
FILES = Path(__file__).parent
HOW_TO_WRITE = (
    "If that is meant: rm -r tests/golden/*/ && python -m pytest tests/golden --write-golden; git shows"
    " what changed, and the commit says why."
)
# What differs from run to run, and what stands in its place. A path keeps its length, since lines are broken at widths.
RULES = (
    (re.compile(r"/tmp/oathbulk-golden-[a-z0-9_]{8}"), "/tmp/oathbulk-golden-FOLDER__"),
    (re.compile(rf"(?<![\d.]){re.escape(__version__)}(?!\d)"), "VERSION"),
    (re.compile(r'(name="form_key" value=)"[0-9a-f]+"'), r'\1"KEY"'),
    (re.compile(r"^(oathbulk_(?:record_counts_age|database_read)_seconds) .*$", re.MULTILINE), r"\1 SECONDS"),
    (re.compile(r"[0-9.]+ [MGT]B free"), "SIZE free"),
    # A line that is drawn again and again and taken away in the end, while the cursor is hidden; and colours.
    (re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h", re.DOTALL), ""),
    (re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\r"), ""),
    # What fills a line up to its end is not seen.
    (re.compile(r"[ \t]+$", re.MULTILINE), ""),
)


def put_placeholders(text: str) -> str:
    for pattern, placeholder in RULES:
        text = pattern.sub(placeholder, text)
    return text


def compare(name: str, shown: str, *, writes: bool) -> None:
    """Compare with the golden file of this name; JSON by its values. Fails with the difference."""
    path, text = FILES / name, put_placeholders(shown)
    if path.suffix == ".json":
        text = json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if writes:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    golden = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = difflib.unified_diff(golden.splitlines(), text.splitlines(), f"tests/golden/{name}", "shown", lineterm="")
    if told := "\n".join(lines):
        raise AssertionError(f"{told}\n{HOW_TO_WRITE}")
