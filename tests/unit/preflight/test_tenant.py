"""What PingOne tells of a shipment, with the sentences that a person reads; who asks it what, and what becomes of a
read that is refused."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from pydantic import ValidationError
from support.data.progress import Heard

from worker.batches.people import find_all, group_by_name
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake.rows import Row
from worker.intake.shipment import Switches
from worker.pace.search import PaceOutOfReach, RateGroup, SlotTooFar
from worker.pingone.configuration import Capabilities, MfaSettings, Policy
from worker.pingone.devices import User, UserAttribute, UserDevice
from worker.pingone.errors import (
    Answer,
    CredentialsRefused,
    Forbidden,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    TooManyTerms,
)
from worker.pingone.inventory import InventoryToken
from worker.pingone.wire import Page
from worker.preflight import tenant
from worker.preflight.findings import Finding, Level, NotPingOne, Report, Verdicts
from worker.preflight.tenant import (
    MOST_TOKENS,
    REQUESTS,
    SAMPLE,
    TenantCheck,
    check_devices,
    check_inventory,
    check_persons,
)
from worker.rules.resync import NeedsFlag, ResyncKnowledge
from worker.vault.otps import Otp, OtpPair, Secret, Seed

SECRET = Secret(b"12345678901234567890")
HOTP = Seed(secret=SECRET)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
PAIR = OtpPair(Otp("308714"), Otp("367299"))


def row(number: int = 1, otps: Seed | OtpPair = HOTP, **fields: object) -> Row:
    ids = {"user_id": f"user-{number}", "device_id": f"device-{number}"}
    kind = otps.otp_type if isinstance(otps, Seed) else "hotp"
    given = {"row_number": number, "serial_number": f"MADE{number}", "otps": otps, "otp_type": kind}
    return Row(**given | ids | fields)  # type: ignore[arg-type]


def verdicts_of(*rows: Row) -> Verdicts:
    verdicts = Verdicts()
    verdicts.take(rows)
    return verdicts


def told(findings: Sequence[Finding]) -> list[tuple[str, tuple[str, ...]]]:
    """The names of findings, each with the serial numbers that it names."""
    return [(finding.name, finding.serials) for finding in findings]


# The environment's own rules.


def check_policy(*, name: str | None = None, is_on: bool = True, says: str | None = "NONE", **options: Any) -> Any:
    """Check a policy; with it `makes_devices` or not, for so many `persons`."""
    count = options.pop("failure_count", None)
    policy = Policy("p", name, True, is_on, failure_count=count, new_device_notification=says)
    return tenant.check_policies([policy], post_budget=3, **{"persons": 3} | options)


MFA_RATE = Capabilities(can_use_oath_token=True, rates={RateGroup.MFA: 100})
LOCK = MfaSettings(has_account_lock=True, lockout_failures=5, lockout_seconds=600)


@pytest.mark.parametrize(
    ("findings", "name", "level", "text"),
    [
        (check_policy(name="Strong", is_on=False), "method_off", Level.STOP, "The policy Strong does not permit OATH"),
        (
            check_policy(says=None, persons=50_000, makes_devices=True),
            "notification",
            Level.ASK,
            "PingOne might write to 50000 people when their token becomes a device: the policy p does not say "
            "otherwise.",
        ),
        (
            check_policy(says="SMS_THEN_EMAIL", persons=1, makes_devices=True),
            "notification",
            Level.ASK,
            "PingOne might write to 1 person when their token becomes a device: the policy p says SMS_THEN_EMAIL.",
        ),
        (
            check_policy(says=None),
            "notification",
            Level.NOTE,
            "PingOne writes to people when their token becomes a device: the policy p does not say otherwise. The "
            "devices of these 3 tokens exist already",
        ),
        (
            check_policy(failure_count=2),
            "locks_early",
            Level.ASK,
            "The policy p locks a device after 2 wrong OTPs, and up to 3 are sent to one: set"
            " OATHBULK_OTP_POST_BUDGET=2.",
        ),
        # No budget is so small.
        (
            check_policy(failure_count=1),
            "locks_early",
            Level.ASK,
            "The policy p locks a device after 1 wrong OTP, and up to 3 are sent to one: raise that number to at"
            " least 2 while the batch runs.",
        ),
        (
            tenant.check_policies([Policy(id="p", is_default=False)], persons=1, post_budget=3),
            "policy_unknown",
            Level.NOTE,
            "The environment has no default policy",
        ),
        (
            tenant.check_settings(LOCK),
            "account_lock",
            Level.NOTE,
            "After 5 wrong OTPs PingOne locks the person's whole account for 600 s.",
        ),
        (tenant.check_capabilities(Capabilities(can_use_oath_token=False)), "license", Level.STOP, "The license does"),
        (
            tenant.check_capabilities(MFA_RATE),
            "rate_bought",
            Level.NOTE,
            "The license has 100 requests a second for MFA",
        ),
        (tenant.check_clock(61), "clock", Level.ASK, "This machine's clock is 61 s ahead of PingOne's: set it."),
        (tenant.check_clock(-300), "clock", Level.ASK, "This machine's clock is 300 s behind PingOne's: set it."),
        (
            tenant.check_learned(ResyncKnowledge(), is_fixed=False),
            "resync_unknown",
            Level.NOTE,
            "It is not known yet whether this environment wants oathResync with OTP 1",
        ),
    ],
)
def test_what_the_environment_says_is_told(findings: list[Finding], name: str, level: Level, text: str) -> None:
    (found,) = findings
    assert (found.name, found.level, found.text.startswith(text)) == (name, level, True), found


@pytest.mark.parametrize(
    "findings",
    [
        check_policy(makes_devices=True, failure_count=3),
        tenant.check_settings(MfaSettings(has_account_lock=False)),
        tenant.check_capabilities(Capabilities()),
        tenant.check_clock(59),
        tenant.check_learned(ResyncKnowledge(), is_fixed=True),
        tenant.check_learned(ResyncKnowledge(NeedsFlag.NO), is_fixed=False),
    ],
)
def test_an_environment_in_good_order_is_told_nothing_of(findings: list[Finding]) -> None:
    assert [*findings] == []


def test_the_budget_that_is_named_for_a_policy_that_locks_early_can_be_set() -> None:
    assert Settings(otp_post_budget=tenant.FEWEST_POSTS).otp_post_budget == 2
    with pytest.raises(ValidationError):
        Settings(otp_post_budget=tenant.FEWEST_POSTS - 1)


# The persons.


class Directory:
    """Users by name, and how many names it takes at once."""

    def __init__(self, *users: User, most: int = 1000) -> None:
        self.users, self.most = users, most
        self.asked: list[tuple[UserAttribute, int]] = []

    def find(self, attribute: UserAttribute, names: Sequence[str]) -> list[User]:
        self.asked.append((attribute, len(names)))
        if len(names) > self.most:
            raise TooManyTerms(Answer(status=400))
        return [user for user in self.users if user.find(attribute) in names]


def test_a_person_who_is_found_by_two_spellings_is_one() -> None:
    users = [User("1", username="Alice"), User("1", username="Alice"), User("2", username="bob")]
    found = group_by_name(UserAttribute.USERNAME, users)
    assert {name: [user.id for user in each] for name, each in found.items()} == {"alice": ["1"], "bob": ["2"]}


def test_a_name_that_pingone_cannot_be_asked_for_finds_nobody_and_keeps_no_other_name_waiting() -> None:
    def find(_: UserAttribute, names: Sequence[str]) -> list[User]:
        if "odd" in names:
            raise TooManyTerms(Answer(status=400, code="INVALID_FILTER"))
        # A refusal of a single name by another server is no answer of PingOne's.
        if "foreign" in names:
            raise TooManyTerms(Answer(status=431))
        return [User(id=name, username=name) for name in names]

    found = find_all(UserAttribute.USERNAME, ["a", "odd", "b", "c"], find, 4)
    assert [user.id for user in found] == ["a", "b", "c"]
    with pytest.raises(TooManyTerms):
        list(find_all(UserAttribute.USERNAME, ["a", "foreign"], find, 4))


@pytest.mark.parametrize(
    ("users", "user_id", "name"),
    [
        ([], "user-1", "user_not_found"),
        ([User(id="user-8", username="alice"), User(id="user-9", username="alice")], "user-1", "other_person"),
        # The user id says which of them is meant.
        ([User(id="USER-1", username="alice"), User(id="x", username="alice")], "user-1", None),
        ([User(id="user-1", username="alice"), User(id="x", username="alice")], None, "user_ambiguous"),
        ([User("user-1", "alice", is_locked=True), User(id="x", username="alice")], "user-1", "account_not_usable"),
        ([User("user-1", "alice", is_enabled=False)], "user-1", "account_not_usable"),
        ([User(id="user-9", username="alice")], "user-1", "other_person"),
        ([User(id="user-1", username="alice")], "user-1", None),
        # The row's e-mail address is that of another person, or the same in capitals.
        ([User(id="user-1", username="alice", email="bob@example.com")], "user-1", "other_person"),
        ([User(id="user-1", username="alice", email="ALICE@example.com")], "user-1", None),
    ],
)
def test_what_is_wrong_with_a_person(users: list[User], user_id: str | None, name: str | None) -> None:
    alice = row(username="alice", email="alice@example.com", user_id=user_id)
    findings = check_persons(verdicts_of(alice), Directory(*users).find, 40)
    assert told(findings) == ([(name, ("MADE1",))] if name else [])
    assert all(finding.level == Level.ASK for finding in findings)


def test_what_is_known_of_a_person_who_was_found_by_name_is_held_against_the_token() -> None:
    verdicts = verdicts_of(row(username="alice", user_id=None, device_id=None))
    check_persons(verdicts, Directory(User(id="User-1", username="alice")).find, 40)
    (alice,) = verdicts.list_good()
    assert alice.known_user_id == "user-1"
    found = told(check_inventory(verdicts, [token(user_id="user-7")], Switches(may_pair=True)))
    assert ("token_taken", ("MADE1",)) in found


def test_forty_persons_are_asked_for_in_one_request_and_each_by_one_name() -> None:
    rows = [row(number, username=f"u{number}", email="same@example.test") for number in range(100)]
    directory, heard = Directory(), Heard()
    more = (row(200 + number, email=f"e{number}") for number in range(3))
    check_persons(verdicts_of(*rows, *more), directory.find, 40, heard)
    assert directory.asked == [("username", 40), ("username", 40), ("username", 20), ("email", 3)]
    assert heard == [("Looking people up", done, 103) for done in (40, 80, 100)]


def test_nothing_is_said_of_persons_of_whom_some_could_not_be_looked_up() -> None:
    verdicts, asked = verdicts_of(*(row(number, username=f"u{number}") for number in range(REQUESTS + 1))), 0

    def find(_: UserAttribute, names: Sequence[str]) -> list[User]:
        nonlocal asked
        asked += 1
        if asked > REQUESTS:
            raise OutcomeUnknown(Answer())
        return []

    with pytest.raises(OutcomeUnknown):
        check_persons(verdicts, find, 1)
    assert verdicts.doubts == 0


def test_where_forty_are_too_many_half_of_them_are_asked_for() -> None:
    rows = [row(number, username=f"u{number}") for number in range(45)]
    directory = Directory(*[User(id=f"user-{number}", username=f"u{number}") for number in range(45)], most=10)
    assert check_persons(verdicts_of(*rows), directory.find, 40) == []
    assert [count for _, count in directory.asked] == [40, 20, 10, 10, 10, 10, 5]


# The inventory.


def token(number: int = 1, **fields: object) -> InventoryToken:
    known = {"type": "HOTP", "digits": 6, "hash_name": "HmacSHA1"}
    paired = {"device_id": f"device-{number}", "user_id": f"user-{number}"}
    return InventoryToken(id=f"t{number}", **{"serial_number": f"MADE{number}"} | known | paired | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "mine", "name"),
    [
        ([], {}, "token_not_in_inventory"),
        ([token(digits=8)], {}, "token_differs"),
        ([token(hash_name="HmacSHA256")], {}, "token_differs"),
        ([token(type="TOTP")], {}, "token_differs"),
        ([token(type="TOTP", time_step=60)], {"otps": TOTP}, "token_differs"),
        ([token(digits=8)], {"otps": PAIR}, None),
        ([token(device_id=None, user_id=None)], {}, "token_not_paired"),
        ([token(user_id="user-7")], {}, "token_taken"),
        ([token(device_id="device-7")], {"otps": PAIR}, "token_taken"),
        ([token(type=None, digits=None, hash_name=None)], {}, None),
        ([token(type="TOTP", time_step=30)], {"otps": TOTP}, None),
        # In whatever letters a serial number is written.
        ([token(serial_number="ab1")], {"serial_number": "AB1"}, None),
        ([token(serial_number="AB1")], {"serial_number": "aB1", "user_id": "user-2"}, "token_taken"),
    ],
)
def test_what_the_inventory_says_against_a_token(
    tokens: list[InventoryToken], mine: dict[str, Any], name: str | None
) -> None:
    wanted = row(**mine)
    assert told(check_inventory(verdicts_of(wanted), tokens)) == ([(name, (wanted.serial_number,))] if name else [])


def test_rows_of_one_token_in_different_letters_are_both_looked_for() -> None:
    verdicts = verdicts_of(row(1, serial_number="AB1"), row(2, serial_number="ab1"))
    assert told(check_inventory(verdicts, [])) == [("token_not_in_inventory", ("AB1", "ab1"))]


def test_an_inventory_that_is_nearly_full_is_told() -> None:
    full = (InventoryToken(id=str(number), serial_number=f"X{number}") for number in range(95_000))
    (found,) = check_inventory(verdicts_of(), full)
    assert found.text == f"The inventory has 95000 of the {MOST_TOKENS} tokens that an environment may have."


# The persons' devices.


class People(dict[str, Sequence[UserDevice]]):
    """The devices of each person; nobody else is known."""

    def __init__(self, **devices: Sequence[UserDevice]) -> None:
        super().__init__(devices)
        self.asked: list[str] = []

    def list(self, person: str) -> Sequence[UserDevice]:
        self.asked.append(person)
        return self[person]

    def __missing__(self, _: str) -> NoReturn:
        raise NotFound


def waiting(number: int, hours: float | None = 1, status: str = "ACTIVATION_REQUIRED") -> UserDevice:
    age = None if hours is None else timedelta(hours=hours)
    return UserDevice(f"device-{number}", "OATH_TOKEN", status, age=age)


OLD = (
    "Devices that have waited for activation longer than 20 hours: 1. PingOne deletes a device that is not active after"
)
FULL = "Tokens for people who have the maximum number of devices already: 1."


@pytest.mark.parametrize(
    ("devices", "device_id", "most", "name", "text"),
    [
        ([waiting(1, 20.1)], "device-1", 5, "devices_old", OLD),
        ([waiting(1, 19.9)], "device-1", 5, None, ""),
        ([waiting(1, 300, "ACTIVE")], "device-1", 5, None, ""),
        ([waiting(1, None)], "device-1", 5, None, ""),
        (
            [UserDevice("DEVICE-1", "OATH_TOKEN", "ACTIVATION_REQUIRED", age=timedelta(hours=23))],
            "device-1",
            5,
            "devices_old",
            OLD,
        ),
        (
            [waiting(2)],
            "device-1",
            5,
            "device_not_found",
            "Tokens with a device id that PingOne does not find with this user: 1.",
        ),
        ([waiting(number) for number in range(5)], None, 5, "too_many_devices", FULL),
        ([waiting(number) for number in range(4)], None, 5, None, ""),
        ([waiting(number) for number in range(9)], None, None, None, ""),
        # Who has this very device already may have as many as allowed.
        ([waiting(1), waiting(2)], "device-1", 2, None, ""),
    ],
)
def test_what_the_devices_of_a_person_say_against_a_token(
    devices: list[UserDevice], device_id: str | None, most: int | None, name: str | None, text: str
) -> None:
    people = People(**{"user-1": devices})
    findings = check_devices(verdicts_of(row(device_id=device_id)), people.list, max_devices=most)
    assert told(findings) == ([(name, ("MADE1",))] if name else [])
    assert all(found.level == Level.ASK and found.text.startswith(text) for found in findings)


def test_a_person_is_asked_about_once_and_one_who_is_not_there_has_no_device() -> None:
    people = People(same=[waiting(1), waiting(2)])
    rows = [row(1, user_id="same"), row(2, user_id="same"), row(3), row(4, user_id=None)]
    assert told(check_devices(verdicts_of(*rows), people.list, max_devices=5)) == [("device_not_found", ("MADE3",))]
    assert people.asked == ["same", "user-3"]


def test_of_many_persons_some_are_asked_about_evenly_spread_and_it_says_so() -> None:
    rows = [row(number) for number in range(1000)]
    people = People(**{f"user-{number}": [waiting(number, 1 if number else 30)] for number in range(1000)})
    heard = Heard()
    old, sampled = check_devices(verdicts_of(*rows), people.list, max_devices=5, on_progress=heard)
    assert people.asked == [f"user-{number}" for number in range(0, 1000, 1000 // SAMPLE)]
    assert old.text.startswith("In a sample of 50 of the 1000 people: Devices that have waited for activation")
    assert (sampled.name, sampled.level) == ("devices_sampled", Level.NOTE)
    assert sampled.text.startswith("The devices of 50 of the 1000 people were read, as an even sample;")
    assert heard[0] == ("Reading people's devices", 25, 50)


# Who asks for it.


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

    def read_capabilities(self, *, call: object) -> Any:
        return self._answer("capabilities", Capabilities(True, rates=self.rates))

    def read_policies(self, *, call: object) -> Any:
        return self._answer("policies", [self.policy])

    def read_mfa_settings(self, *, call: object) -> Any:
        return self._answer("settings", MfaSettings(max_devices=1))

    def list_tokens(self, make_read: Any, *, call: object) -> Iterator[Page[InventoryToken]]:
        yield make_read(lambda: self._answer("tokens", Page([token()], None, Answer())))

    def list_devices(self, user_id: str, *, call: object) -> Any:
        return self._answer("devices", [UserDevice("device-1", status="ACTIVE")])

    def find_users(self, attribute: UserAttribute, names: Sequence[str], *, call: object) -> Any:
        return self._answer("users", [User(id="user-1", username="alice")])


# What is read, in this order, and how it is called.
READS = {
    "capabilities": "the license",
    "policies": "the policies",
    "settings": "the MFA settings",
    "users": "the users",
    "tokens": "the inventory",
    "devices": "people's devices",
}
REFUSAL = Answer(status=403, code="ACCESS_FAILED")


def examine(tenant: Tenant, *, device_id: str | None = "device-1", may_pair: bool = False) -> Report:
    report = Report(verdicts_of(row(device_id=device_id, username="alice")), rate=30.0)
    ids = {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s"}
    environment = Environment.model_validate(ids)
    check = TenantCheck(tenant, environment, Settings(), Switches(may_pair=may_pair))  # type: ignore[arg-type]
    check.add_to(report, ResyncKnowledge(NeedsFlag.NO), lambda: 0.0)
    return report


def test_a_tenant_in_good_order_is_asked_everything_once_and_has_nothing_against_it() -> None:
    tenant = Tenant()
    report = examine(tenant)
    assert (tenant.asked, report.findings, report.unknown, report.is_complete) == ([*READS], [], [], True)


@pytest.mark.parametrize("refusal", [Forbidden, OutcomeUnknown, RateLimited])
@pytest.mark.parametrize("read", READS)
def test_what_a_read_does_not_tell_is_not_known_and_stops_nothing(read: str, refusal: type[PingOneError]) -> None:
    tenant = Tenant(**{read: refusal(REFUSAL)})
    report = examine(tenant)
    assert (report.findings, report.unknown) == ([], [f"{READS[read]}: HTTP 403, ACCESS_FAILED"])
    assert set(tenant.asked) == {*READS}
    assert all(tenant.asked.count(asked) == 1 for asked in READS if asked != "tokens")


@pytest.mark.parametrize("failure", [NotDelivered(), CredentialsRefused(), PaceOutOfReach(1.0)])
def test_where_nothing_can_be_asked_nothing_more_is(failure: Exception) -> None:
    tenant = Tenant(policies=failure)
    with pytest.raises(type(failure)):
        examine(tenant)
    assert tenant.asked == ["capabilities", "policies"]


@pytest.mark.parametrize("answer", [Answer(status=404), Answer(message="ReadTimeout: timed out")])
def test_where_pingone_itself_answers_no_read_that_is_told_with_the_url(answer: Answer) -> None:
    with pytest.raises(NotPingOne) as error:
        examine(Tenant(**dict.fromkeys(READS, OutcomeUnknown(answer))))
    said = (f"PINGONE_API_URL=https://api.pingone.com/v1 was {answer}.", "oathbulk doctor")
    assert [words for words in said if words not in str(error.value)] == []


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("own", [None, Forbidden(REFUSAL)])
def test_one_answer_of_pingones_is_enough_whatever_it_says(read: str, own: PingOneError | None) -> None:
    failures: dict[str, Any] = dict.fromkeys(READS, OutcomeUnknown(Answer(status=404))) | {read: own}
    report = examine(Tenant(**{name: failure for name, failure in failures.items() if failure}))
    assert len(report.unknown) == len(READS) - (own is None)


def test_a_slot_that_is_far_is_waited_for_a_while_and_is_no_sign_that_something_else_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    unknown = examine(Tenant(tokens=SlotTooFar(25.0))).unknown
    assert (waits, unknown) == ([25.0, 25.0], ["the inventory: the fleet's next slot is 25.0 s away"])
    assert len(examine(Tenant(**dict.fromkeys(READS, SlotTooFar(100.0)))).unknown) == len(READS)


def test_only_where_devices_will_be_made_a_person_is_asked_about_mail_and_their_number() -> None:
    tenant = Tenant()
    tenant.policy = Policy("p", "Office", is_default=True, is_oath_enabled=True)
    there, made = (
        {each.name: each.level for each in examine(tenant, **options).findings}
        for options in (
            {},
            {"device_id": None, "may_pair": True},
        )
    )
    assert there == {"notification": Level.NOTE}
    assert made == {"notification": Level.ASK, "too_many_devices": Level.ASK}


@pytest.mark.parametrize(("bought", "rate"), [(0.0, 30.0), (3.0, 3.0), (100.0, 30.0)])
def test_the_time_is_counted_at_the_licenses_rate_where_that_is_lower(bought: float, rate: float) -> None:
    tenant = Tenant()
    tenant.rates = {RateGroup.MFA: bought} if bought else {}
    report = examine(tenant)
    assert (report.rate, report.is_rate_bought) == (rate, bought == 3.0)
