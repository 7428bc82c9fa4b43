"""Settings: what can be set, and which values are valid. `sources` reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from worker.config.home_path import DATABASE, find_home
from worker.config.server_urls import check_database_url, check_redis_url, check_web_url

# Thread limit of a worker process when neither OATHBULK_CONCURRENCY nor OATHBULK_CONCURRENCY_MAX is set.
DEFAULT_THREAD_LIMIT = 512
# Seconds. Below it, a process would do nothing but look at its clock.
SHORTEST = 0.01
# Seconds: a day. Whoever sets more has mistyped it; and a datetime, which ends with the year 9999, takes many of them.
LONGEST = 24 * 60 * 60
# Far above any sensible number, and below those that a database has no column for.
MOST = 1_000_000
# Bytes of a path and of a name in it. The system permits 4,096 and 255; what is made inside needs some of them.
LONGEST_PATH = 3000
LONGEST_NAME = 200
# All but tabs and the ends of lines, which a private key has.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _check_path(path: Path) -> Path:
    """Check that a path is short enough, also for the files that are made below it. Raises ValueError."""
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(
            f"is a path of more than {LONGEST_PATH} bytes, or has a name of more than {LONGEST_NAME}: shorten it"
        )
    return path


Seconds = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
SettingPath = Annotated[Path, AfterValidator(_check_path)]

# The exit code of a process whose configuration is wrong; docs/exit-codes.md lists all.
UNUSABLE_SETUP = 3


class ConfigError(Exception):
    """A setting is missing or wrong; the message names it and the cure."""


class UnusableSettings(ConfigError):
    """What settings are written in cannot be used as it is: a name that is none, a file that is broken or missing."""


class Described(BaseModel):
    """Settings as texts describe them: variables, files. Each of these texts must be one that other programs take."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, str | Path) else ""
        if _CONTROLS.search(text):
            raise ValueError("holds a NUL byte or another control character: write it anew, as text")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("is not written in UTF-8: write it anew, as text that is") from None
        return value


class Settings(Described):
    """The settings of this installation: `OATHBULK_*`. Times are in seconds; `.env.example` says what each is for."""

    home: SettingPath = Field(default_factory=lambda: find_home(os.environ))
    actor: str | None = Field(default=None, max_length=200)
    config: SettingPath | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    audit_key: SecretStr | None = None
    audit_head: str | None = None
    webhook_url: SecretStr | None = None
    webhook_secret: SecretStr | None = None
    # The service under which secrets lie in this machine's keyring; None: it is not asked.
    keyring: str | None = None
    # A file that a backup touches when it is done.
    backup_stamp: SettingPath | None = None
    otp_post_budget: int = Field(default=3, ge=2, le=7)
    max_attempts: Count = 8
    concurrency: int = Field(default=8, ge=1, le=2000)
    concurrency_max: int | None = Field(default=None, ge=1, le=2000)
    one_processor: bool = True
    database_connections: int = Field(default=4, ge=1, le=1000)
    replay_cron: str | None = None
    totp_max_age: Seconds = Field(default=120, ge=SHORTEST)
    step_margin: Seconds = Field(default=3, lt=30)
    call_deadline: Seconds = Field(default=20, ge=SHORTEST)
    lease: Seconds = Field(default=60, ge=SHORTEST)
    send_within: Seconds = Field(default=5, ge=SHORTEST)
    lease_left_for_post: Seconds = Field(default=25, ge=SHORTEST)
    queue_lease: Seconds = Field(default=60, ge=SHORTEST)
    read_delay: Seconds = 30
    not_found_delay: Seconds = Field(default=10, ge=SHORTEST)
    outage_hold: Seconds = Field(default=5, ge=SHORTEST)
    longest_hold: Seconds = Field(default=120, ge=SHORTEST)
    furthest_slot: Seconds = Field(default=2, ge=SHORTEST)
    tick: Seconds = Field(default=1, ge=SHORTEST)
    log_format: Literal["auto", "json", "text"] = "auto"
    breaker_forbidden: Count = 10
    breaker_devices_gone: Count = 10
    breaker_refused: Count = 20
    breaker_refused_share: float = Field(default=0.5, gt=0, le=1)
    breaker_spent: Count = 25
    breaker_unanswered: Count = Field(default=20, ge=2)
    first_records: int = Field(default=3, ge=0, le=MOST)
    window: Count | None = None
    names_per_request: int = Field(default=40, ge=1, le=200)
    tokens_per_import: int = Field(default=500, ge=1, le=100_000)

    @field_validator("replay_cron")
    @classmethod
    def _check_cron(cls, cron: str | None) -> str | None:
        if not cron or cron.lower() == "off":
            return None
        # Not at the top: few installations set a schedule, and importing Celery takes a twelfth of a command's start.
        from celery.schedules import ParseException, crontab

        try:
            crontab.from_string(cron)
        except (ValueError, ParseException) as error:
            raise ValueError("must be five cron fields, such as '15 * * * *', or 'off'") from error
        return cron

    @field_validator("audit_head")
    @classmethod
    def _check_audit_head(cls, place: str | None) -> str | None:
        if not place or Path(place).is_absolute():
            return place or None
        raise ValueError("must be the whole path of a file, such as /var/log/oathbulk.heads")

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_web_url(url.get_secret_value())
        return url

    @model_validator(mode="after")
    def _check_lease(self) -> Self:
        if not self.call_deadline < self.lease_left_for_post < self.lease:
            raise ValueError(
                "OATHBULK_CALL_DEADLINE must be less than OATHBULK_LEASE_LEFT_FOR_POST, and that less than "
                "OATHBULK_LEASE: a call ends inside its lease"
            )
        return self

    def find_thread_limit(self, started_with: int) -> int:
        """The most threads that a worker process may have that started with so many.

        If a person set the number that it starts with, here or by Celery's option, it stays at that number, unless
        OATHBULK_CONCURRENCY_MAX is set too.
        """
        is_set = "concurrency" in self.model_fields_set or started_with != self.concurrency
        limit = self.concurrency_max or (started_with if is_set else DEFAULT_THREAD_LIMIT)
        return max(limit, started_with)

    @property
    def over_after(self) -> float:
        """Seconds after which a request that was marked as sent gets no answer any more, and PingOne is done with
        it."""
        return self.send_within + self.call_deadline + self.read_delay

    @property
    def is_embedded_database(self) -> bool:
        """Whether the database is the SQLite file in the home, because no other is set."""
        return self.database_url is None

    @property
    def database(self) -> str:
        """The database's URL for SQLAlchemy. It holds the credentials: never print it. Raises ConfigError."""
        if self.database_url is not None:
            return _check_secret_url("OATHBULK_DATABASE_URL", self.database_url, check_database_url)
        return f"sqlite:///{quote(str(self.home.absolute() / DATABASE))}"

    @property
    def redis(self) -> str:
        """The broker's URL. It holds the password: never print it. Raises ConfigError."""
        if self.redis_url is None:
            raise ConfigError(
                "OATHBULK_REDIS_URL is not set. Workers need a Redis or Valkey: set it, "
                "or use `oathbulk run`, which brings its own."
            )
        return _check_secret_url("OATHBULK_REDIS_URL", self.redis_url, check_redis_url)


def _check_secret_url(variable: str, url: SecretStr, check: Callable[[str], str]) -> str:
    """Check the URL in this variable. Raises ConfigError, whose message quotes nothing of it."""
    try:
        return check(url.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"{variable} {error}") from None
