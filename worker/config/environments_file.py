"""Reads `oathbulk.toml`, the file with the environments besides `default`, and refuses what is no setting there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from worker.config.file_permissions import SECRETS, read_trusted, refuse_open_secrets
from worker.config.known_settings import ENVIRONMENT_SETTINGS, refuse_unknown
from worker.config.settings import ConfigError, Settings, UnusableSettings

# The only table that the file has at its top; within it, a table for each environment.
TABLE = "environments"


def config_path(settings: Settings) -> Path:
    """The path of `oathbulk.toml`."""
    return settings.config or settings.home / "oathbulk.toml"


def read_sections(settings: Settings) -> dict[str, dict[str, str]]:
    """Read the settings of each environment by its name. Raises FileNotFoundError; ConfigError if the file cannot be
    read, other users may change it, or read a secret in it; UnusableSettings for what is written in it."""
    path = config_path(settings)
    try:
        text = read_trusted(path)
    except ConfigError as error:
        raise ConfigError(f"{'OATHBULK_CONFIG' if settings.config else 'OATHBULK_HOME'}: {error}") from error
    try:
        found = tomllib.loads(text)
        refuse_unknown(found, {TABLE}, f"{path}: ")
        sections = found.get(TABLE, {})
        if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
            raise UnusableSettings(f"{path}: add a section [{TABLE}.NAME] for each environment, with its settings")
        if any(SECRETS & section.keys() for section in sections.values()):
            refuse_open_secrets(path)
        return {name: _read_section(path, name, section) for name, section in sections.items()}
    except (ValueError, RecursionError) as error:
        named_by = "OATHBULK_CONFIG: " if settings.config else ""
        raise UnusableSettings(f"{named_by}{path} cannot be read: {error}") from error


def check_environments_file(settings: Settings) -> None:
    """Raise what `read_sections` raises; ConfigError if OATHBULK_CONFIG names nothing."""
    try:
        read_sections(settings)
    except FileNotFoundError as error:
        if settings.config is not None:
            raise ConfigError(
                f"OATHBULK_CONFIG names {settings.config}, which does not exist: make that file, or remove the setting"
            ) from error


def _read_section(path: Path, name: str, section: dict[str, Any]) -> dict[str, str]:
    refuse_unknown(section, ENVIRONMENT_SETTINGS, f"{path}, section [{TABLE}.{name}]: ")
    # Python refuses to write a number of thousands of digits as text: a ValueError.
    return {key: str(value) for key, value in section.items()}
