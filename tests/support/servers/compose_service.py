"""What docker-compose.yml says of each service."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[3]
FILE = PROJECT / "docker-compose.yml"

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


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    is_dollar, name, default = found.groups()
    return "$" if is_dollar else variables.get(name) or default or ""
