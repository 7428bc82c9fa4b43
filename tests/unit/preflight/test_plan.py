"""The hash of a plan: the same for the same plan, and another as soon as anything is done otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any

import pytest

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake import Hints, Shipment, Switches, open_assignment, open_shipment
from worker.intake.formats.table import find_format
from worker.preflight.plan import Choices, Parts, collect_parts, describe_differences, find_host, hash_parts
from worker.rules.hours import DailyHours

SECRET = "made-up-client-secret"
ENVIRONMENT = Environment(name="default", environment_id="env-1", client_id="client-1", client_secret=SECRET)
# As they are without any variable; the home is that of no test.
SETTINGS = Settings(home=Path("/nowhere"))
CHOICES = Choices(batch="july")
BOX = "serial,otp1,otp2,user_id,device_id\nACME1,30871455,36729922,u,d\n"


@pytest.fixture
def shipment(tmp_path: Path) -> Shipment:
    (tmp_path / "box.csv").write_text(BOX)
    return open_shipment(tmp_path / "box.csv")


def collect(
    shipment: Shipment,
    environment: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    choices: Choices = CHOICES,
) -> Parts:
    return collect_parts(
        shipment,
        ENVIRONMENT.model_copy(update=environment or {}),
        SETTINGS.model_copy(update=settings or {}),
        choices,
    )


def test_the_hash_is_the_same_each_time_and_short(shipment: Shipment) -> None:
    found = hash_parts(collect(shipment))
    assert found == hash_parts(collect(open_shipment(shipment.path)))
    assert len(found) == 12
    assert set(found) <= set("0123456789abcdef")


def test_the_hash_is_that_of_the_json_that_the_page_tells() -> None:
    # Written down on purpose: a plan that was approved under the version before must not lose its hash unnoticed.
    parts: Parts = {"b": None, "a": ["x", "ü"], "c": 0.5}
    assert hash_parts(parts) == "77eedaeab633"


def test_a_plan_that_was_read_from_json_has_the_same_hash(shipment: Shipment) -> None:
    parts = collect(shipment, choices=replace(CHOICES, share=0.6, canary=5, accepted=["b", "a"]))
    assert hash_parts(json.loads(json.dumps(parts))) == hash_parts(parts)


def open_list(shipment: Shipment, text: str = "serial,username\nACME1,anna\n") -> Shipment:
    path = shipment.path.with_name("list.csv")
    path.write_text(text)
    return replace(shipment, assignment=open_assignment(path))


SHIPMENTS = {
    "the file": lambda shipment: replace(shipment, digest="0" * 64),
    "the list of --assign": open_list,
    "--format": lambda shipment: replace(shipment, format=find_format(shipment.path, "serial-secret")),
    "--only-assigned": lambda shipment: replace(shipment, only_assigned=True),
    "--encoding": lambda shipment: replace(shipment, hints=Hints(encoding="hex")),
    "--otp-type": lambda shipment: replace(shipment, hints=Hints(otp_type="totp")),
    "--digits": lambda shipment: replace(shipment, hints=Hints(digits=8)),
    "--time-step": lambda shipment: replace(shipment, hints=Hints(time_step=60)),
    "--hash": lambda shipment: replace(shipment, hints=Hints(hash_algorithm="SHA256")),
    "the key of the file": lambda shipment: replace(shipment, hints=Hints(key=b"k")),
    "the password of the file": lambda shipment: replace(shipment, hints=Hints(password=b"p")),
    "--import": lambda shipment: replace(shipment, switches=Switches(may_import=True)),
    "--pair": lambda shipment: replace(shipment, switches=Switches(may_pair=True)),
}


@pytest.mark.parametrize("name", SHIPMENTS)
def test_whatever_is_read_otherwise_changes_the_hash_and_is_named(name: str, shipment: Shipment) -> None:
    compare(collect(shipment), collect(SHIPMENTS[name](shipment)), name)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("--batch", replace(CHOICES, batch="august")),
        ("--canary", replace(CHOICES, canary=5)),
        ("--share", replace(CHOICES, share=0.6)),
        ("--window", replace(CHOICES, hours=DailyHours(time(22), time(5), "UTC"))),
        ("--accept", replace(CHOICES, accepted=["devices_old"])),
    ],
)
def test_whatever_is_chosen_otherwise_changes_the_hash_and_is_named(
    name: str, choices: Choices, shipment: Shipment
) -> None:
    compare(collect(shipment), collect(shipment, choices=choices), name)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("--environment", {"name": "test"}),
        ("the environment's id", {"environment_id": "env-2"}),
        ("the API's host", {"api_url": "https://api.pingone.eu/v1"}),
        ("PINGONE_RESYNC_ON_FIRST_CALL", {"resync_on_first_call": True}),
        ("PINGONE_PAIRING_STATUS", {"pairing_status": "ACTIVE"}),
    ],
)
def test_another_environment_changes_the_hash_and_is_named(
    name: str, changed: dict[str, Any], shipment: Shipment
) -> None:
    compare(collect(shipment), collect(shipment, changed), name)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("OATHBULK_OTP_POST_BUDGET", {"otp_post_budget": 5}),
        ("OATHBULK_MAX_ATTEMPTS", {"max_attempts": 3}),
        ("OATHBULK_FIRST_RECORDS", {"first_records": 0}),
        ("OATHBULK_TOTP_MAX_AGE", {"totp_max_age": 60.0}),
        ("OATHBULK_REPLAY_CRON", {"replay_cron": "15 * * * *"}),
    ],
)
def test_a_setting_that_changes_what_is_done_changes_the_hash_and_is_named(
    name: str, changed: dict[str, Any], shipment: Shipment
) -> None:
    compare(collect(shipment), collect(shipment, settings=changed), name)


def test_timings_and_places_are_no_part_of_a_plan(shipment: Shipment) -> None:
    timings = {"lease": 90.0, "call_deadline": 10.0, "tick": 2.0, "concurrency": 3, "longest_hold": 60.0}
    changed = collect(shipment, {"rate": 5.0, "client_secret": "another"}, timings | {"home": Path("/elsewhere")})
    assert changed == collect(shipment)


def test_the_order_in_which_findings_are_accepted_does_not_matter(shipment: Shipment) -> None:
    one, other = (replace(CHOICES, accepted=names) for names in (["b", "a", "b"], ["a", "b"]))
    assert hash_parts(collect(shipment, choices=one)) == hash_parts(collect(shipment, choices=other))


def test_no_secret_is_a_part(shipment: Shipment) -> None:
    hidden = replace(shipment, hints=Hints(key=b"pre-shared", password=b"password-1"))
    written = json.dumps(collect(hidden, {"import_client_id": "i", "import_client_secret": SECRET}))
    for secret in (SECRET, "pre-shared", b"pre-shared".hex(), "password-1", "30871455", "36729922"):
        assert secret not in written


def test_a_difference_tells_both_values() -> None:
    planned: Parts = {"share": 0.6, "pair": True, "accepted": ["a", "b"], "window": None}
    now: Parts = {"share": None, "pair": False, "accepted": [], "window": "22:00-05:00 UTC"}
    assert describe_differences(planned, now) == [
        "--share (0.6 in the plan, not given now)",
        "--pair (on in the plan, off now)",
        "--accept (a, b in the plan, nothing now)",
        "--window (not given in the plan, 22:00-05:00 UTC now)",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://api.pingone.com/v1", "api.pingone.com"), ("http://127.0.0.1:8080/v1", "127.0.0.1:8080")],
)
def test_the_host_of_a_url_has_its_port_where_it_names_one(url: str, host: str) -> None:
    assert find_host(url) == host


def compare(planned: Parts, now: Parts, name: str) -> None:
    """The two have different hashes, and one difference, of this name."""
    assert hash_parts(planned) != hash_parts(now)
    (difference,) = describe_differences(planned, now)
    assert difference.split(" (")[0] == name
