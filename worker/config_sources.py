"""Where settings come from: the process environment, `.env`, `*_FILE` variables and `oathbulk.toml`."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError

from worker.config import DEFAULT_ENVIRONMENT, ConfigError, Environment, Settings

# Where a container's engine mounts secrets: only the container's own user is there to read them.
CONTAINER_SECRETS = Path("/run/secrets")

M = TypeVar("M", bound=BaseModel)

_SECRETS = {
    prefix + field.upper()
    for model, prefix in ((Settings, "OATHBULK_"), (Environment, "PINGONE_"))
    for field, facts in model.model_fields.items()
    if "SecretStr" in str(facts.annotation)
}


def load_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The `OATHBULK_*` settings. Raises ConfigError."""
    values = _fields(Settings, "OATHBULK_", read_variables() if variables is None else variables)
    return _validated(Settings, "OATHBULK_", values)


def load_environment(
    settings: Settings, name: str = DEFAULT_ENVIRONMENT, variables: Mapping[str, str] | None = None
) -> Environment:
    """The PingOne environment of this name: `default` from the `PINGONE_*` variables, another from its section of
    `oathbulk.toml`. Raises ConfigError."""
    if name == DEFAULT_ENVIRONMENT:
        source = read_variables() if variables is None else variables
    else:
        source = _section(settings, name)
    values = _fields(Environment, "PINGONE_", source)
    return _validated(Environment, "PINGONE_", values | {"name": name})


def read_variables() -> dict[str, str]:
    """The process environment, and behind it `.env` in the working directory."""
    from_file = {
        key: value
        for key, value in _read_dotenv(Path(".env")).items()
        # Set through a file in the process environment is set in the process environment.
        if value is not None and f"{key}_FILE" not in os.environ
    }
    return from_file | dict(os.environ)


def _read_dotenv(path: Path) -> dict[str, str | None]:
    try:
        values = dotenv_values(path)
        if any(values.get(variable) for variable in _SECRETS) and _is_within_reach(path):
            raise ConfigError(f"{path} holds a secret and can be read by every user: chmod 600 {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return values


def _section(settings: Settings, name: str) -> Mapping[str, str]:
    path = settings.config or settings.home / "oathbulk.toml"
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8")).get("environments", {})
        is_within_reach = _is_within_reach(path)
    except FileNotFoundError as error:
        raise ConfigError(f"environment {name!r} is not configured: {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(sections, dict) or not isinstance(sections.get(name), dict):
        raise ConfigError(f"environment {name!r} is not configured: add a section [environments.{name}] to {path}")
    known = {f"PINGONE_{field.upper()}" for field in Environment.model_fields} - {"PINGONE_NAME"}
    if unknown := {key for key in sections[name] if key.removesuffix("_FILE") not in known}:
        raise ConfigError(f"{path}, section [environments.{name}]: nothing is called {', '.join(sorted(unknown))}")
    if is_within_reach and "PINGONE_CLIENT_SECRET" in sections[name]:
        raise ConfigError(f"{path} holds a secret and can be read by every user: chmod 600 {path}")
    try:
        return {key: str(value) for key, value in sections[name].items()}
    except ValueError as error:
        # A number of thousands of digits.
        raise ConfigError(f"{path}, section [environments.{name}], cannot be read: {error}") from error


def _fields(model: type[BaseModel], prefix: str, source: Mapping[str, str]) -> dict[str, Any]:
    """The model's fields found in the source, each under PREFIX + its name, or in the file that …_FILE names."""
    found: dict[str, Any] = {}
    for field in model.model_fields:
        variable = prefix + field.upper()
        file = source.get(f"{variable}_FILE", "")
        if value := source.get(variable, ""):
            found[field] = value
        elif file:
            found[field] = _content(variable, Path(file), is_secret=variable in _SECRETS)
    return found


def _content(variable: str, path: Path, *, is_secret: bool) -> str:
    try:
        if is_secret and _is_open(path):
            raise ConfigError(
                f"{variable}_FILE: {path} can be read by every user: chmod 600 {path}, or 640 for a group"
            )
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}_FILE: {path} cannot be read: {error}") from error


def _is_open(path: Path) -> bool:
    """Whether every user may read it, once there."""
    return bool(path.stat().st_mode & stat.S_IROTH) and not path.resolve().is_relative_to(CONTAINER_SECRETS)


def _is_within_reach(path: Path) -> bool:
    """Whether every user may read it and get there: a home is closed to others, whatever the mode of its files."""
    return (
        path.exists() and _is_open(path) and all(each.stat().st_mode & stat.S_IXOTH for each in path.resolve().parents)
    )


def _validated(model: type[M], prefix: str, values: dict[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaints = []
        for fault in error.errors(include_input=False, include_url=False):
            variable = prefix + str(fault["loc"][0]).upper() if fault["loc"] else f"{prefix}*"
            missing = fault["type"] == "missing"
            complaints.append(f"{variable} {'is not set' if missing else fault['msg'].removeprefix('Value error, ')}")
        raise ConfigError("; ".join(complaints)) from None
