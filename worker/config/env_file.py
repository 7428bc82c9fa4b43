"""Finds and reads the `.env` file.

The file says where the client secret and OTPs are sent. So it is read from the installation's home, or from the path
that a person names, and never from the working directory, where anybody may have put one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from worker.config.file_permissions import SECRETS, read_trusted, refuse_open_secrets
from worker.config.home_path import find_home
from worker.config.known_settings import ENV_FILE
from worker.config.settings import ConfigError


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The `.env` file of this process; it may be missing unless a person named it.

    `values` are those that the process environment does not set. What is set there, or through a `…_FILE` variable
    there, takes precedence.
    """

    path: Path
    values: Mapping[str, str] = field(repr=False)


def read_env_file() -> EnvFile:
    """Read the file that OATHBULK_ENV_FILE names, else `.env` in the home. Raises ConfigError."""
    named = os.environ.get(ENV_FILE, "")
    home = find_home(os.environ)
    path = Path(named) if named else home / ".env"
    if not named and not os.path.lexists(path):
        return EnvFile(path, {})
    values = _read_values(path)
    _refuse_redirection(path, values, home=None if named else home)
    return EnvFile(
        path,
        {name: value for name, value in values.items() if name not in os.environ and f"{name}_FILE" not in os.environ},
    )


def _read_values(path: Path) -> dict[str, str]:
    """Read the variables of the file, which must be closed to others if it holds a secret. Raises ConfigError."""
    try:
        text = read_trusted(path)
        _refuse_broken_lines(path, text)
        found = dotenv_values(stream=StringIO(text))
        values = {name: value for name, value in found.items() if value is not None}
        if any(values.get(variable) for variable in SECRETS):
            refuse_open_secrets(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: name another with --env-file or {ENV_FILE}, or none") from error
    return values


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


def _refuse_redirection(path: Path, values: Mapping[str, str], home: Path | None) -> None:
    """Refuse a file that names another `.env` file or home: which settings hold would depend on where a program begins
    to read."""
    if values.get(ENV_FILE):
        raise ConfigError(f"{path} sets {ENV_FILE}, which only the process environment can: remove that line")
    other = values.get("OATHBULK_HOME")
    if home is not None and other and Path(other).absolute() != home.absolute():
        raise ConfigError(
            f"{path} lies in one home and sets OATHBULK_HOME to another: remove that line, "
            f"or name the file with --env-file"
        )
