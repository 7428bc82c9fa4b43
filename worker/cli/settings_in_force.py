"""The settings in force, each with where it comes from; of a secret, only whether it is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.file_permissions import SECRETS
from worker.config.secret_places import SecretPlaces
from worker.installation.installation import Installation

# What is written where there is no value, unless that means something.
NOT_SET = "not set"
_WITHOUT_VALUE = {"resync_on_first_call": "auto", "replay_cron": "off"}


class Source(StrEnum):
    """What a value comes from."""

    ENVIRONMENT = "environment"
    ENV_FILE = ".env"
    ENVIRONMENTS_FILE = "oathbulk.toml"
    # The file that a variable NAME_FILE names.
    VALUE_FILE = "secret file"
    CREDENTIAL = "systemd credential"
    KEYRING = "keyring"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from; `path` is the file, None for the process environment and a default."""

    source: Source
    path: Path | None = None

    def __str__(self) -> str:
        return str(self.path or ("process environment" if self.source == Source.ENVIRONMENT else self.source))


def write_value(field: str, value: object) -> str:
    """Write the value of a field for a person; of a secret, only that it is set."""
    if value is None or value == "":
        return _WITHOUT_VALUE.get(field, NOT_SET)
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def find_origin(installation: Installation, variable: str, name: str) -> Origin:
    """Find where the value of a variable comes from, for the environment of this name."""
    file = installation.env_file
    is_of_section = name != DEFAULT_ENVIRONMENT and not variable.startswith("OATHBULK_")
    if is_of_section and (section := installation.find_file_of(name)):
        found = _look_into(variable, section.values, Origin(Source.ENVIRONMENTS_FILE, section.path))
    elif file and _is_given(variable, file.values):
        found = _look_into(variable, file.values, Origin(Source.ENV_FILE, file.path))
    else:
        found = _look_into(variable, installation.variables, Origin(Source.ENVIRONMENT))
    places = installation.find_secret_places(name if is_of_section else DEFAULT_ENVIRONMENT)
    return found or _find_place(variable, places) or Origin(Source.DEFAULT)


def _look_into(variable: str, values: Mapping[str, str], origin: Origin) -> Origin | None:
    """Tell whether these values give the variable itself, or name a file with its value; None if neither."""
    if values.get(variable):
        return origin
    file = values.get(f"{variable}_FILE")
    return Origin(Source.VALUE_FILE, Path(file)) if file else None


def _find_place(variable: str, places: SecretPlaces) -> Origin | None:
    """Find where a secret comes from that no variable and no file of ours gives; None for what is no secret."""
    if variable not in SECRETS:
        return None
    if path := places.find_file(variable):
        return Origin(Source.CREDENTIAL, path)
    return Origin(Source.KEYRING) if places.read_keyring(variable) else None


def _is_given(variable: str, values: Mapping[str, str]) -> bool:
    """Whether a variable, or the one that names a file with its value, is given."""
    return bool(values.get(variable) or values.get(f"{variable}_FILE"))
