"""Settings: what can be set, and what is a sound value of it. Where they come from: worker.config.sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from worker.config.server_urls import check_database_url, check_redis_url, check_web_url

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


# Nobody said otherwise.
MOST_THREADS = 512


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
        return check_web_url(url).rstrip("/") if url else url

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
    audit_key: SecretStr | None = None
    audit_head: str | None = None
    journal: Path | None = None
    otp_post_budget: int = Field(default=3, ge=2, le=7)
    max_attempts: int = Field(default=8, ge=1)
    concurrency: int = Field(default=8, ge=1, le=2000)
    concurrency_max: int | None = Field(default=None, ge=1, le=2000)
    one_processor: bool = True
    database_connections: int = Field(default=4, ge=1, le=1000)
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
    breaker_spent: int = Field(default=25, ge=1)
    breaker_unanswered: int = Field(default=20, ge=2)
    first_records: int = Field(default=3, ge=0)
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

    @field_validator("audit_head")
    @classmethod
    def _is_place(cls, place: str | None) -> str | None:
        if not place or place == "syslog:" or Path(place).is_absolute():
            return place or None
        if "://" in place:
            return check_web_url(place)
        raise ValueError("must be the whole path of a file, such as /var/log/oathbulk.heads, or syslog:, or a URL")

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
    def journal_directory(self) -> Path | None:
        """None: no journal is kept. Beside a database on another machine it must be chosen where it lasts."""
        return self.journal or (self.home / "journal" if self.is_embedded_database else None)

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


def _checked(variable: str, url: SecretStr, check: Callable[[str], str]) -> str:
    try:
        return check(url.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"{variable} {error}") from None
