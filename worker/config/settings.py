"""Settings of an installation: what can be set, and which values are valid; the home's location; and the times and
sizes of a running fleet, which nobody needs to set. `sources` reads the settings."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, AliasGenerator, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.config.server_urls import check_database_url, check_redis_url, check_web_url

# The prefixes of the settings' names.
OWN, OF_PINGONE = "OATHBULK_", "PINGONE_"
# The variable that names the .env file, for programs without the option --env-file, such as Celery's.
ENV_FILE = "OATHBULK_ENV_FILE"
# The variable that `run BATCH` sets for its own processes: the id of the only batch that they work on. It is not a
# setting, and so has another prefix.
ONLY_BATCH = "_OATHBULK_ONLY_BATCH"
# The variable by which tests give processes another `Tuning`: its name, __, and a field's name.
TUNING = "_OATHBULK_TUNING"

# Far above any sensible number, and small enough for an INTEGER column.
MOST = 1_000_000
# Maximum length of a path and of a name in it, in bytes. The system permits 4,096 and 255; files inside need some of
# that.
LONGEST_PATH = 3000
LONGEST_NAME = 200
# Everything but tabs and line ends, which a private key has.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# With PYDANTIC_SETTINGS_DEBUG in the environment it would log every value, including secrets.
logging.getLogger("pydantic_settings").disabled = True

# The exit code of a process whose configuration is wrong; docs/commands.md lists all exit codes.
UNUSABLE_SETUP = 3


class ConfigError(Exception):
    """A setting is missing or wrong; the message names it and the cure."""


class UnusableSettings(ConfigError):
    """Settings are malformed: an unknown name, or a broken `oathbulk.toml`."""


def _check_path(path: Path) -> Path:
    """Check that a path is short enough, including files below it. Raises ValueError."""
    if len(os.fsencode(path)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise ValueError(
            f"is a path of more than {LONGEST_PATH} bytes, or has a name of more than {LONGEST_NAME}: shorten it"
        )
    return path


SettingPath = Annotated[Path, AfterValidator(_check_path)]


def name_with(prefix: str) -> SettingsConfigDict:
    """Configure a model whose fields have this prefix and their upper-case names in variables and files."""
    names = AliasGenerator(validation_alias=lambda field: prefix + field.upper())
    return SettingsConfigDict(alias_generator=names)


class Described(BaseSettings):
    """Settings that are read as text from variables and files. The text must suit other programs too."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        case_sensitive=True,
        validate_by_name=True,
        validate_default=False,
    )

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that are passed: `sources` reads them from places that differ by environment."""
        return (sources["init_settings"],)

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, str | Path) else ""
        if _CONTROLS.search(text):
            raise ValueError("holds a NUL byte or another control character: write it again as text")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("is not written in UTF-8: write it again in UTF-8") from None
        return value


# The file that shows that shipments were loaded into a home.
DATABASE = "oathbulk.db"


def find_home(variables: Mapping[str, str]) -> Path:
    """Find the home: the one in OATHBULK_HOME, otherwise the user's own, from any current directory; for a user id
    without a home directory, as in some containers, one in the working directory.
    https://specifications.freedesktop.org/basedir-spec/latest/"""
    if named := variables.get("OATHBULK_HOME", ""):
        return Path(named)
    state = Path(variables.get("XDG_STATE_HOME", ""))
    if state.is_absolute():
        return state / "oathbulk"
    try:
        return Path.home() / ".local" / "state" / "oathbulk"
    except RuntimeError:
        return Path(".oathbulk").absolute()


class Tuning(BaseModel):
    """Times and sizes that nobody needs to set: constants that tests can replace. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A TOTP pair older than this is not sent: PingOne's server checks only a few time steps of 30 s back.
    totp_max_age: float = 120
    # A TOTP OTP made from a seed is not sent this late in its time step, since it would arrive in the next one.
    step_margin: float = 3
    # A call to PingOne takes no longer than this: far more than answers usually take, and within the lease.
    call_deadline: float = 20
    # A worker holds a record no longer than this: enough for two calls and the work between them.
    lease: float = 60
    # An OTP that was not sent within this time after its mark is not sent anymore.
    send_within: float = 5
    # How much of the lease must be left when an OTP is sent: enough for a call, and to settle the record.
    lease_left_for_post: float = 25
    # A record that waits longer in the queue is due again: its message is lost.
    queue_lease: float = 60
    # A device is not read sooner than this after a lost answer: PingOne may still be processing the call. A read
    # without a result is repeated after a sixth of this, then at doubling intervals, up to ten times this.
    read_delay: float = 30
    # Between two reads of a device that PingOne does not know yet: it may have been paired moments ago.
    not_found_delay: float = 10
    # The fleet, or one worker if others reach PingOne, waits this long after an outage for which no time is given.
    outage_hold: float = 5
    # The longest hold, no matter who asks for it. A longer `Retry-After` is a used-up quota.
    longest_hold: float = 120
    # If the next slot is further away than this, the record is handed back, so that no thread sleeps until then.
    furthest_slot: float = 2
    # Between two dispatcher ticks.
    tick: float = 1

    # Replacements for thresholds of the breaker, by their names in `worker.rules.breaker.Thresholds`.
    breaker: dict[str, int] = Field(default={})
    # Records that a batch begins with in an environment without an active token; 0: all begin at once.
    first_records: int = 3

    # Records queued or being worked on at once; None: ten seconds of the pace, at least 64.
    window: int | None = None
    # People looked up by name in one request, halved if PingOne finds it too long. PingOne publishes no number, but a
    # request's header, including the access token, has at most 6 KB, and 40 email addresses take half of that.
    names_per_request: int = 40
    # Tokens imported by one job; halved if PingOne refuses the job.
    tokens_per_import: int = 500

    @property
    def over_after(self) -> float:
        """Seconds after which a request that was marked as sent gets no answer anymore, and PingOne is done with
        it."""
        return self.send_within + self.call_deadline + self.read_delay


class Settings(Described):
    """The settings of this installation: `OATHBULK_*`; `.env.example` explains each."""

    model_config = name_with(OWN)

    home: SettingPath = Field(default_factory=lambda: find_home(os.environ))
    actor: str | None = Field(default=None, max_length=200)
    config: SettingPath | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    encryption_keys: SecretStr | None = None
    audit_head: str | None = None
    webhook_url: SecretStr | None = None
    webhook_secret: SecretStr | None = None
    # A file that a backup touches when it is done.
    backup_stamp: SettingPath | None = None
    otp_post_budget: int = Field(default=3, ge=2, le=7)
    max_attempts: int = Field(default=8, ge=1, le=MOST)
    # Threads that mostly wait for PingOne: 100 requests a second of 0.6 s each.
    concurrency: int = Field(default=64, ge=1, le=2000)
    database_connections: int = Field(default=4, ge=1, le=1000)
    replay_cron: str | None = None
    log_format: Literal["auto", "json", "text"] = "auto"
    tuning: Tuning = Field(default=Tuning(), validation_alias=TUNING)

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
        raise ValueError("must be the full path of a file, such as /var/log/oathbulk.heads")

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_web_url(url.get_secret_value())
        return url

    @property
    def is_embedded_database(self) -> bool:
        """Whether the database is the SQLite file in the home, because no other is set."""
        return self.database_url is None

    @property
    def database(self) -> str:
        """The database's URL for SQLAlchemy. It contains the credentials: never print it. Raises ConfigError."""
        if self.database_url is not None:
            return _check_secret_url("OATHBULK_DATABASE_URL", self.database_url, check_database_url)
        return f"sqlite:///{quote(str(self.home.absolute() / DATABASE))}"

    @property
    def redis(self) -> str:
        """The broker's URL. It contains the password: never print it. Raises ConfigError."""
        if self.redis_url is None:
            raise ConfigError(
                "OATHBULK_REDIS_URL is not set. Workers need a Redis or Valkey: set it, "
                "or use `oathbulk run`, which brings its own."
            )
        return _check_secret_url("OATHBULK_REDIS_URL", self.redis_url, check_redis_url)


def _check_secret_url(variable: str, url: SecretStr, check: Callable[[str], str]) -> str:
    """Check the URL in this variable. Raises ConfigError, whose message quotes no part of it."""
    try:
        return check(url.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"{variable} {error}") from None
