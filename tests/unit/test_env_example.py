""".env.example names every setting, with the default that the code has."""

from __future__ import annotations

import re

import pytest
from pydantic_core import PydanticUndefined
from support.servers.compose_service import PROJECT, default_variables

from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import Settings
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS, load_environment, load_settings

LINES = (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines()
# A setting with its default is commented out; one without a `#` must be filled in.
SETTING = re.compile(r"(#?)([A-Z][A-Z0-9_]*)=(.*)")
FOUND = {match[2]: match[3] for line in LINES if (match := SETTING.fullmatch(line))}
REQUIRED = {"PINGONE_ENVIRONMENT_ID": "e", "PINGONE_CLIENT_ID": "c", "PINGONE_CLIENT_SECRET": "s"}


def given(prefix: str) -> dict[str, str]:
    return {name: value for name, value in FOUND.items() if name.startswith(prefix) and value}


def test_every_setting_is_there_and_nothing_else() -> None:
    settings = {*OWN_SETTINGS, *ENVIRONMENT_SETTINGS}
    libraries = {"HTTPS_PROXY", "SSL_CERT_FILE"}
    assert set(FOUND) == settings | libraries | set(default_variables())


def test_no_setting_is_there_twice() -> None:
    assert len(FOUND) == sum(bool(SETTING.fullmatch(line)) for line in LINES)


@pytest.mark.parametrize("name", sorted({*OWN_SETTINGS, *ENVIRONMENT_SETTINGS}))
def test_a_setting_is_explained_in_the_line_above_it(name: str) -> None:
    position = next(number for number, line in enumerate(LINES) if re.match(rf"#?{name}=", line))
    assert re.match(r"# [^-]", LINES[position - 1]), LINES[position - 1]


def test_the_installations_defaults_are_the_codes() -> None:
    assert load_settings(given("OATHBULK_")) == load_settings({})
    for name in set(OWN_SETTINGS) - set(given("OATHBULK_")):
        assert Settings.model_fields[name.removeprefix("OATHBULK_").lower()].default in (None, PydanticUndefined), name


def test_pingones_defaults_are_the_codes() -> None:
    settings = load_settings({})
    with_given = load_environment(settings, DEFAULT_ENVIRONMENT, REQUIRED | given("PINGONE_"))
    assert with_given == load_environment(settings, DEFAULT_ENVIRONMENT, REQUIRED)
    for name in set(ENVIRONMENT_SETTINGS) - set(given("PINGONE_")):
        field = Environment.model_fields[name.removeprefix("PINGONE_").lower()]
        assert field.is_required() or not field.default, name


def test_the_compose_files_defaults_are_its_own() -> None:
    assert {name: FOUND[name] for name in default_variables()} == default_variables()
