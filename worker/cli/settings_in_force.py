"""The settings in force that matter for a batch, each with where it comes from; of a secret, only whether it is set."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel, SecretStr

from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.file_permissions import SECRETS
from worker.config.secret_places import SecretPlaces
from worker.installation.installation import Installation
from worker.pages.plan_contents import SettingLine

# Fields of Settings that decide what is done, how often, and what stops it; and where things are kept.
_OWN = (
    "otp_post_budget",
    "max_attempts",
    "first_records",
    "totp_max_age",
    "replay_cron",
    "breaker_forbidden",
    "breaker_devices_gone",
    "breaker_refused",
    "breaker_refused_share",
    "breaker_spent",
    "breaker_unanswered",
    "longest_hold",
    "home",
    "database_url",
    "redis_url",
    "encryption_keys",
    "audit_key",
)
# Where a value comes from that nobody set.
DEFAULT = "default"
# How a value is written that is not set and means something.
_WITHOUT_VALUE = {"resync_on_first_call": "auto"}


def list_settings(installation: Installation, name: str, hashed: Collection[str] = ()) -> tuple[SettingLine, ...]:
    """List the settings that are in force for the environment of this name. `hashed`: the variables that the hash of
    the plan covers. Raises ConfigError."""
    environment = installation.environment(name)
    fields = tuple(field for field in type(environment).model_fields if field != "name")
    lines = [*_describe(environment, "PINGONE_", fields), *_describe(installation.settings, "OATHBULK_", _OWN)]
    return tuple(
        SettingLine(variable, value, _find_origin(installation, variable, name), variable in hashed)
        for variable, value in lines
    )


def _describe(model: BaseModel, prefix: str, fields: Collection[str]) -> list[tuple[str, str]]:
    """Name each variable with its value, without any secret."""
    return [
        (prefix + field.upper(), _write(getattr(model, field), _WITHOUT_VALUE.get(field, "not set")))
        for field in fields
    ]


def _write(value: object, without: str) -> str:
    """Write a value for a person; of a secret, only that it is set. `without`: what stands there if there is none."""
    if value is None or value == "":
        return without
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find_origin(installation: Installation, variable: str, name: str) -> str:
    """Say where the value of a variable comes from: the process environment, a file, or its default."""
    file = installation.env_file
    places = installation.find_secret_places(DEFAULT_ENVIRONMENT if variable.startswith("OATHBULK_") else name)
    if name != DEFAULT_ENVIRONMENT and not variable.startswith("OATHBULK_"):
        section = installation.find_file_of(name)
        if section is not None and _is_given(variable, section.values):
            return str(section.path)
        return _find_place(variable, places)
    if not _is_given(variable, installation.variables):
        return _find_place(variable, places)
    return str(file.path) if file and _is_given(variable, file.values) else "process environment"


def _find_place(variable: str, places: SecretPlaces) -> str:
    """Say where a value comes from that no variable and no file gives."""
    return (places.describe(variable) if variable in SECRETS else None) or DEFAULT


def _is_given(variable: str, values: Mapping[str, str]) -> bool:
    """Whether a variable, or the one that names a file with its value, is given."""
    return bool(values.get(variable) or values.get(f"{variable}_FILE"))
