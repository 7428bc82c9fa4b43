"""What docker-compose.yml says of each service, for tests that run the very same commands without containers."""

import os
import re
import shlex
import signal
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from support.servers.server import Server

PROJECT = Path(__file__).parents[3]
FILE = PROJECT / "docker-compose.yml"
COMMAND_TIMEOUT = 120.0

# `$$`, `${NAME:-default}`, `${NAME}`: https://docs.docker.com/reference/compose-file/interpolation/
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::-([^}]*))?\})")


def read_services(variables: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The services by name, as docker compose sees them with these variables."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value

    services: dict[str, dict[str, Any]] = fill(yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"])
    return services


def default_variables() -> dict[str, str]:
    """The variables that docker-compose.yml names, with their defaults."""
    found = VARIABLE.findall(FILE.read_text(encoding="utf-8"))
    return {name: default for is_dollar, name, default in found if not is_dollar}


class Service(Server):
    """One service as a process of this machine. `places` says which path here stands for one of the file's, `listens`
    is the port that the service has there; here it has any free one. `project` is where .env is."""

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        definition: Mapping[str, Any],
        *,
        project: Path,
        programs: Path,
        places: Mapping[str, Path],
        listens: int | None = None,
    ) -> None:
        super().__init__()
        self._definition = definition
        self._project = project
        self._programs = programs
        self._places = places
        self._listens = listens

    def argv(self) -> list[str]:
        return self._local([*self._definition.get("entrypoint", []), *self._definition["command"]])

    def options(self) -> dict[str, Any]:
        return {"env": self.environment(), "cwd": str(self.directory)}

    def answers(self) -> bool:
        """It runs: whether it is well is asked when a test wants to know, for asking is dear."""
        return self.is_running

    def is_well(self) -> bool:
        """What its health check's very command says."""
        kind, *command = self._definition["healthcheck"]["test"]
        argv = ["sh", "-c", *command] if kind == "CMD-SHELL" else command
        return self._run(self._local(argv)).returncode == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run SERVICE ARGUMENTS`, to its end; without arguments, its own command."""
        command = list(arguments) or self._definition["command"]
        return self._run(self._local([*self._definition.get("entrypoint", []), *command]))

    def environment(self) -> dict[str, str]:
        scripts = sysconfig.get_path("scripts")
        mine = {"PATH": os.pathsep.join([str(self._programs), scripts, os.defpath]), "HOME": str(self.directory)}
        for file in self._definition.get("env_file", []):
            values = dotenv_values(self._project / file["path"])
            mine |= {name: value for name, value in values.items() if value is not None}
        given = self._definition.get("environment", {})
        return mine | dict(zip(given, self._local([str(value) for value in given.values()]), strict=True))

    def _run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        directory = self._local([self._definition.get("working_dir", str(self.directory))])[0]
        return subprocess.run(
            argv, env=self.environment(), cwd=directory, capture_output=True, text=True, timeout=COMMAND_TIMEOUT
        )

    def _local(self, texts: list[str]) -> list[str]:
        return [self._translate(text) for text in texts]

    def _translate(self, text: str) -> str:
        here = {theirs: str(ours) for theirs, ours in self._places.items()}
        if self._listens:
            here[str(self._listens)] = str(self.port)
        names = "|".join(map(re.escape, here))
        # At once, and whole names only: /data is no part of /run/secrets/database_url.
        return re.sub(rf"(?<!\w)({names})(?!\w)", lambda found: here[found[0]], text)


def make_program(directory: Path, name: str, *argv: str | Path) -> None:
    """A program of this name, which runs `argv` with whatever arguments it gets."""
    program = directory / name
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, argv))} "$@"\n')
    program.chmod(0o755)


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    is_dollar, name, default = found.groups()
    return "$" if is_dollar else variables.get(name) or default or ""
