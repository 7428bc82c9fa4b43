"""`oathbulk config`: prints every setting."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from worker.cli.console import console, error_console, print_failure, print_json
from worker.cli.homes import describe_empty_home
from worker.cli.options import AsJson, EnvironmentName
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError, Described, Settings
from worker.config.sources import (
    ENVIRONMENT_SETTINGS,
    OWN_SETTINGS,
    SECRETS,
    VariableSource,
    find_credentials,
    open_source,
)
from worker.installation.installation import Installation

_LONGEST_NAME = max(map(len, (*ENVIRONMENT_SETTINGS, *OWN_SETTINGS)))
# Columns for a value; a longer value moves the rest of its line.
_USUAL_VALUE = 20
# The defaults of fields that are derived from others.
_DERIVED = {
    "auth_environment_id": "PINGONE_ENVIRONMENT_ID",
    "api_url": "from PINGONE_REGION",
    "token_url": "from PINGONE_REGION",
    "license": "PINGONE_ENVIRONMENT_ID",
    "home": "oathbulk in $XDG_STATE_HOME",
}
# Written for a missing value, unless its absence means something.
_NOT_SET = "not set"
_WITHOUT_VALUE = {"resync_on_first_call": "auto", "replay_cron": "off"}


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """A setting as it would apply to a command run now. `source` is the kind of place that it comes from; `file` is the
    file, None for the process environment and a default."""

    name: str
    value: str
    source: str
    file: Path | None
    default: str

    def to_json(self) -> dict[str, Any]:
        return {name: None if value == _NOT_SET else value for name, value in asdict(self).items()}

    def write_line(self) -> str:
        """Write the setting on one line, whatever its length, for eyes and for grep."""
        origin = str(self.file or ("process environment" if self.source == "environment" else self.source))
        if self.source != "default":
            origin += f" (default: {self.default})"
        return f"{self.name:<{_LONGEST_NAME}}  {self.value:<{_USUAL_VALUE}}  {origin}"


def config(environment: EnvironmentName = DEFAULT_ENVIRONMENT, as_json: AsJson = False) -> None:
    """Print every setting: its value, its source, and its default. For a secret, print only whether it is set."""
    installation = Installation()
    settings = [*describe_environment(installation, environment), *describe_own(installation)]
    if as_json:
        print_json({"environment": environment, "settings": [setting.to_json() for setting in settings]})
    else:
        for setting in settings:
            console.print(setting.write_line(), soft_wrap=True)
    if installation.is_empty:
        note = describe_empty_home(installation, "config")
        error_console.print(f"Home: {note}", style="dim", soft_wrap=True)
    try:
        installation.environment(environment)
    except ConfigError as error:
        print_failure(str(error))


def describe_own(installation: Installation) -> Iterator[SettingInForce]:
    """Describe the settings of this installation."""
    variables = installation.variables
    source = VariableSource(Settings, variables, find_credentials(variables), installation.env_file)
    return _describe(OWN_SETTINGS, source, installation.settings, ".env")


def describe_environment(installation: Installation, name: str) -> Iterator[SettingInForce]:
    """Describe the settings of a PingOne environment; as written, if they are not complete yet. Raises ConfigError if
    the environment is configured nowhere, or a value's file cannot be read."""
    source = open_source(installation.settings, name, installation.variables, installation.env_file)
    try:
        environment = installation.environment(name)
    except ConfigError:
        environment = None
    kind = ".env" if name == DEFAULT_ENVIRONMENT else "oathbulk.toml"
    return _describe(ENVIRONMENT_SETTINGS, source, environment, kind)


def _describe(
    names: Sequence[str], source: VariableSource, loaded: Described | None, kind_of_file: str
) -> Iterator[SettingInForce]:
    """Describe the settings with these names as a source finds them, and as they were loaded, if possible."""
    kinds = dict.fromkeys(source.credentials.values(), "systemd credential")
    if source.file:
        kinds[source.file.path] = kind_of_file
    for name in names:
        field = name.partition("_")[2].lower()
        facts = source.settings_cls.model_fields[field]
        given, path = source.env_vars.get(name), source.places.get(name)
        default = None if facts.is_required() else facts.get_default()
        if loaded is not None:
            value = getattr(loaded, field)
        else:
            value = SecretStr(given) if given and name in SECRETS else given or default
        kind = kinds.get(path, "secret file") if path else "environment" if given else "default"
        written = "none" if facts.is_required() else _write_value(field, default)
        yield SettingInForce(name, _write_value(field, value), kind, path, _DERIVED.get(field, written))


def _write_value(field: str, value: object) -> str:
    """Write a field's value for a person; for a secret, only that it is set."""
    if value is None or value == "":
        return _WITHOUT_VALUE.get(field, _NOT_SET)
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
