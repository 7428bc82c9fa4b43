"""`oathbulk config`: prints every setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from worker.cli.console import console, error_console, print_failure, print_json
from worker.cli.homes import describe_empty_home
from worker.cli.options import AsJson, EnvironmentName
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import OF_PINGONE, OWN, ConfigError, Settings
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS, SECRETS, SettingsFile, find_credentials
from worker.installation.installation import Installation

_LONGEST_NAME = max(map(len, (*ENVIRONMENT_SETTINGS, *OWN_SETTINGS)))
# Columns of a value; longer ones move the rest of their line.
_USUAL_VALUE = 20
# The defaults of fields that are filled in from others.
_DERIVED = {
    "auth_environment_id": "PINGONE_ENVIRONMENT_ID",
    "api_url": "by PINGONE_REGION",
    "token_url": "by PINGONE_REGION",
    "license": "PINGONE_ENVIRONMENT_ID",
    "home": "oathbulk in $XDG_STATE_HOME",
}
# What is written where there is no value, unless that means something.
_NOT_SET = "not set"
_WITHOUT_VALUE = {"resync_on_first_call": "auto", "replay_cron": "off"}


class Source(StrEnum):
    """What a value comes from."""

    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    ENVIRONMENTS_FILE = "oathbulk.toml"
    # The file that a variable NAME_FILE names.
    VALUE_FILE = "secret file"
    CREDENTIAL = "systemd credential"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from; `path` is the file, None for the process environment and a default."""

    source: Source
    path: Path | None = None

    def __str__(self) -> str:
        return str(self.path or ("process environment" if self.source == Source.ENVIRONMENT else self.source))


# A place with settings, and what it says.
Layer = tuple[Origin, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """A setting as it holds for a command that is typed now."""

    name: str
    value: str
    origin: Origin
    default: str

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": None if self.value == _NOT_SET else self.value,
            "source": str(self.origin.source),
            "file": None if self.origin.path is None else str(self.origin.path),
            "default": None if self.default == _NOT_SET else self.default,
        }


def config(environment: EnvironmentName = DEFAULT_ENVIRONMENT, as_json: AsJson = False) -> None:
    """Print every setting: its value, where that comes from, and its default. Of a secret it says only whether it is
    set."""
    installation = Installation()
    settings = [*_describe_environment(installation, environment), *_describe_own(installation)]
    if as_json:
        print_json({"environment": environment, "settings": [setting.to_json() for setting in settings]})
    else:
        for setting in settings:
            console.print(_write_line(setting), soft_wrap=True)
    if installation.is_empty:
        note = describe_empty_home(installation, "config")
        error_console.print(f"Home: {note}", style="dim", soft_wrap=True)
    try:
        installation.environment(environment)
    except ConfigError as error:
        print_failure(str(error))


def _describe_own(installation: Installation) -> Iterator[SettingInForce]:
    """Describe the settings of this installation."""
    find_origin = partial(_find_origin, _list_layers(installation), find_credentials(installation.variables))
    for variable in OWN_SETTINGS:
        field = variable.removeprefix(OWN).lower()
        value = _write_value(field, getattr(installation.settings, field))
        yield SettingInForce(variable, value, find_origin(variable), _write_default(Settings, field))


def _describe_environment(installation: Installation, name: str) -> Iterator[SettingInForce]:
    """Describe the settings of a PingOne environment; as they are written, where they are not complete yet. Raises
    ConfigError if the environment is configured nowhere."""
    layers = _list_layers(installation)
    if name != DEFAULT_ENVIRONMENT and (file := installation.find_file_of(name)):
        layers = [(Origin(Source.ENVIRONMENTS_FILE, file.path), file.values)]
    find_origin = partial(_find_origin, layers, find_credentials(installation.variables, name))
    given = {key: value for _, values in reversed(layers) for key, value in values.items()}
    try:
        environment = installation.environment(name)
    except ConfigError:
        environment = None
    for variable in ENVIRONMENT_SETTINGS:
        field = variable.removeprefix(OF_PINGONE).lower()
        value = getattr(environment, field) if environment else _read_given(variable, field, given)
        yield SettingInForce(
            variable, _write_value(field, value), find_origin(variable), _write_default(Environment, field)
        )


def _list_layers(installation: Installation) -> list[Layer]:
    """List the process environment and the `.env` file, the one that goes first first."""
    file = installation.env_file or SettingsFile(Path(), {})
    process = {key: value for key, value in installation.variables.items() if key not in file.values}
    return [(Origin(Source.ENVIRONMENT), process), (Origin(Source.ENV_FILE, file.path), file.values)]


def _find_origin(layers: list[Layer], credentials: Mapping[str, Path], variable: str) -> Origin:
    """Find where the value of a variable comes from."""
    for origin, values in layers:
        if values.get(variable):
            return origin
        if file := values.get(f"{variable}_FILE"):
            return Origin(Source.VALUE_FILE, Path(file))
    return Origin(Source.CREDENTIAL, credentials[variable]) if variable in credentials else Origin(Source.DEFAULT)


def _read_given(variable: str, field: str, given: Mapping[str, str]) -> object:
    """The value as it is written, else its default; of one in a file, and of a secret, only that it is set."""
    value = given.get(variable, "")
    if value and variable not in SECRETS:
        return value
    if value or given.get(f"{variable}_FILE"):
        return SecretStr("set")
    facts = Environment.model_fields[field]
    return None if facts.is_required() else facts.get_default()


def _write_default(model: type[BaseModel], field: str) -> str:
    """Write what holds where nobody sets this field."""
    facts = model.model_fields[field]
    if field in _DERIVED:
        return _DERIVED[field]
    return "none" if facts.is_required() else _write_value(field, facts.get_default())


def _write_line(setting: SettingInForce) -> str:
    """Write a setting in one line, whatever its length, for eyes and for grep."""
    origin = str(setting.origin)
    if setting.origin.source != Source.DEFAULT:
        origin += f" (default: {setting.default})"
    return f"{setting.name:<{_LONGEST_NAME}}  {setting.value:<{_USUAL_VALUE}}  {origin}"


def _write_value(field: str, value: object) -> str:
    """Write the value of a field for a person; of a secret, only that it is set."""
    if value is None or value == "":
        return _WITHOUT_VALUE.get(field, _NOT_SET)
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
