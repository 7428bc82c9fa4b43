"""Reads settings: from the process environment, the `.env` file, `*_FILE` variables and `oathbulk.toml`; secrets also
from systemd's credentials. Refuses an unknown name that begins like a setting.

`.env` is read from the installation's home, or from a path that a person names, never from the working directory, where
anybody may have put one: that file decides where the client secret and OTPs are sent."""

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterable, Mapping
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
from worker.config.settings import (
    ENV_FILE,
    OF_PINGONE,
    OWN,
    TUNING,
    ConfigError,
    Described,
    Settings,
    UnusableSettings,
    find_home,
)
from worker.config.trusted_files import read_trusted, read_value, refuse_open_secrets

M = TypeVar("M", bound=Described)


def _find_named(model: type[Described]) -> dict[str, FieldInfo]:
    """Find a model's settings by name, without fields that only code or tests set."""
    names = {str(facts.validation_alias): facts for facts in model.model_fields.values()}
    return {name: facts for name, facts in names.items() if name.startswith((OWN, OF_PINGONE))}


OWN_SETTINGS = tuple(_find_named(Settings))
# An environment's settings: variables for the default one, keys in its section for any other.
ENVIRONMENT_SETTINGS = tuple(_find_named(Environment))
# Settings with secret values.
SECRETS = {
    name
    for name, facts in {**_find_named(Settings), **_find_named(Environment)}.items()
    if "SecretStr" in str(facts.annotation)
}
# docker-compose.yml uses OATHBULK_IMAGE, and passes its whole .env to our containers.
VARIABLES = frozenset((*OWN_SETTINGS, *ENVIRONMENT_SETTINGS, ENV_FILE, "OATHBULK_IMAGE"))
# Variables that Kubernetes sets in every container of a namespace with a service named, for example, oathbulk-flower.
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")
# Settings that httpx reads from the process environment itself.
_READ_BY_HTTPX = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where systemd puts the credentials of a service: https://systemd.io/CREDENTIALS/
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
# The only top-level table of `oathbulk.toml`; it has a table for each environment.
TABLE = "environments"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """A file, or a section of one, and its effective settings. Settings in a `.env` file that the process environment
    overrides are not among them."""

    path: Path
    values: Mapping[str, str] = field(repr=False)


class VariableSource(EnvSettingsSource):
    """Finds each setting of a model in the variables, or in the file that NAME_FILE names; a secret also among
    systemd's credentials. `file`: where some of the variables come from. `places`: the files that hold values, for
    messages."""

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
                found[name] = read_value(led_by, path, is_secret=name in SECRETS)
                self.places[name] = path
        self.env_vars = found


def load_settings(variables: Mapping[str, str] | None = None, file: SettingsFile | None = None) -> Settings:
    """Read the `OATHBULK_*` settings from the process environment and the `.env` file; or from these variables, some of
    which come from `file`. Raises ConfigError."""
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
    """Read the settings of the PingOne environment of this name: `default` from the `PINGONE_*` variables, any other
    from its section of `oathbulk.toml`. `variables` and `file` are as for `load_settings`. Raises ConfigError."""
    if variables is None:
        file = read_env_file()
        variables = read_variables(file)
    return _validate(open_source(settings, name, variables, file), Environment, {"name": name})


def find_license(settings: Settings, name: str, variables: Mapping[str, str], file: SettingsFile | None) -> str | None:
    """Find the license of the environment with this name, or else the environment's id; None if neither is set. No
    credentials have to be set. Raises ConfigError."""
    found = _validate(open_source(settings, name, variables, file, License), License, {})
    return found.license or found.environment_id or None


def open_source(
    settings: Settings,
    name: str,
    variables: Mapping[str, str],
    file: SettingsFile | None,
    model: type[Described] = Environment,
) -> VariableSource:
    """Open the source of this environment's settings; `model` says which settings are read. Raises ConfigError."""
    credentials = find_credentials(variables, name)
    if name == DEFAULT_ENVIRONMENT:
        return VariableSource(model, variables, credentials, file)
    path, section = config_path(settings), _read_sections(settings).get(name)
    if section is None:
        raise ConfigError(f"environment {name!r} is not configured: add a section [environments.{name}] to {path}")
    return VariableSource(model, section, credentials, SettingsFile(path, section))


def read_variables(file: SettingsFile | None = None) -> dict[str, str]:
    """Read the process environment and the `.env` file; the process environment has precedence. Proxies and
    certificates from the file are put into the process environment, where httpx looks for them. Raises ConfigError."""
    file = file or read_env_file()
    _refuse_unknown_variables(os.environ)
    _refuse_unknown_variables(file.values, f"{file.path}: ")
    for name in _READ_BY_HTTPX:
        if name in file.values:
            os.environ.setdefault(name, file.values[name])
    return {**file.values, **os.environ}


def read_env_file() -> SettingsFile:
    """Read the file that OATHBULK_ENV_FILE names, otherwise `.env` in the home, which may be missing. Raises
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
    # Otherwise the effective settings would depend on where a program begins to read.
    if values.get(ENV_FILE):
        raise ConfigError(f"{path} sets {ENV_FILE}, which only the process environment can: remove that line")
    other = values.get("OATHBULK_HOME")
    if not named and other and Path(other).absolute() != home.absolute():
        raise ConfigError(
            f"{path} is in one home and sets OATHBULK_HOME to another: remove that line, or name the file with "
            f"--env-file"
        )
    is_set = os.environ.keys()
    return SettingsFile(path, {k: v for k, v in values.items() if k not in is_set and f"{k}_FILE" not in is_set})


def _refuse_broken_lines(path: Path, text: str) -> None:
    """Refuse a file with a line that sets nothing, since it was meant as a setting; or with a NUL byte, which no
    variable can hold. Raises ConfigError."""
    for binding in parse_stream(StringIO(text)):
        # A comment has no name; a name without = has no value, and is refused.
        if binding.error or (binding.key is not None and binding.value is None):
            # The parser counts empty lines before a line as part of it.
            text, line = binding.original.string, binding.original.line
            line += text[: len(text) - len(text.lstrip())].count("\n")
            raise ConfigError(f"{path}: line {line} is not NAME=value: quote the value, or put # before a comment")
        if "\0" in binding.original.string:
            raise ConfigError(f"{path}: {binding.key or 'a remark'} holds a NUL byte: write it again as text")


def config_path(settings: Settings) -> Path:
    """The path of `oathbulk.toml`, the file with the environments besides `default`."""
    return settings.config or settings.home / "oathbulk.toml"


def _read_sections(settings: Settings) -> dict[str, dict[str, str]]:
    """Read the settings of each environment by name; none if no file is named and the home has none. Raises ConfigError
    if the file is unreadable, or other users may change it or read a secret in it; UnusableSettings if its contents are
    invalid."""
    path = config_path(settings)
    try:
        text = read_trusted(path)
    except FileNotFoundError as error:
        if settings.config is None:
            return {}
        raise ConfigError(
            f"OATHBULK_CONFIG names {path}, which does not exist: create that file, or remove the setting"
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
        # Python raises ValueError instead of converting a number with thousands of digits to text.
        return {name: {key: str(value) for key, value in each.items()} for name, each in sections.items()}
    except (ValueError, RecursionError) as error:
        named_by = "OATHBULK_CONFIG: " if settings.config else ""
        raise UnusableSettings(f"{named_by}{path} cannot be read: {error}") from error


def find_credentials(variables: Mapping[str, str], environment: str = DEFAULT_ENVIRONMENT) -> dict[str, Path]:
    """Find systemd's credentials for secret settings: `encryption_keys`, `pingone_client_secret`; for an environment
    other than `default`, `pingone_client_secret.NAME`."""
    directory = Path(variables.get(CREDENTIALS_DIRECTORY, ""))
    end = "" if environment == DEFAULT_ENVIRONMENT else f".{environment}"
    paths = {name: directory / f"{name.removeprefix(OWN).lower()}{end}" for name in SECRETS}
    # A name with a slash would lead elsewhere; and `is_file` raises PermissionError if this user may not look there.
    return {
        name: path
        for name, path in paths.items()
        if variables.get(CREDENTIALS_DIRECTORY)
        and path.parent == directory
        and os.access(path, os.F_OK)
        and path.is_file()
    }


def _refuse_unknown_variables(names: Iterable[str], where: str = "") -> None:
    """Raise UnusableSettings for unknown variables with our prefix: a mistyped setting would silently have no
    effect."""
    suspects = (name for name in names if name.startswith((OWN, OF_PINGONE)) and not _OF_A_SERVICE.search(name))
    _refuse_unknown(suspects, VARIABLES, where)


def _refuse_unknown(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise UnusableSettings for unknown names, and suggest the nearest. A known name with _FILE is known too. The
    message starts with `where`."""
    wrong = sorted(name for name in names if name not in known and name.removesuffix("_FILE") not in known)
    if wrong:
        raise UnusableSettings(where + "; ".join(_name_nearest(name, known) for name in wrong))


def _name_nearest(name: str, known: Collection[str]) -> str:
    by_end = {_cut_beginning(each): each for each in known}
    near = get_close_matches(_cut_beginning(name.removesuffix("_FILE")), by_end, n=1)
    suffix = "_FILE" if name.endswith("_FILE") else ""
    cure = f"did you mean {by_end[near[0]]}{suffix}?" if near else "remove it (docs/deployment.md lists all)"
    return f"{name} is an unknown setting; {cure}"


def _cut_beginning(name: str) -> str:
    """Cut off the shared prefix: with it, every name would seem similar."""
    return name.removeprefix(OWN).removeprefix(OF_PINGONE)


def _check_home(home: Path) -> None:
    """Raise ConfigError if the home is the root directory, since rehearsals have their homes beside it; if it is not a
    directory; or if this user cannot reach it."""
    if not home.absolute().name:
        raise ConfigError(f"OATHBULK_HOME names {home}: name a directory of its own")
    try:
        is_directory = stat.S_ISDIR(home.stat().st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(
            f"OATHBULK_HOME: {home} is out of reach ({error.strerror}): set it to your own directory"
        ) from error
    if not is_directory:
        raise ConfigError(f"OATHBULK_HOME names {home}, which is not a directory: name one")


def _validate(source: VariableSource, model: type[M], more: dict[str, Any]) -> M:
    """Make a model from what a source finds; `more` has values for what it does not find. Raises ConfigError, which
    names every wrong setting and its file, but quotes no value."""
    try:
        return model(**more | source())
    except ValidationError as error:
        complaints, by_field = [], {field: facts.validation_alias for field, facts in model.model_fields.items()}
        for fault in error.errors(include_input=False, include_url=False):
            complaint = _complain(fault["type"], fault["msg"])
            # A fault that concerns several settings together has no place; its message names them.
            for place in fault["loc"][:1]:
                name = str(by_field.get(str(place), place))
                complaint = f"{name} {complaint}" + (f" (in {source.places[name]})" if name in source.places else "")
            complaints.append(complaint)
        raise ConfigError("; ".join(complaints)) from None


def _complain(kind: str, message: str) -> str:
    """Say what is wrong with a value, after the name of its setting: `should be a valid number`."""
    if kind == "missing":
        return "is not set"
    # pydantic: "Input should be a valid number, unable to parse string as a number".
    complaint = message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    return complaint.partition(", unable to parse")[0]
