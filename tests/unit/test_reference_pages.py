"""The pages that list settings and exit codes say what the code has."""

from __future__ import annotations

import json
import re

from pydantic_core import to_jsonable_python
from support.pages.reading import CHECKOUT, read_page

from worker.cli import exit_codes
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.simulator.world import Settings as SimulatorSettings


def test_every_setting_is_named_once_in_the_list_of_settings() -> None:
    rows = re.findall(r"^\| .* \| (.*) \|$", read_page("docs/deployment.md#settings"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)]
    assert sorted(named) == sorted({*OWN_SETTINGS, *ENVIRONMENT_SETTINGS})


def test_every_setting_of_the_simulator_is_named_there_with_its_default() -> None:
    named = dict(re.findall(r"`([a-z_]+)=([^`]*)`", read_page("docs/deployment.md#settings")))
    assert {name: json.loads(default) for name, default in named.items()} == {
        name: to_jsonable_python(field.get_default()) for name, field in SimulatorSettings.model_fields.items()
    }


def test_every_exit_code_is_explained_in_the_words_of_the_code() -> None:
    source = (CHECKOUT / "worker" / "cli" / "exit_codes.py").read_text()
    in_code = {match[2]: match[1] for match in re.finditer(r"^# (.*)\n[A-Z_]+ = (\d+)$", source, re.MULTILINE)}
    assert {int(code) for code in in_code} == {value for name, value in vars(exit_codes).items() if name.isupper()}
    page = read_page("docs/commands.md#exit-codes")
    assert dict(re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE)) == in_code
