"""Settings: from the process environment, `.env`, `*_FILE` variables and `oathbulk.toml`."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from worker.server_urls import check_database_url, check_redis_url

DEFAULT_ENVIRONMENT = "default"

# The regions of PingOne: https://developer.pingidentity.com/pingone-api
DOMAINS = {
    "NA": "pingone.com",
    "CA": "pingone.ca",
    "EU": "pingone.eu",
    "AU": "pingone.com.au",
    "SG": "pingone.sg",
    "AP": "pingone.asia",
}


# Where a container's engine mounts secrets: only the container's own user is there to read them.
CONTAINER_SECRETS = Path("/run/secrets")

# Nobody said otherwise.
MOST_THREADS = 512

M = TypeVar("M", bound=BaseModel)


class ConfigError(Exception):
    """A setting is missing or wrong; the message names it and the cure."""


class Environment(BaseModel):
    """One PingOne environment and the worker application that acts in it: the `PINGONE_*` settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    environment_id: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    client_auth: Literal["basic", "post"] = "basic"
    auth_environment_id: str = ""
    region: Literal["NA", "CA", "EU", "AU", "SG", "AP"] = "NA"
    api_url: str = ""
    token_url: str = ""
    license: str = ""
    rate: float = Field(default=30, gt=0, allow_inf_nan=False)
    rate_max: float = Field(default=500, gt=0, allow_inf_nan=False)
    resync_on_first_call: bool = False

    @field_validator("api_url", "token_url")
    @classmethod
    def _encrypted_or_loopback(cls, url: str) -> str:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ValueError("must hold no user and password: it is printed")
        if not url or (parts.scheme == "https" and parts.hostname):
            return url.rstrip("/")
        if parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"):
            return url.rstrip("/")
        raise ValueError("must be an https:// URL; http:// is accepted for a loopback address only")

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        """The defaults that depend on other settings."""
        domain = DOMAINS[self.region]
        tokens = self.token_url or f"https://auth.{domain}/{{env}}/as/token"
        auth_environment_id = self.auth_environment_id or self.environment_id
        derived = {
            "auth_environment_id": auth_environment_id,
            "api_url": self.api_url or f"https://api.{domain}/v1",
            "token_url": tokens.replace("{env}", auth_environment_id),
            "license": self.license or self.environment_id,
        }
        for field, value in derived.items():
            object.__setattr__(self, field, value)
        return self


class Settings(BaseModel):
    """What holds for this installation: the `OATHBULK_*` settings. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Path(".oathbulk")
    actor: str | None = Field(default=None, max_length=200)
    config: Path | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    otp_post_budget: int = Field(default=3, ge=2, le=7)
    max_attempts: int = Field(default=8, ge=1)
    concurrency: int = Field(default=8, ge=1, le=2000)
    concurrency_max: int | None = Field(default=None, ge=1, le=2000)
    replay_cron: str | None = None
    totp_max_age: float = Field(default=120, gt=0)
    call_deadline: float = Field(default=20, gt=0)
    lease: float = Field(default=60, gt=0)
    send_within: float = Field(default=5, gt=0)
    lease_left_for_post: float = Field(default=25, gt=0)
    queue_lease: float = Field(default=60, gt=0)
    read_delay: float = Field(default=30, ge=0)
    not_found_delay: float = Field(default=10, gt=0)
    outage_hold: float = Field(default=5, gt=0)
    longest_hold: float = Field(default=120, gt=0)
    furthest_slot: float = Field(default=2, gt=0)
    tick: float = Field(default=1, gt=0)
    breaker_forbidden: int = Field(default=10, ge=1)
    breaker_refused: int = Field(default=20, ge=1)
    breaker_refused_share: float = Field(default=0.5, gt=0, le=1)
    breaker_unanswered: int = Field(default=20, ge=2)
    window: int | None = Field(default=None, ge=1)

    @field_validator("replay_cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        if not cron or cron.lower() == "off":
            return None
        # Not at the top: every command would wait for Celery, a twelfth of its start, and few installations set a
        # schedule.
        from celery.schedules import ParseException, crontab

        try:
            crontab.from_string(cron)
        except (ValueError, ParseException) as error:
            raise ValueError("must be five cron fields, such as '15 * * * *', or 'off'") from error
        return cron

    @model_validator(mode="after")
    def _lease_covers_a_call(self) -> Self:
        if not self.call_deadline < self.lease_left_for_post < self.lease:
            raise ValueError("must satisfy CALL_DEADLINE < LEASE_LEFT_FOR_POST < LEASE: a call ends inside its lease")
        return self

    def most_threads(self, begun: int) -> int:
        """What a worker process that began with so many may come to. A number that a person set, here or to Celery, is
        meant, unless the most is set too."""
        is_set = "concurrency" in self.model_fields_set or begun != self.concurrency
        most = self.concurrency_max or (begun if is_set else MOST_THREADS)
        return max(most, begun)

    @property
    def is_embedded_database(self) -> bool:
        return self.database_url is None

    @property
    def database(self) -> str:
        """SQLAlchemy's URL, credentials included: never print it. Raises ConfigError."""
        if self.database_url is not None:
            return _checked("OATHBULK_DATABASE_URL", self.database_url, check_database_url)
        return f"sqlite:///{self.home.absolute() / 'oathbulk.db'}"

    @property
    def redis(self) -> str:
        if self.redis_url is None:
            raise ConfigError(
                "OATHBULK_REDIS_URL is not set. Workers need a Redis or Valkey: set it, "
                "or use `oathbulk run`, which brings its own."
            )
        return _checked("OATHBULK_REDIS_URL", self.redis_url, check_redis_url)


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


def _checked(variable: str, url: SecretStr, check: Callable[[str], str]) -> str:
    try:
        return check(url.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"{variable} {error}") from None


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
