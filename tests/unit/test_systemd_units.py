"""The units of docs/systemd say the same as docker-compose.yml, and each gets the secrets that it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.processes.systemd_units import HARDENING, NAMES, UNITS, read_settings
from support.servers.compose_service import default_variables, read_services

SERVICES = read_services(default_variables())
# By unit, the service of docker-compose.yml that does the same.
SAME = {
    "oathbulk-worker@.service": "worker",
    "oathbulk-beat.service": "beat",
    "oathbulk-flower.service": "flower",
    "oathbulk-migrate.service": "migrate",
}
# Settings of which a unit and what is for all units each add their own.
ADDED = {"Environment", "SystemCallFilter"}
# What a container needs besides: where they are needed they are named in oathbulk.env.
FILES = {"ca.pem", "oathbulk.toml", "webhook_secret"}


def credentials(name: str) -> set[str]:
    return {value.partition(":")[0] for value in read_settings(UNITS / name)["LoadCredential"]}


@pytest.mark.parametrize(("name", "service"), SAME.items())
def test_a_unit_gets_the_secrets_that_the_container_gets(name: str, service: str) -> None:
    assert credentials(name) == set(SERVICES[service]["secrets"]) - FILES


@pytest.mark.parametrize(("name", "service"), SAME.items())
def test_a_unit_starts_the_program_with_the_options_that_the_container_has(name: str, service: str) -> None:
    (command,) = read_settings(UNITS / name)["ExecStart"]
    theirs = " ".join(SERVICES[service]["command"]).replace("0.0.0.0", "127.0.0.1")
    options = re.findall(r"(?<= )--?[a-z][\w=.-]*", theirs.partition("worker ")[2])
    assert {option for option in options if option not in command.split() and option + "'" not in command} == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_secret_is_read_where_systemd_puts_it(name: str) -> None:
    settings = read_settings(UNITS / name)
    assert set(settings["LoadCredential"]) == {f"{each}:/etc/oathbulk/secrets/{each}" for each in credentials(name)}
    read = {re.sub(r"^(OATHBULK|PINGONE)_(\w+)_FILE=%d/", "", value) for value in settings["Environment"]}
    # Flower's password is a variable of Flower's.
    assert read | {"flower_basic_auth"} == credentials(name) | {"flower_basic_auth"}
    for value in settings["Environment"]:
        variable, _, path = value.partition("=%d/")
        assert variable in {f"OATHBULK_{path.upper()}_FILE", f"{path.upper()}_FILE"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_for_all_units_takes_nothing_of_a_unit_back(name: str) -> None:
    assert set(read_settings(UNITS / name)) & set(read_settings(HARDENING)) - ADDED == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_listens_where_it_says_and_on_this_machine_alone(name: str) -> None:
    settings = read_settings(UNITS / name)
    ports = re.findall(r"--port[= ](\d+)", settings["ExecStart"][0])
    assert settings.get("SocketBindAllow", []) == [f"tcp:{port}" for port in ports]
    assert "0.0.0.0" not in settings["ExecStart"][0]


def test_commands_read_the_secrets_that_workers_get() -> None:
    wrapper = Path(UNITS / "oathbulk").read_text(encoding="utf-8")
    exported = set(re.findall(r"export (\w+)=\$secrets/(\w+)", wrapper))
    worker = [value.split("=%d/") for value in read_settings(UNITS / "oathbulk-worker@.service")["Environment"]]
    assert exported == {(variable, path) for variable, path in worker}
