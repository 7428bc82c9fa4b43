"""Reads `oathbulk.toml`, the file with the environments besides `default`, and refuses what is no setting there."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Any

from worker.config.file_permissions import SECRETS, read_trusted, refuse_open_secrets
from worker.config.known_settings import ENVIRONMENT_SETTINGS, refuse_unknown
from worker.config.settings import Settings, UnusableSettings

# The only table that the file has at its top; within it, a table for each environment.
TABLE = "environments"


def config_path(settings: Settings) -> Path:
    """The path of `oathbulk.toml`."""
    return settings.config or settings.home / "oathbulk.toml"


def read_sections(path: Path) -> dict[str, dict[str, str]]:
    """Read the settings of each environment by its name. Raises UnusableSettings, FileNotFoundError; ConfigError if
    other users may change the file, or read a secret in it."""
    try:
        found = tomllib.loads(read_trusted(path))
        refuse_unknown(found, {TABLE}, f"{path}: ")
        sections = found.get(TABLE, {})
        if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
            raise UnusableSettings(f"{path}: add a section [{TABLE}.NAME] for each environment, with its settings")
        if any(SECRETS & section.keys() for section in sections.values()):
            refuse_open_secrets(path)
        return {name: _read_section(path, name, section) for name, section in sections.items()}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UnusableSettings(f"{path} cannot be read: {error}") from error


def check_environments_file(settings: Settings) -> None:
    """Raise what `read_sections` raises; and UnusableSettings if OATHBULK_CONFIG names nothing, or no file, or if
    OATHBULK_HOME names a file."""
    if settings.home.is_file():
        raise UnusableSettings(f"OATHBULK_HOME names {settings.home}, which is no directory: name one")
    if settings.config is not None and _is_no_file(settings.config):
        raise UnusableSettings(
            f"OATHBULK_CONFIG names {settings.config}, which is a directory, a pipe or a device: name a file"
        )
    try:
        read_sections(config_path(settings))
    except FileNotFoundError as error:
        if settings.config is not None:
            raise UnusableSettings(
                f"OATHBULK_CONFIG names {settings.config}, which does not exist: make that file, or remove the setting"
            ) from error


def _is_no_file(path: Path) -> bool:
    """Whether something else than a regular file is there; no, where that cannot be told."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _read_section(path: Path, name: str, section: dict[str, Any]) -> dict[str, str]:
    refuse_unknown(section, ENVIRONMENT_SETTINGS, f"{path}, section [{TABLE}.{name}]: ")
    # Python refuses to write a number of thousands of digits as text: a ValueError.
    return {key: str(value) for key, value in section.items()}
