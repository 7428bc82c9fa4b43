"""What docs/stability.md promises: every public name of the code is in tests/samples/public_names.json, and every name
in there is in the code. One can be added to the file, but none is removed before 2.0."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.data.facts import make_reading, write_metrics
from support.pages.reading import CHECKOUT, find_code, find_listed_keys, read_page

from models.reason import PauseReason, Reason
from models.record_states import Status
from worker.cli import exit_codes
from worker.cli.application import make_command
from worker.cli.command_list import COMMANDS, OPTIONS
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS
from worker.intake.rows import KNOWN, RESULT_COLUMNS, VENDOR_COLUMNS
from worker.preflight.findings import Question

PROMISED: dict[str, list[str]] = json.loads((CHECKOUT / "tests/samples/public_names.json").read_text(encoding="utf-8"))


def list_options() -> Iterator[str]:
    """List each command with each of its arguments and options: `load FILE`, `load --batch`."""
    yield from OPTIONS
    for name in COMMANDS:
        command = make_command(name)
        below = getattr(command, "commands", {})
        for typed, each in {name: command, **{f"{name} {sub}": found for sub, found in below.items()}}.items():
            yield typed
            for given in each.params:
                names = given.opts + given.secondary_opts
                yield from (f"{typed} {one}" for one in (names if names[0].startswith("-") else [given.metavar]))


def list_metrics() -> Iterator[str]:
    """List each metric with its type and labels."""
    for family in text_string_to_metric_families(write_metrics(make_reading())):
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        yield f"{family.name} {family.type} {','.join(labels)}".strip()


def list_first_column(section: str) -> Iterator[str]:
    lines = read_page(section).splitlines()
    yield from (name for line in lines if line.startswith("| `") for name in find_code(line.split(" | ")[0]))


def list_webhook_keys() -> Iterator[str]:
    (body, *_) = json.loads((CHECKOUT / "tests/golden/webhook/bodies.json").read_text(encoding="utf-8"))
    yield from body


FOUND: dict[str, Iterable[Any]] = {
    "commands": list_options(),
    "exit codes": (str(code) for name, code in vars(exit_codes).items() if name.isupper()),
    "keys of --json": (f"{command} {key}" for command, keys in find_listed_keys().items() for key in keys),
    "settings": (*OWN_SETTINGS, *ENVIRONMENT_SETTINGS),
    "metrics": list_metrics(),
    "keys of the webhook": list_webhook_keys(),
    "log events": list_first_column("docs/troubleshooting.md#in-a-log"),
    "reasons of dead letters": map(str, Reason),
    "reasons of pauses": map(str, PauseReason),
    "statuses": map(str, Status),
    "findings of --accept": map(str, Question),
    "columns of files": (
        *(name for column in KNOWN for name in (column.name, *column.synonyms)),
        *(*RESULT_COLUMNS, *VENDOR_COLUMNS),
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_promised_is_there_and_what_is_public_is_promised(kind: str) -> None:
    found, promised = {*FOUND[kind]}, {*PROMISED[kind]}
    assert sorted(promised - found) == [], "promised until 2.0: keep it, or let the old name go on beside the new one"
    assert sorted(found - promised) == [], "public: add it to tests/samples/public_names.json"


def test_the_file_has_no_other_kind() -> None:
    assert {*PROMISED} == {*FOUND}
