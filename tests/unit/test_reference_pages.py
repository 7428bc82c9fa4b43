"""The pages that list settings and exit codes say what the code has."""

from __future__ import annotations

import re

from support.settings_page import PAGE, PROJECT, write_page

from worker.cli import exit_codes
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.simulator.settings import Settings as SimulatorSettings

MAKE = "make the page anew: PYTHONPATH=.:tests .venv/bin/python -m support.settings_page"


def test_the_page_of_settings_is_the_one_that_is_made_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == write_page(), MAKE


def test_every_setting_has_a_row_with_its_default_and_meaning() -> None:
    rows = [line.strip("| ").split(" | ") for line in write_page().splitlines() if line.startswith("| `")]
    own = {row[0].strip("`"): row for row in rows if len(row) == 5}
    assert list(own) == sorted(own, key=list(own).index)
    assert own.keys() == {*OWN_SETTINGS, *ENVIRONMENT_SETTINGS}
    assert [name for name, row in own.items() if not (row[2].strip() and row[4].strip())] == []
    assert own["PINGONE_RATE"][2:4] == ["`30`", "requests a second"]


def test_every_setting_of_the_simulator_is_there_once_with_a_meaning() -> None:
    rows = [line.strip("| ").split(" | ") for line in write_page().splitlines() if line.startswith("| `")]
    names = [name for row in rows if len(row) == 2 for name in re.findall(r"`(\w+)=", row[0])]
    assert sorted(names) == sorted(SimulatorSettings.model_fields)
    assert all(row[1] for row in rows if len(row) == 2)


def test_every_exit_code_is_explained_in_the_words_of_the_code() -> None:
    source = (PROJECT / "worker" / "cli" / "exit_codes.py").read_text()
    in_code = {match[2]: match[1] for match in re.finditer(r"^# (.*)\n[A-Z_]+ = (\d+)$", source, re.MULTILINE)}
    assert {int(code) for code in in_code} == {value for name, value in vars(exit_codes).items() if name.isupper()}
    page = (PROJECT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE)) == in_code
