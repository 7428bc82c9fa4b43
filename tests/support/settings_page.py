"""docs/settings.md, made of what says it already: `.env.example` explains the settings, the code has their defaults and
bounds, and the simulator's settings are explained where they are declared.

    PYTHONPATH=.:tests python -m support.settings_page      writes the page anew
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import to_jsonable_python

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.simulator.world import Settings as SimulatorSettings

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "settings.md"
# Of numbers that are no counts.
UNITS = {"rate": "requests a second", "rate_max": "requests a second"}

BEGINNING = """# Settings

All settings; the page is generated from `.env.example` and the code. `oathbulk config` prints each value in force, and
where it comes from. Another name that begins with `OATHBULK_` or `PINGONE_`, or an unknown key in `oathbulk.toml`,
is an error that names the nearest. `HTTPS_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` are obeyed too.

A setting is read from the process environment; else from the `.env` file in the home, or the one that `--env-file` or
`OATHBULK_ENV_FILE` names. `NAME_FILE` names a file with the value. The `PINGONE_` settings there are those of the
environment `default`; others have a section `[environments.NAME]` in `oathbulk.toml`, with the same names as keys.
"""
COLUMNS = "| name | key in oathbulk.toml | default | unit | meaning |\n|---|---|---|---|---|\n"
SIMULATOR = """
## The simulator's: `--set NAME=JSON`

Of `oathbulk simulator` ([simulator.md](simulator.md)); each with its default.

| names | meaning |
|---|---|
"""


def write_page() -> str:
    """Write the whole page."""
    return BEGINNING + "".join(_write_own_settings()) + SIMULATOR + "".join(_write_simulators())


def _write_own_settings() -> Iterator[str]:
    """Write a table for each section of `.env.example` with settings of ours."""
    comment, heading = list[str](), ""
    for line in (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"# --- (.*) ---", line):
            heading = f"\n## {found[1]}\n\n{COLUMNS}"
        elif (found := re.fullmatch(r"#?([A-Z_]+)=(.*)", line)) and (field := _find_field(found[1])):
            yield heading + _write_row(found[1], field, found[2], " ".join(comment))
            heading = ""
        if line.startswith("# ") and not line.startswith("# ---"):
            comment.append(line.removeprefix("# "))
        else:
            comment = []


def _find_field(name: str) -> str | None:
    """The field of a setting; None for what is none."""
    is_ours = name in (*OWN_SETTINGS, *ENVIRONMENT_SETTINGS)
    return name.partition("_")[2].lower() if is_ours else None


def _write_row(name: str, field: str, given: str, explained: str) -> str:
    meaning, _, default = explained.partition(" Default: ")
    if explained.startswith("Default: "):
        meaning, default = "", explained.removeprefix("Default: ")
    facts = (Environment if name in ENVIRONMENT_SETTINGS else Settings).model_fields[field]
    unit = UNITS.get(field, "")
    key = f"`{name}`" if name in ENVIRONMENT_SETTINGS else "–"
    without = "none: set it" if facts.is_required() else "not set"
    shown = default.rstrip(".") or (f"`{given}`" if given else without)
    return f"| `{name}` | {key} | {_escape(shown)} | {unit} | {_escape(meaning)} |\n"


def _write_simulators() -> Iterator[str]:
    """Write a row for each comment in the simulator's settings, with the settings below it."""
    comment, names = list[str](), list[str]()
    for line in [*inspect.getsource(SimulatorSettings).splitlines(), "    # "]:
        if re.match(r"    # ", line) or line.startswith("    @"):
            if names:
                yield f"| {', '.join(names)} | {_escape(' '.join(comment))} |\n"
                comment, names = [], []
            comment.append(line.strip().removeprefix("# "))
        elif found := re.match(r"    (\w+): ", line):
            names.append(f"`{found[1]}={_write_default(found[1])}`")


def _write_default(name: str) -> str:
    return json.dumps(to_jsonable_python(SimulatorSettings.model_fields[name].get_default()))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
