"""Reads settings from the process environment, the `.env` file, `*_FILE` variables and `oathbulk.toml`; secrets also
from credentials of systemd and from a keyring."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from worker.config.env_file import EnvFile, read_env_file
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.environments_file import check_environments_file, config_path, read_sections
from worker.config.file_permissions import SECRETS, read_value
from worker.config.home_path import find_home
from worker.config.known_settings import refuse_unknown_variables
from worker.config.secret_places import CREDENTIALS_DIRECTORY, SecretPlaces
from worker.config.settings import ConfigError, Settings

M = TypeVar("M", bound=BaseModel)

# Settings that httpx reads from the process environment itself.
_READ_BY_HTTPX = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def load_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """Read the `OATHBULK_*` settings. Raises ConfigError."""
    source = read_variables() if variables is None else variables
    values = {"home": find_home(source)} | _collect_fields(Settings, "OATHBULK_", source, SecretPlaces.find(source))
    settings = _validate(Settings, "OATHBULK_", values)
    _check_home(settings.home)
    check_environments_file(settings)
    return settings


def _check_home(home: Path) -> None:
    """Raise ConfigError if the home is the root directory, which has no place beside it for the homes of rehearsals; or
    if something else is there than a directory, or it is out of this user's reach."""
    if not home.absolute().name:
        raise ConfigError(f"OATHBULK_HOME names {home}: name a directory of its own")
    try:
        is_directory = stat.S_ISDIR(home.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(
            f"OATHBULK_HOME: {home} is out of reach ({error.strerror}): set it to a directory of yours"
        ) from error
    if not is_directory:
        raise ConfigError(f"OATHBULK_HOME names {home}, which is no directory: name one")


def load_environment(
    settings: Settings, name: str = DEFAULT_ENVIRONMENT, variables: Mapping[str, str] | None = None
) -> Environment:
    """Read the settings of the PingOne environment of this name: `default` from the `PINGONE_*` variables, another from
    its section of `oathbulk.toml`. Raises ConfigError."""
    process = read_variables() if variables is None else variables
    source = process if name == DEFAULT_ENVIRONMENT else read_section(settings, name)
    values = _collect_fields(Environment, "PINGONE_", source, find_secret_places(process, name))
    return _validate(Environment, "PINGONE_", values | {"name": name})


def read_variables(file: EnvFile | None = None) -> dict[str, str]:
    """Read the process environment and the `.env` file; what both set is taken from the process environment.

    Proxies and certificates that the file names are put into the process environment, where httpx looks for them.
    Raises ConfigError.
    """
    file = file or read_env_file()
    given = file.values
    refuse_unknown_variables(os.environ)
    refuse_unknown_variables(given, file.path)
    for name in _READ_BY_HTTPX:
        if name in given:
            os.environ.setdefault(name, given[name])
    return {**given, **os.environ}


def find_secret_places(variables: Mapping[str, str], name: str) -> SecretPlaces:
    """Find where the secrets of this PingOne environment may be, besides variables and files."""
    return SecretPlaces.find(variables, "" if name == DEFAULT_ENVIRONMENT else name)


def read_section(settings: Settings, name: str) -> dict[str, str]:
    """Read the section of `oathbulk.toml` about the environment of this name. Raises ConfigError."""
    path = config_path(settings)
    try:
        section = read_sections(settings).get(name)
    except FileNotFoundError as error:
        raise ConfigError(f"environment {name!r} is not configured: {path} does not exist") from error
    if section is None:
        raise ConfigError(f"environment {name!r} is not configured: add a section [environments.{name}] to {path}")
    return section


def _collect_fields(
    model: type[BaseModel], prefix: str, source: Mapping[str, str], places: SecretPlaces
) -> dict[str, Any]:
    """Find the values of the model's fields: each under PREFIX + its name, or in the file that PREFIX + its name +
    _FILE names; a secret after these in one of the places."""
    found: dict[str, Any] = {}
    for field in model.model_fields:
        variable = prefix + field.upper()
        file = source.get(f"{variable}_FILE", "")
        if value := source.get(variable, ""):
            found[field] = value
        elif file:
            found[field] = _read_value(f"{variable}_FILE", Path(file), is_secret=variable in SECRETS)
        elif variable in SECRETS and (secret := _find_secret(variable, places)):
            found[field] = secret
    return found


def _find_secret(variable: str, places: SecretPlaces) -> str | None:
    """Find a secret in these places; None if none of them has it. Raises ConfigError."""
    if path := places.find_file(variable):
        return _read_value(CREDENTIALS_DIRECTORY, path, is_secret=True)
    return places.read_keyring(variable)


def _read_value(named_by: str, path: Path, *, is_secret: bool) -> str:
    """Read a value from a file. `named_by`: the variable that leads there. Raises ConfigError."""
    try:
        return read_value(path, is_secret=is_secret)
    except ConfigError as error:
        raise ConfigError(f"{named_by}: {error}") from error


def _validate(model: type[M], prefix: str, values: dict[str, Any]) -> M:
    """Make a model of the values. Raises ConfigError, which names every variable that is wrong, and quotes no value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaints = []
        for fault in error.errors(include_input=False, include_url=False):
            # What concerns several settings has no place, and names them.
            variable = f"{prefix}{str(fault['loc'][0]).upper()} " if fault["loc"] else ""
            complaints.append(variable + _complain(fault["type"], fault["msg"]))
        raise ConfigError("; ".join(complaints)) from None


def _complain(kind: str, message: str) -> str:
    """Say what is wrong with a value, behind the name of its variable: `should be a valid number`."""
    if kind == "missing":
        return "is not set"
    # pydantic: "Input should be a valid number, unable to parse string as a number".
    said = message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return said.partition(", unable to parse")[0]
