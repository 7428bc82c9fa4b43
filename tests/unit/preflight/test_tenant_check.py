"""Who asks PingOne what in a preflight, and what becomes of a read that is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake import Row, Switches
from worker.pace.errors import PaceOutOfReach, SlotTooFar
from worker.pace.rate_groups import RateGroup
from worker.pingone.configuration import Capabilities, MfaSettings, Policy
from worker.pingone.devices import UserDevice
from worker.pingone.errors import (
    Answer,
    CredentialsRefused,
    Forbidden,
    NotDelivered,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
)
from worker.pingone.inventory import InventoryToken
from worker.pingone.users import User, UserAttribute
from worker.pingone.wire import Page
from worker.preflight.findings import Level, NotPingOne, Report, Verdicts
from worker.preflight.tenant import TenantCheck
from worker.rules.resync import NeedsFlag, ResyncKnowledge
from worker.vault.otps import Secret, Seed

HOTP = Seed(secret=Secret(b"12345678901234567890"))
KNOWN = ResyncKnowledge(NeedsFlag.NO)


class Tenant:
    """Reads of an environment in good order; `failures` are raised in the place of an answer, by the read's name."""

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures
        self.asked: list[str] = []
        self.rates: dict[RateGroup, float] = {}
        self.policy = Policy("p", "Office", is_default=True, is_oath_enabled=True, new_device_notification="NONE")

    def _answer(self, name: str, answer: Any) -> Any:
        self.asked.append(name)
        if name in self.failures:
            raise self.failures[name]
        return answer

    def read_capabilities(self, *, call: object) -> Capabilities:
        return self._answer("capabilities", Capabilities(True, rates=self.rates))  # type: ignore[no-any-return]

    def read_policies(self, *, call: object) -> list[Policy]:
        return self._answer("policies", [self.policy])  # type: ignore[no-any-return]

    def read_mfa_settings(self, *, call: object) -> MfaSettings:
        return self._answer("settings", MfaSettings(max_devices=1))  # type: ignore[no-any-return]

    def list_tokens(self, make_read: Any, *, call: object) -> Iterator[Page[InventoryToken]]:
        tokens = [InventoryToken(id="t", serial_number="MADE1", device_id="device-1", user_id="user-1")]
        yield make_read(lambda: self._answer("tokens", Page(tokens, None, Answer())))

    def list_devices(self, user_id: str, *, call: object) -> list[UserDevice]:
        return self._answer("devices", [UserDevice("device-1", status="ACTIVE")])  # type: ignore[no-any-return]

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: object) -> list[User]:
        return self._answer("users", [User(id="user-1", username="alice")])  # type: ignore[no-any-return]


def examine(tenant: Tenant, *, device_id: str | None = "device-1", may_pair: bool = False) -> Report:
    row = Row(row_number=1, serial_number="MADE1", user_id="user-1", device_id=device_id, username="alice", otps=HOTP)
    report = Report(Verdicts(good=[row]), seconds=12.0, rate=30.0)
    ids = {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s"}
    environment = Environment.model_validate(ids)
    check = TenantCheck(tenant, environment, Settings(), Switches(may_pair=may_pair))  # type: ignore[arg-type]
    check.add_to(report, KNOWN, lambda: 0.0)
    return report


def test_a_tenant_in_good_order_is_asked_everything_once_and_has_nothing_against_it() -> None:
    tenant = Tenant()
    report = examine(tenant)
    assert tenant.asked == ["capabilities", "policies", "settings", "users", "tokens", "devices"]
    assert (report.findings, report.unknown, report.is_complete) == ([], [], True)


@pytest.mark.parametrize("refusal", [Forbidden, OutcomeUnknown, RateLimited])
@pytest.mark.parametrize(
    ("read", "what"),
    [
        ("capabilities", "the license"),
        ("policies", "the policies"),
        ("settings", "the MFA settings"),
        ("tokens", "the inventory"),
        ("devices", "the persons' devices"),
        ("users", "the users"),
    ],
)
def test_what_a_read_does_not_tell_is_not_known_and_stops_nothing(
    read: str, what: str, refusal: type[PingOneError]
) -> None:
    tenant = Tenant(**{read: refusal(Answer(status=403, code="ACCESS_FAILED"))})
    report = examine(tenant)
    assert (report.findings, report.unknown) == ([], [f"{what}: HTTP 403, ACCESS_FAILED"])
    assert len(set(tenant.asked)) == 6
    assert [asked for asked in set(tenant.asked) if tenant.asked.count(asked) > 1 and asked != "tokens"] == []


@pytest.mark.parametrize("failure", [NotDelivered(), CredentialsRefused(), PaceOutOfReach(1.0)])
def test_where_nothing_can_be_asked_nothing_more_is(failure: Exception) -> None:
    tenant = Tenant(policies=failure)
    with pytest.raises(type(failure)):
        examine(tenant)
    assert tenant.asked == ["capabilities", "policies"]


READS = ("capabilities", "policies", "settings", "users", "tokens", "devices")


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(status=502), Answer(message="ReadTimeout: timed out")])
def test_where_pingone_itself_answers_no_read_that_is_told_with_the_url(answer: Answer) -> None:
    tenant = Tenant(**dict.fromkeys(READS, OutcomeUnknown(answer)))
    with pytest.raises(NotPingOne) as told:
        examine(tenant)
    assert f"PINGONE_API_URL=https://api.pingone.com/v1 came {answer}." in str(told.value)
    assert "oathbulk doctor" in str(told.value)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("own", [None, Forbidden(Answer(status=403, code="ACCESS_FAILED"))])
def test_one_answer_of_pingones_is_enough_whatever_it_says(read: str, own: PingOneError | None) -> None:
    failures: dict[str, Exception] = dict.fromkeys(READS, OutcomeUnknown(Answer(status=404)))
    del failures[read]
    report = examine(Tenant(**failures, **({read: own} if own else {})))
    assert len(report.unknown) == len(READS) - (own is None)


def test_slots_that_are_all_far_are_no_sign_that_something_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert len(examine(Tenant(**dict.fromkeys(READS, SlotTooFar(100.0)))).unknown) == len(READS)


def test_a_slot_that_is_far_is_waited_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    report = examine(Tenant(tokens=SlotTooFar(25.0)))
    assert waits == [25.0, 25.0]
    assert report.unknown == ["the inventory: the fleet's next slot is 25.0 s away"]


def test_only_where_devices_will_be_made_a_person_is_asked_about_mail_and_their_number() -> None:
    tenant = Tenant()
    tenant.policy = Policy("p", "Office", is_default=True, is_oath_enabled=True)
    assert [(finding.name, finding.level) for finding in examine(tenant).findings] == [("notification", Level.NOTE)]
    asked = examine(tenant, device_id=None, may_pair=True).findings
    assert [(finding.name, finding.level) for finding in asked] == [
        ("notification", Level.ASK),
        ("too_many_devices", Level.ASK),
    ]


@pytest.mark.parametrize(("bought", "seconds", "rate"), [(0.0, 12.0, 30.0), (3.0, 120.0, 3.0), (100.0, 12.0, 30.0)])
def test_the_time_is_counted_at_the_licenses_rate_where_that_is_lower(
    bought: float, seconds: float, rate: float
) -> None:
    tenant = Tenant()
    tenant.rates = {RateGroup.MFA: bought} if bought else {}
    report = examine(tenant)
    assert (report.seconds, report.rate, report.is_rate_bought) == (seconds, rate, bought == 3.0)
