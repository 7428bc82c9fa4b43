"""Reads settings: from the process environment, the `.env` file, `*_FILE` variables and `oathbulk.toml`; secrets also
from credentials of systemd. Refuses a name that looks like a setting and is none, and a file that other users may
change, or read a secret in.

A file of settings says where the client secret and OTPs are sent. So `.env` is read from the installation's home, or
from the path that a person names, and never from the working directory, where anybody may have put one.
"""

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from worker.config.environment import DEFAULT_ENVIRONMENT, Environment, License
from worker.config.home import find_home
from worker.config.settings import (
    ENV_FILE,
    OF_PINGONE,
    OWN,
    TUNING,
    ConfigError,
    Described,
    Settings,
    UnusableSettings,
)

M = TypeVar("M", bound=Described)


def _find_named(model: type[Described]) -> dict[str, FieldInfo]:
    """Find the settings of a model by their names; not what only code or a test sets."""
    names = {str(facts.validation_alias): facts for facts in model.model_fields.values()}
    return {name: facts for name, facts in names.items() if name.startswith((OWN, OF_PINGONE))}


OWN_SETTINGS = tuple(_find_named(Settings))
# Those of an environment: variables for the default one, keys in the section of another.
ENVIRONMENT_SETTINGS = tuple(_find_named(Environment))
# Those whose values are secret.
SECRETS = {
    name
    for name, facts in {**_find_named(Settings), **_find_named(Environment)}.items()
    if "SecretStr" in str(facts.annotation)
}
# OATHBULK_IMAGE is docker-compose.yml's, which hands its whole .env on to our containers.
VARIABLES = frozenset((*OWN_SETTINGS, *ENVIRONMENT_SETTINGS, ENV_FILE, "OATHBULK_IMAGE"))
# What Kubernetes puts into every container of a namespace in which a service is named, say, oathbulk-flower.
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")
# Settings that httpx reads from the process environment itself.
_READ_BY_HTTPX = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where systemd puts the credentials of a service: https://systemd.io/CREDENTIALS/
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
# The only table that `oathbulk.toml` has at its top; within it, a table for each environment.
TABLE = "environments"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file, or a section of one, and the settings in it that hold. What the process environment sets, itself or by a
    `…_FILE` variable, takes precedence over those of a `.env` file, and is not among them."""

    path: Path
    values: Mapping[str, str] = field(repr=False)


class VariableSource(EnvSettingsSource):
    """Finds each setting of a model in variables, or in the file that NAME_FILE names there; a secret after these among
    the credentials of systemd. `file` is the one that some of the variables come from. `places` are the files that
    values stand in, for messages."""

    def __init__(
        self,
        model: type[Described],
        variables: Mapping[str, str],
        credentials: Mapping[str, Path],
        file: SettingsFile | None = None,
    ) -> None:
        """Raises ConfigError for a file that cannot be read."""
        super().__init__(model, env_nested_delimiter="__")
        self.file, self.credentials = file, credentials
        found = {name: value for name, value in variables.items() if name.startswith(f"{TUNING}__")}
        self.places = dict[str, Path]()
        for name in _find_named(model):
            named = variables.get(f"{name}_FILE", "")
            if value := variables.get(name, ""):
                found[name] = value
                if file and name in file.values:
                    self.places[name] = file.path
            elif path := Path(named) if named else credentials.get(name):
                led_by = f"{name}_FILE" if named else f"{name}, {CREDENTIALS_DIRECTORY}"
                found[name] = _read_value(led_by, path, is_secret=name in SECRETS)
                self.places[name] = path
        self.env_vars = found


def load_settings(variables: Mapping[str, str] | None = None, file: SettingsFile | None = None) -> Settings:
    """Read the `OATHBULK_*` settings from the process environment and the `.env` file; or from these variables, of
    which some may come from this file. Raises ConfigError."""
    if variables is None:
        file = read_env_file()
        variables = read_variables(file)
    source = VariableSource(Settings, variables, find_credentials(variables), file)
    settings = _validate(source, Settings, {"OATHBULK_HOME": find_home(variables)})
    _check_home(settings.home)
    _read_sections(settings)
    return settings


def load_environment(
    settings: Settings,
    name: str = DEFAULT_ENVIRONMENT,
    variables: Mapping[str, str] | None = None,
    file: SettingsFile | None = None,
) -> Environment:
    """Read the settings of the PingOne environment of this name: `default` from the `PINGONE_*` variables, another from
    its section of `oathbulk.toml`. `variables` and `file` are those of `load_settings`. Raises ConfigError."""
    if variables is None:
        file = read_env_file()
        variables = read_variables(file)
    return _validate(open_source(settings, name, variables, file), Environment, {"name": name})


def find_license(settings: Settings, name: str, variables: Mapping[str, str], file: SettingsFile | None) -> str | None:
    """Find the license of the environment of this name, by its id if it names none; None where neither is set. Needs no
    credential. Raises ConfigError."""
    found = _validate(open_source(settings, name, variables, file, License), License, {})
    return found.license or found.environment_id or None


def open_source(
    settings: Settings,
    name: str,
    variables: Mapping[str, str],
    file: SettingsFile | None,
    model: type[Described] = Environment,
) -> VariableSource:
    """Open what the settings of the environment of this name are read from, or those of them that another model has.
    Raises ConfigError."""
    credentials = find_credentials(variables, name)
    if name == DEFAULT_ENVIRONMENT:
        return VariableSource(model, variables, credentials, file)
    path, section = config_path(settings), _read_sections(settings).get(name)
    if section is None:
        raise ConfigError(f"environment {name!r} is not configured: add a section [environments.{name}] to {path}")
    return VariableSource(model, section, credentials, SettingsFile(path, section))


def read_variables(file: SettingsFile | None = None) -> dict[str, str]:
    """Read the process environment and the `.env` file; what both set is taken from the process environment.

    Proxies and certificates that the file names are put into the process environment, where httpx looks for them.
    Raises ConfigError.
    """
    file = file or read_env_file()
    _refuse_unknown_variables(os.environ)
    _refuse_unknown_variables(file.values, f"{file.path}: ")
    for name in _READ_BY_HTTPX:
        if name in file.values:
            os.environ.setdefault(name, file.values[name])
    return {**file.values, **os.environ}


def read_env_file() -> SettingsFile:
    """Read the file that OATHBULK_ENV_FILE names, else `.env` in the home, which need not be there. Raises
    ConfigError."""
    named = os.environ.get(ENV_FILE, "")
    home = find_home(os.environ)
    path = Path(named) if named else home / ".env"
    if not named and not os.path.lexists(path):
        return SettingsFile(path, {})
    try:
        text = read_trusted(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: name another with --env-file or {ENV_FILE}, or none") from error
    _refuse_broken_lines(path, text)
    values = {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}
    if any(values.get(name) for name in SECRETS):
        refuse_open_secrets(path)
    # Otherwise it would depend on where a program begins to read which settings hold.
    if values.get(ENV_FILE):
        raise ConfigError(f"{path} sets {ENV_FILE}, which only the process environment can: remove that line")
    other = values.get("OATHBULK_HOME")
    if not named and other and Path(other).absolute() != home.absolute():
        raise ConfigError(
            f"{path} lies in one home and sets OATHBULK_HOME to another: remove that line, "
            f"or name the file with --env-file"
        )
    is_set = os.environ.keys()
    return SettingsFile(path, {k: v for k, v in values.items() if k not in is_set and f"{k}_FILE" not in is_set})


def _refuse_broken_lines(path: Path, text: str) -> None:
    """Refuse a file with a line that sets nothing: whoever wrote it meant a setting. So with a NUL byte, which no
    variable of a process can hold. Raises ConfigError."""
    for binding in parse_stream(StringIO(text)):
        # A remark has no name, and a name without = has no value.
        if binding.error or (binding.key is not None and binding.value is None):
            # Empty lines before it belong to it.
            text, line = binding.original.string, binding.original.line
            line += text[: len(text) - len(text.lstrip())].count("\n")
            raise ConfigError(f"{path}: line {line} is no NAME=value: quote the value, or put # in front of a remark")
        if "\0" in binding.original.string:
            raise ConfigError(f"{path}: {binding.key or 'a remark'} holds a NUL byte: write it anew, as text")


def config_path(settings: Settings) -> Path:
    """The path of `oathbulk.toml`, the file with the environments besides `default`."""
    return settings.config or settings.home / "oathbulk.toml"


def _read_sections(settings: Settings) -> dict[str, dict[str, str]]:
    """Read the settings of each environment by its name; none where no file is named, and there is none in the home.
    Raises ConfigError if the file cannot be read, other users may change it, or read a secret in it; UnusableSettings
    for what is written in it."""
    path = config_path(settings)
    try:
        text = read_trusted(path)
    except FileNotFoundError as error:
        if settings.config is None:
            return {}
        raise ConfigError(
            f"OATHBULK_CONFIG names {path}, which does not exist: make that file, or remove the setting"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{'OATHBULK_CONFIG' if settings.config else 'OATHBULK_HOME'}: {error}") from error
    try:
        found = tomllib.loads(text)
        _refuse_unknown(found, {TABLE}, f"{path}: ")
        sections = found.get(TABLE, {})
        if not isinstance(sections, dict) or not all(isinstance(section, dict) for section in sections.values()):
            raise UnusableSettings(f"{path}: add a section [{TABLE}.NAME] for each environment, with its settings")
        if DEFAULT_ENVIRONMENT in sections:
            cure = "set the PINGONE_… variables instead, or give the section another name"
            raise UnusableSettings(f"{path}, section [{TABLE}.{DEFAULT_ENVIRONMENT}]: {cure}")
        if any(SECRETS & section.keys() for section in sections.values()):
            refuse_open_secrets(path)
        for name, section in sections.items():
            _refuse_unknown(section, ENVIRONMENT_SETTINGS, f"{path}, section [{TABLE}.{name}]: ")
        # Python refuses to write a number of thousands of digits as text: a ValueError.
        return {name: {key: str(value) for key, value in each.items()} for name, each in sections.items()}
    except (ValueError, RecursionError) as error:
        named_by = "OATHBULK_CONFIG: " if settings.config else ""
        raise UnusableSettings(f"{named_by}{path} cannot be read: {error}") from error


def find_credentials(variables: Mapping[str, str], environment: str = DEFAULT_ENVIRONMENT) -> dict[str, Path]:
    """Find the credentials of systemd by the settings whose values they have: `encryption_keys`,
    `pingone_client_secret`; for another environment than `default`, `pingone_client_secret.NAME`."""
    directory = Path(variables.get(CREDENTIALS_DIRECTORY, ""))
    end = "" if environment == DEFAULT_ENVIRONMENT else f".{environment}"
    paths = {name: directory / f"{name.removeprefix(OWN).lower()}{end}" for name in SECRETS}
    # A name with a slash would lead elsewhere; and where this user may not look, `is_file` raises PermissionError.
    return {
        name: path
        for name, path in paths.items()
        if variables.get(CREDENTIALS_DIRECTORY)
        and path.parent == directory
        and os.access(path, os.F_OK)
        and path.is_file()
    }


def _refuse_unknown_variables(names: Iterable[str], where: str = "") -> None:
    """Raise UnusableSettings for variables that begin like ours and are none: mistyped, they would change nothing, and
    nobody would notice."""
    ours = (name for name in names if name.startswith((OWN, OF_PINGONE)) and not _OF_A_SERVICE.search(name))
    _refuse_unknown(ours, VARIABLES, where)


def _refuse_unknown(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise UnusableSettings for names that are not among the known ones, and name the nearest. A known name and _FILE
    names a file with the value. The message begins with `where`."""
    wrong = sorted(name for name in names if name not in known and name.removesuffix("_FILE") not in known)
    if wrong:
        raise UnusableSettings(where + "; ".join(_name_nearest(name, known) for name in wrong))


def _name_nearest(name: str, known: Collection[str]) -> str:
    by_end = {_cut_beginning(each): each for each in known}
    near = get_close_matches(_cut_beginning(name.removesuffix("_FILE")), by_end, n=1)
    suffix = "_FILE" if name.endswith("_FILE") else ""
    cure = f"did you mean {by_end[near[0]]}{suffix}?" if near else "remove it (docs/deployment.md lists all)"
    return f"{name} is no setting; {cure}"


def _cut_beginning(name: str) -> str:
    """What makes a name differ from the others: the beginning that many share would make all of them near."""
    return name.removeprefix(OWN).removeprefix(OF_PINGONE)


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


def _read_value(named_by: str, path: Path, *, is_secret: bool) -> str:
    """Read the file with the value of one setting, which others may not read if it is secret, and may not change if it
    is not: it may be a URL that secrets are sent to. `named_by`: what leads there. Raises ConfigError."""

    def check(facts: os.stat_result) -> None:
        if not is_secret:
            _refuse_foreign(path, facts)
        elif facts.st_mode & stat.S_IROTH:
            raise ConfigError(f"{path} can be read by every user: chmod 600 {path}, or 640 for a group")

    try:
        return _read_checked(path, check).strip()
    except FileNotFoundError as error:
        raise ConfigError(f"{named_by}: {path} cannot be read: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{named_by}: {error}") from error


def _validate(source: VariableSource, model: type[M], more: dict[str, Any]) -> M:
    """Make a model of what a source finds, and of more where it finds nothing. Raises ConfigError, which names every
    setting that is wrong, and the file that it stands in, and quotes no value."""
    try:
        return model(**more | source())
    except ValidationError as error:
        complaints, by_field = [], {field: facts.validation_alias for field, facts in model.model_fields.items()}
        for fault in error.errors(include_input=False, include_url=False):
            complaint = _complain(fault["type"], fault["msg"])
            # What concerns several settings has no place, and names them.
            for place in fault["loc"][:1]:
                name = str(by_field.get(str(place), place))
                complaint = f"{name} {complaint}" + (f" (in {source.places[name]})" if name in source.places else "")
            complaints.append(complaint)
        raise ConfigError("; ".join(complaints)) from None


def _complain(kind: str, message: str) -> str:
    """Say what is wrong with a value, behind the name of its setting: `should be a valid number`."""
    if kind == "missing":
        return "is not set"
    # pydantic: "Input should be a valid number, unable to parse string as a number".
    said = message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return said.partition(", unable to parse")[0]


# Where a container's engine mounts secrets. Nobody but the container's own user can read them there, and the owner that
# the file system names is a user of the host: so owner and mode are not checked.
CONTAINER_SECRETS = Path("/run/secrets")

# Characters; files of settings have some thousands.
LARGEST = 1_000_000


def read_trusted(path: Path) -> str:
    """Read a file that says where secrets are sent, and that no other user may therefore be able to change or replace.
    Raises ConfigError if one can, or if it cannot be read; FileNotFoundError."""

    def check(facts: os.stat_result) -> None:
        _refuse_foreign(path, facts)
        _refuse_replaceable(path)

    return _read_checked(path, check)


def _read_checked(path: Path, check: Callable[[os.stat_result], None]) -> str:
    """Read a file of settings, which passes the check unless a container's engine mounted it. Every file that a setting
    names is opened here. Raises ConfigError, FileNotFoundError."""
    try:
        with open(path, encoding="utf-8", opener=_open_without_waiting) as file:
            # The opened file is checked, and not the path, under which another file may lie by now.
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ConfigError(f"{path} is a pipe or a device: settings are read from a regular file")
            if not _is_container_secret(path):
                check(facts)
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    # A path or a text that is no UTF-8, and a path with a NUL byte, are ValueErrors.
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if len(text) > LARGEST:
        raise ConfigError(f"{path} is no file of settings, but a larger one: name another")
    return text


def refuse_open_secrets(path: Path) -> None:
    """Raise ConfigError if every user can read this file, which holds a secret.

    A file is safe in a directory that is closed to others, such as the home, whatever its own mode.
    """
    is_readable = path.stat().st_mode & stat.S_IROTH and not _is_container_secret(path)
    if is_readable and all(each.stat().st_mode & stat.S_IXOTH for each in path.resolve().parents):
        raise ConfigError(f"{path} holds a secret and can be read by every user: chmod 600 {path}")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; if it is a pipe, without waiting for somebody to write to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _is_container_secret(path: Path) -> bool:
    return path.resolve().is_relative_to(CONTAINER_SECRETS)


def _refuse_foreign(path: Path, facts: os.stat_result) -> None:
    """Raise ConfigError if another user than root or this one owns the file, or may write to it."""
    if facts.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{path} belongs to {_find_user_name(facts.st_uid)}, who may change where secrets are sent: "
            f"chown {_find_user_name(os.geteuid())} {path}, or use a copy of your own"
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{path} can be changed by other users, and with it where secrets are sent: chmod go-w {path}"
        )


def _refuse_replaceable(path: Path) -> None:
    """Raise ConfigError if every user may put another file in this one's place.

    In a sticky directory, such as /tmp, only the owner of the file may.
    """
    for directory in {path.absolute().parent, path.resolve().parent}:
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigError(
                f"{path} can be replaced by every user, and with it where secrets are sent: chmod o-w {directory}"
            )


def _find_user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
