"""What is deployed beside the code says what the code says: .env.example, the Dockerfile, the units of docs/systemd,
and the alerts for Prometheus."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from pydantic_core import PydanticUndefined
from support.data.facts import make_reading, parse_metrics, write_metrics
from support.pages.reading import read_page
from support.processes.systemd_units import HARDENING, NAMES, UNITS, read_settings
from support.servers.compose_service import PROJECT, default_variables, read_services

from models.reason import PASSING, PauseReason
from worker.config.environment import DEFAULT_ENVIRONMENT, Environment
from worker.config.settings import Settings
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS, load_environment, load_settings

# .env.example: a setting with its default is commented out; one without a `#` must be filled in.

EXAMPLE = (PROJECT / ".env.example").read_text(encoding="utf-8")
SETTINGS = re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE, re.M)
FOUND = dict(SETTINGS)
REQUIRED = {"PINGONE_ENVIRONMENT_ID": "e", "PINGONE_CLIENT_ID": "c", "PINGONE_CLIENT_SECRET": "s"}


def given(prefix: str) -> dict[str, str]:
    return {name: value for name, value in FOUND.items() if name.startswith(prefix) and value}


def test_every_setting_is_there_once_with_a_line_above_that_explains_it() -> None:
    libraries = ["HTTPS_PROXY", "SSL_CERT_FILE"]
    ours = [*OWN_SETTINGS, *ENVIRONMENT_SETTINGS]
    assert sorted(name for name, _ in SETTINGS) == sorted([*ours, *libraries, *default_variables()])
    assert [name for name in ours if not re.search(rf"^# [^-\n].*\n#?{name}=", EXAMPLE, re.M)] == []


def test_the_defaults_are_those_of_the_code_and_of_the_compose_file() -> None:
    settings = load_settings({})
    assert load_settings(given("OATHBULK_")) == settings
    with_given = load_environment(settings, DEFAULT_ENVIRONMENT, REQUIRED | given("PINGONE_"))
    assert with_given == load_environment(settings, DEFAULT_ENVIRONMENT, REQUIRED)
    fields = {f"OATHBULK_{name.upper()}": field for name, field in Settings.model_fields.items()}
    fields |= {f"PINGONE_{name.upper()}": field for name, field in Environment.model_fields.items()}
    left_open = {*OWN_SETTINGS, *ENVIRONMENT_SETTINGS} - given("").keys()
    assert [name for name in left_open if fields[name].default not in (None, "", PydanticUndefined)] == []
    assert {name: FOUND[name] for name in default_variables()} == default_variables()


# The image.


def test_the_builder_of_the_image_gets_what_the_dockerfile_copies_and_locks_with_their_hashes() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    let_in = re.findall(r"^!(.+)$", (PROJECT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    copied = [name for line in re.findall(r"^COPY (?!--)(.+)$", dockerfile, re.M) for name in line.split()[:-1]]
    assert (sorted(copied), [name for name in copied if not (PROJECT / name).exists()]) == (sorted(let_in), [])
    (need,) = re.findall(r"^ARG NEED=(\w+)$", dockerfile, re.M)
    named = {*re.findall(r"-r \.ci/locks/(\S+)", dockerfile.replace("${NEED}", need))}
    assert (named, dockerfile.count("--require-hashes")) == ({"build.txt", "run.txt"}, 2)


# The units.


SERVICES = read_services(default_variables())
# By unit, the service of docker-compose.yml that does the same.
SAME = {f"oathbulk-{name}.service": name.strip("@") for name in ("worker@", "beat", "flower", "migrate", "desk")}
# Settings of which a unit and what is for all units each add their own.
ADDED = {"Environment", "SystemCallFilter"}
# What a container needs besides: where they are needed they are named in oathbulk.env.
FILES = {"ca.pem", "oathbulk.toml", "webhook_secret"}


@pytest.mark.parametrize(("name", "service"), SAME.items())
def test_a_unit_has_the_secrets_and_options_that_the_container_has(name: str, service: str) -> None:
    settings = read_settings(UNITS / name)
    assert {value.partition(":")[0] for value in settings["LoadCredential"]} == {*SERVICES[service]["secrets"]} - FILES
    (command,) = settings["ExecStart"]
    theirs = " ".join(SERVICES[service]["command"]).replace("0.0.0.0", "127.0.0.1")
    options = re.findall(r"(?<= )--?[a-z][\w=.-]*", theirs.partition("worker ")[2])
    assert {option for option in options if option not in command.split() and option + "'" not in command} == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_reads_each_secret_where_systemd_puts_it_and_listens_on_this_machine_alone(name: str) -> None:
    settings = read_settings(UNITS / name)
    credentials = dict(value.split(":") for value in settings["LoadCredential"])
    assert credentials == {name: f"/etc/oathbulk/secrets/{name}" for name in credentials}
    read = dict(value.split("=%d/") for value in settings["Environment"])
    # Flower's password is a variable of Flower's.
    assert {*read.values()} == credentials.keys() - {"flower_basic_auth"}
    assert all(name in {f"OATHBULK_{path.upper()}_FILE", f"{path.upper()}_FILE"} for name, path in read.items())
    ports = re.findall(r"--port[= ](\d+)", settings["ExecStart"][0])
    assert settings.get("SocketBindAllow", []) == [f"tcp:{port}" for port in ports]
    assert "0.0.0.0" not in settings["ExecStart"][0]
    # What is for all units takes nothing of it back.
    assert settings.keys() & read_settings(HARDENING).keys() <= ADDED


def test_commands_read_the_secrets_that_workers_get() -> None:
    wrapper = (UNITS / "oathbulk").read_text(encoding="utf-8")
    worker = read_settings(UNITS / "oathbulk-worker@.service")["Environment"]
    assert {f"{name}=%d/{file}" for name, file in re.findall(r"export (\w+)=\$secrets/(\w+)", wrapper)} == {*worker}


# The alerts: they fire when they should, name metrics that exist, and say what to do.


ALERTS = PROJECT / "docs" / "monitoring" / "alerts.yml"
TESTS = ALERTS.with_name("alerts_test.yml")
PROMTOOL = shutil.which("promtool")
RULES: dict[str, Any] = {
    rule["alert"]: rule
    for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
READING = write_metrics(make_reading())


@pytest.mark.parametrize("name", RULES)
def test_an_alert_names_what_the_exporter_exposes_says_what_to_do_and_is_tested(name: str) -> None:
    rule, exposed = RULES[name], {each: {label for label, _ in labels} for each, labels in parse_metrics(READING)}
    # A metric in an expression, with the labels in the braces behind it.
    named = re.findall(r"\b(oathbulk_\w+)(?:\{([^}]*)\})?", rule["expr"])
    for metric, braces in named:
        assert set(re.findall(r"(\w+)\s*(?:=|!|<|>)", braces)) <= exposed[metric]
    labels = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
    assert set(labels) <= set().union(*(exposed[metric] for metric, _ in named))
    assert f"| `{name}` |" in read_page(rule["annotations"]["runbook"])
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == name]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_the_dashboard_shows_metrics_and_labels_that_the_exporter_exposes_each_once() -> None:
    dashboard = json.loads(ALERTS.with_name("dashboard.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    exposed = {each: {label for label, _ in labels} for each, labels in parse_metrics(READING)}
    for query in [*queries, *(variable["query"] for variable in dashboard["templating"]["list"])]:
        for metric, braces in re.findall(r"\b(oathbulk_\w+)(?:\{([^}]*)\})?", query):
            assert set(re.findall(r"(\w+)\s*(?:=|!|<|>)", braces)) <= exposed[metric], query
    assert (len({*queries}), all("oathbulk_" in query for query in queries)) == (len(queries), True)


def test_a_pause_that_passes_or_has_an_alert_of_its_own_waits_for_no_person() -> None:
    assert len(RULES) == 10
    (left_out,) = re.findall(r'reason!~"([^"]*)"', RULES["OathbulkPausedForAPerson"]["expr"])
    assert set(left_out.split("|")) == {*map(str, PASSING), str(PauseReason.CREDENTIALS)}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
@pytest.mark.parametrize("words", [("check", "rules", ALERTS), ("test", "rules", TESTS), ("check", "metrics")])
def test_promtool_finds_nothing_wrong(words: tuple[Any, ...]) -> None:
    command = [str(PROMTOOL), *words]
    done = subprocess.run(command, cwd=ALERTS.parent, input=READING, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
