"""Each finding of a preflight, with the sentence that a person reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import event
from sqlalchemy.pool import Pool
from support.data.progress import Heard
from support.pages.reading import read_page

from models.row_fault import RowFault
from worker.batches.people import find_all
from worker.config.settings import Settings
from worker.intake import Hints, Leftovers, Row, RowError, Switches, UnusableFile, open_assignment, open_shipment
from worker.pace.rate_groups import RateGroup
from worker.pingone.configuration import Capabilities, MfaSettings, Policy
from worker.pingone.errors import Answer, TooManyTerms
from worker.pingone.inventory import InventoryToken
from worker.pingone.users import User, UserAttribute
from worker.preflight import files, tenant
from worker.preflight.files import reading_without_records
from worker.preflight.findings import Finding, Level, Report, Verdicts
from worker.preflight.tenant import MOST_TOKENS, check_inventory, check_persons
from worker.rules.resync import NeedsFlag, ResyncKnowledge
from worker.vault.otps import Otp, OtpPair, Secret, Seed

ROOT = Path(__file__).parents[3]
SECRET = Secret(b"12345678901234567890")
HOTP = Seed(secret=SECRET)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
PAIR = OtpPair(Otp("308714"), Otp("367299"))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(number: int = 1, otps: Seed | OtpPair = HOTP, **fields: object) -> Row:
    ids = {"user_id": f"user-{number}", "device_id": f"device-{number}"}
    kind = otps.otp_type if isinstance(otps, Seed) else "hotp"
    given = {"row_number": number, "serial_number": f"MADE{number}", "otps": otps, "otp_type": kind}
    return Row(**given | ids | fields)  # type: ignore[arg-type]


def verdicts_of(*rows: Row) -> Verdicts:
    return Verdicts(good=list(rows))


def only(findings: Sequence[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


# The files.


def check_files(tmp_path: Path, box: str, who: str | None = None, *, only_assigned: bool = False) -> list[Finding]:
    (tmp_path / "box.csv").write_text(box)
    assignment = None
    if who is not None:
        (tmp_path / "who.csv").write_text(who)
        assignment = open_assignment(tmp_path / "who.csv")
    shipment = open_shipment(tmp_path / "box.csv", assignment=assignment, only_assigned=only_assigned)
    with reading_without_records() as reader:
        verdicts, leftovers = reader.read(shipment)
    return files.check_files(shipment, verdicts, leftovers, totp_max_age=120, now=NOW)


HEX = "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a0"
BOX = "".join(f"MADE{number}, {HEX}, hotp, 6, 0\n" for number in (1, 2, 3))
WHO = "serial,username,user_id,device_id\n"


def line(number: int, name: str) -> str:
    return f"MADE{number},{name},{USER}{number},{DEVICE}{number}\n"


def test_a_list_that_fits_its_box_raises_nothing_but_the_first_morning(tmp_path: Path) -> None:
    findings = check_files(tmp_path, BOX, WHO + line(1, "a") + line(2, "b") + line(3, "c"))
    assert [finding.name for finding in findings] == ["presses_to_discard"]
    assert findings[0].text.startswith("HOTP tokens whose OTPs are made from their seeds: 3. PingOne's counter will be")


def test_a_token_without_a_person_is_counted_and_refused(tmp_path: Path) -> None:
    findings = check_files(tmp_path, BOX, WHO + line(1, "a") + line(2, "b"))
    found = only(findings, "unassigned")
    assert (found.level, found.tokens) == (Level.NOTE, 1)
    assert found.text == "In the box and without a person in the list: 1 of the tokens. They are refused."
    assert "names no person for this token" in only(findings, "rows_refused").text


def test_with_only_assigned_it_stays_in_the_drawer(tmp_path: Path) -> None:
    findings = check_files(tmp_path, BOX, WHO + line(1, "a"), only_assigned=True)
    assert only(findings, "unassigned").text.endswith("2 of the tokens. They are left out.")
    assert not [finding for finding in findings if finding.name == "rows_refused"]


def test_a_serial_number_that_is_not_in_the_box_is_named(tmp_path: Path) -> None:
    found = only(check_files(tmp_path, BOX, WHO + line(1, "a") + line(9, "z")), "not_in_box")
    assert (found.level, found.serials) == (Level.ASK, ("MADE9",))
    assert found.text.startswith("In the list and not in the box: 1 serial numbers.")


def test_a_person_who_gets_two_tokens_is_asked_about(tmp_path: Path) -> None:
    found = only(check_files(tmp_path, BOX, WHO + line(1, "a") + line(2, "a")), "person_twice")
    assert (found.level, found.serials) == (Level.ASK, ("MADE2",))


def test_refused_rows_are_told_with_their_reason_and_how_many_have_it(tmp_path: Path) -> None:
    reasons = ["it has no person"] * 2 + ["it is bad"]
    rows = [RowError(number, reason, None, RowFault.PERSON_UNFIT) for number, reason in enumerate(reasons)]
    (tmp_path / "box.csv").write_text(BOX)
    shipment = open_shipment(tmp_path / "box.csv")

    def tell(refused: list[RowError]) -> str:
        found = files.check_files(shipment, Verdicts(refused=refused), Leftovers(), totp_max_age=60.0)
        return only(found, "rows_refused").text

    assert tell(rows[:1]) == "Refused: 1 row, since it has no person"
    assert tell(rows[:2]) == "Refused: 2 rows, since it has no person"
    assert tell(rows) == "Refused: 3 rows, 2 of them since it has no person"


def test_a_line_of_the_list_without_a_serial_number_is_told(tmp_path: Path) -> None:
    found = only(check_files(tmp_path, BOX, WHO + line(1, "a") + ",b,,\n"), "list_lines")
    assert found.text.startswith("Without a usable serial number: 1 line of the list; line 3: serial is missing")


def test_nothing_that_can_be_loaded_stops_it(tmp_path: Path) -> None:
    found = only(check_files(tmp_path, BOX), "nothing_to_load")
    assert found.level == Level.STOP
    assert found.text == "It is of no use like this: not one of its 3 rows can be loaded. Correct it first."


def test_a_token_that_stands_twice_is_refused_the_second_time(tmp_path: Path) -> None:
    findings = check_files(tmp_path, BOX + BOX.splitlines()[0], WHO + line(1, "a") + line(2, "b") + line(3, "c"))
    found = only(findings, "rows_refused")
    assert "since the serial number stands on row 1 of this file already" in found.text
    assert not [finding for finding in findings if finding.name == "in_database"]


def test_a_pair_that_aged_is_asked_about() -> None:
    old = row(1, PAIR, otp_type="totp", generated_at=NOW - timedelta(seconds=121))
    fresh = row(2, PAIR, otp_type="totp", generated_at=NOW - timedelta(seconds=119))
    verdicts = verdicts_of(old, fresh)
    shipment = type("Shipment", (), {"assignment": None, "hints": Hints()})()
    findings = files.check_files(shipment, verdicts, Leftovers(), totp_max_age=120, now=NOW)
    assert only(findings, "stale_otp").serials == ("MADE1",)


# The persons.


class Directory:
    """Users by name, and how many names it takes at once."""

    def __init__(self, *users: User, most: int = 1000) -> None:
        self.users = users
        self.most = most
        self.asked: list[tuple[UserAttribute, int]] = []

    def find(self, attribute: UserAttribute, names: Sequence[str]) -> list[User]:
        self.asked.append((attribute, len(names)))
        if len(names) > self.most:
            raise TooManyTerms(Answer(status=400))
        return [user for user in self.users if user.find(attribute) in names]


def test_a_name_that_pingone_cannot_be_asked_for_finds_nobody_and_keeps_no_other_name_waiting() -> None:
    def find(_: UserAttribute, names: Sequence[str]) -> list[User]:
        if "odd" in names:
            raise TooManyTerms(Answer(status=400, code="INVALID_FILTER"))
        return [User(id=name, username=name) for name in names]

    found = find_all(UserAttribute.USERNAME, ["a", "odd", "b", "c"], find, 4)

    assert [user.id for user in found] == ["a", "b", "c"]


def test_a_refusal_of_a_single_name_by_another_server_is_no_answer_of_pingones() -> None:
    def find(_: UserAttribute, __: Sequence[str]) -> list[User]:
        raise TooManyTerms(Answer(status=431))

    with pytest.raises(TooManyTerms):
        list(find_all(UserAttribute.USERNAME, ["a", "b"], find, 4))


@pytest.mark.parametrize(
    ("users", "name"),
    [
        ([], "user_not_found"),
        ([User(id="user-8", username="alice"), User(id="user-9", username="alice")], "other_person"),
        # The user id says which of them is meant.
        ([User(id="USER-1", username="alice"), User(id="x", username="alice")], None),
        ([User(id="user-1", username="alice", is_locked=True), User(id="x", username="alice")], "account_not_usable"),
        ([User(id="user-1", username="alice", is_enabled=False)], "account_not_usable"),
        ([User(id="user-1", username="alice", is_locked=True)], "account_not_usable"),
        ([User(id="user-9", username="alice")], "other_person"),
        ([User(id="user-1", username="alice")], None),
    ],
)
def test_what_is_wrong_with_a_person(users: list[User], name: str | None) -> None:
    verdicts = verdicts_of(row(username="alice"))
    findings = check_persons(verdicts, Directory(*users).find)
    assert [finding.name for finding in findings] == ([name] if name else [])
    assert all(finding.level == Level.ASK and finding.serials == ("MADE1",) for finding in findings)


def test_a_name_of_several_persons_is_asked_about_where_no_user_id_is_given() -> None:
    verdicts = verdicts_of(row(username="alice", user_id=None))
    both = Directory(User(id="user-1", username="alice"), User(id="x", username="alice"))
    assert [finding.name for finding in check_persons(verdicts, both.find)] == ["user_ambiguous"]
    assert verdicts.find_user_id(verdicts.good[0]) is None


def test_what_is_known_of_a_person_who_was_found_by_name_is_held_against_the_token() -> None:
    verdicts = verdicts_of(row(username="alice", user_id=None, device_id=None))
    check_persons(verdicts, Directory(User(id="User-1", username="alice")).find)
    assert verdicts.find_user_id(verdicts.good[0]) == "user-1"
    may_pair = Switches(may_pair=True)
    assert only(check_inventory(verdicts, [token(user_id="user-7")], may_pair), "token_taken").serials == ("MADE1",)


def test_forty_persons_are_asked_for_in_one_request_and_each_by_one_name() -> None:
    rows = [row(number, username=f"u{number}", email="same@example.test") for number in range(100)]
    rows += [row(200 + number, email=f"e{number}") for number in range(3)]
    directory, heard = Directory(), Heard()
    check_persons(verdicts_of(*rows), directory.find, heard)
    assert directory.asked == [("username", 40), ("username", 40), ("username", 20), ("email", 3)]
    assert heard == [("Looking persons up", done, 103) for done in (40, 80, 100)]


def test_where_forty_are_too_many_half_of_them_are_asked_for() -> None:
    rows = [row(number, username=f"u{number}") for number in range(45)]
    directory = Directory(*[User(id=f"user-{number}", username=f"u{number}") for number in range(45)], most=10)
    assert check_persons(verdicts_of(*rows), directory.find) == []
    assert [count for _, count in directory.asked] == [40, 20, 10, 10, 10, 10, 5]


# The inventory.


def token(number: int = 1, **fields: object) -> InventoryToken:
    known = {"type": "HOTP", "digits": 6, "hash_name": "HmacSHA1"}
    paired = {"device_id": f"device-{number}", "user_id": f"user-{number}"}
    return InventoryToken(id=f"t{number}", serial_number=f"MADE{number}", **known | paired | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tokens", "otps", "name"),
    [
        ([], HOTP, "token_not_in_inventory"),
        ([token(digits=8)], HOTP, "token_differs"),
        ([token(hash_name="HmacSHA256")], HOTP, "token_differs"),
        ([token(type="TOTP")], HOTP, "token_differs"),
        ([token(type="TOTP", time_step=60)], TOTP, "token_differs"),
        ([token(digits=8)], PAIR, None),
        ([token(device_id=None, user_id=None)], HOTP, "token_not_paired"),
        ([token(user_id="user-7")], HOTP, "token_taken"),
        ([token(device_id="device-7")], PAIR, "token_taken"),
        ([token(type=None, digits=None, hash_name=None)], HOTP, None),
        ([token(type="TOTP", time_step=30)], TOTP, None),
    ],
)
def test_what_the_inventory_says_against_a_token(
    tokens: list[InventoryToken], otps: Seed | OtpPair, name: str | None
) -> None:
    findings = check_inventory(verdicts_of(row(otps=otps)), tokens)
    assert [finding.name for finding in findings] == ([name] if name else [])


@pytest.mark.parametrize(("theirs", "ours"), [("ab1", "AB1"), ("AB1", "aB1")])
def test_a_token_is_found_in_whatever_letters_its_serial_number_is_written(theirs: str, ours: str) -> None:
    there = InventoryToken(id="t", serial_number=theirs, device_id="device-1", user_id="user-1")
    assert check_inventory(verdicts_of(row(serial_number=ours)), [there]) == []
    taken = only(check_inventory(verdicts_of(row(serial_number=ours, user_id="user-2")), [there]), "token_taken")
    assert taken.serials == (ours,)


def test_rows_of_one_token_in_different_letters_are_both_looked_for() -> None:
    rows = [row(1, serial_number="AB1"), row(2, serial_number="ab1")]
    assert only(check_inventory(verdicts_of(*rows), []), "token_not_in_inventory").serials == ("AB1", "ab1")


def test_an_inventory_that_is_nearly_full_is_told() -> None:
    full = (InventoryToken(id=str(number), serial_number=f"X{number}") for number in range(95_000))
    found = only(check_inventory(verdicts_of(), full), "inventory_nearly_full")
    assert found.text == f"The inventory has 95000 of the {MOST_TOKENS} tokens that an environment may have."


def test_the_empty_database_in_which_rows_are_compared_is_closed_whatever_is_wrong_with_the_file() -> None:
    closed = list[object]()

    def note(connection: object, _: object) -> None:
        closed.append(connection)

    event.listen(Pool, "close", note)
    try:
        with pytest.raises(UnusableFile), reading_without_records():
            raise UnusableFile(Path("shipment.csv"), "is empty", "Give another")
    finally:
        event.remove(Pool, "close", note)
    assert len(closed) == 1


# The tenant.


def test_a_policy_that_permits_no_oath_tokens_stops_it() -> None:
    policy = Policy(id="p", name="Strong", is_default=True, is_oath_enabled=False, new_device_notification="NONE")
    (found,) = tenant.check_policies([policy], persons=3, post_budget=3)
    assert (found.name, found.level) == ("method_off", Level.STOP)
    assert found.text.startswith("The policy Strong does not permit OATH tokens")


@pytest.mark.parametrize(("notification", "says"), [(None, "says nothing of it"), ("SMS_THEN_EMAIL", "says SMS_THEN")])
def test_people_who_may_get_mail_are_counted(notification: str | None, says: str) -> None:
    policy = Policy(id="p", is_default=True, is_oath_enabled=True, new_device_notification=notification)
    (found,) = tenant.check_policies([policy], persons=50_000, post_budget=3, makes_devices=True)
    assert (found.name, found.level) == ("notification", Level.ASK)
    assert found.text.startswith("PingOne may write to 50000 people")
    assert says in found.text


def test_where_the_devices_are_there_already_whom_pingone_writes_to_is_no_question() -> None:
    policy = Policy(id="p", is_default=True, is_oath_enabled=True)
    (found,) = tenant.check_policies([policy], persons=3, post_budget=3)
    assert (found.name, found.level) == ("notification", Level.NOTE)
    assert "The devices of these 3 tokens are there already" in found.text
    silent = Policy(id="p", is_default=True, is_oath_enabled=True, new_device_notification="NONE")
    assert tenant.check_policies([silent], persons=3, post_budget=3, makes_devices=True) == []


def test_a_policy_that_locks_earlier_than_the_budget_is_asked_about() -> None:
    policy = Policy(id="p", is_default=True, is_oath_enabled=True, failure_count=2, new_device_notification="NONE")
    (found,) = tenant.check_policies([policy], persons=1, post_budget=3)
    assert (found.name, found.level) == ("locks_early", Level.ASK)
    assert "OATHBULK_OTP_POST_BUDGET=2" in found.text


def test_a_policy_that_locks_at_the_first_wrong_otp_is_to_be_mended_since_no_budget_is_so_small() -> None:
    policy = Policy(id="p", is_default=True, is_oath_enabled=True, failure_count=1, new_device_notification="NONE")
    (found,) = tenant.check_policies([policy], persons=1, post_budget=3)
    assert found.text == (
        "The policy p locks a device after 1 wrong OTP, and up to 3 are sent to one: raise that number in it to 2 at"
        " least, for the time of the batch."
    )
    assert Settings(otp_post_budget=tenant.FEWEST_POSTS).otp_post_budget == 2
    with pytest.raises(ValidationError):
        Settings(otp_post_budget=tenant.FEWEST_POSTS - 1)


def test_a_policy_that_nobody_tells_is_not_known() -> None:
    (found,) = tenant.check_policies([Policy(id="p", is_default=False)], persons=1, post_budget=3)
    assert (found.name, found.level) == ("policy_unknown", Level.NOTE)


def test_a_lock_of_the_whole_account_is_told() -> None:
    (found,) = tenant.check_settings(MfaSettings(has_account_lock=True, lockout_failures=5, lockout_seconds=600))
    assert found.text == "After 5 wrong OTPs PingOne locks the person's whole account for 600 s."
    assert tenant.check_settings(MfaSettings(has_account_lock=False)) == []


def test_what_the_license_permits_is_told_as_far_as_it_is_known() -> None:
    assert tenant.check_capabilities(Capabilities()) == []
    (stop,) = tenant.check_capabilities(Capabilities(can_use_oath_token=False))
    assert (stop.name, stop.level) == ("license", Level.STOP)
    (rate,) = tenant.check_capabilities(Capabilities(can_use_oath_token=True, rates={RateGroup.MFA: 100}))
    assert rate.text.startswith("The license has 100 requests a second for MFA")


@pytest.mark.parametrize(("offset", "says"), [(59, None), (61, "61 s ahead of"), (-300, "300 s behind")])
def test_a_clock_that_is_a_minute_off_is_asked_about(offset: float, says: str | None) -> None:
    findings = tenant.check_clock(offset)
    assert bool(findings) == (says is not None)
    assert says is None or says in findings[0].text


def test_what_has_still_to_be_learnt_is_told_unless_a_person_has_said_it() -> None:
    assert tenant.check_learnt(ResyncKnowledge(), is_fixed=False)[0].name == "resync_unknown"
    assert tenant.check_learnt(ResyncKnowledge(), is_fixed=True) == []
    assert tenant.check_learnt(ResyncKnowledge(NeedsFlag.NO), is_fixed=False) == []


def test_what_is_asked_blocks_until_it_is_accepted_and_what_stops_always() -> None:
    findings = [Finding("a", Level.STOP, ""), Finding("b", Level.ASK, ""), Finding("c", Level.NOTE, "")]
    report = Report(Verdicts(), findings)
    assert [finding.name for finding in report.blocking(frozenset())] == ["a", "b"]
    assert [finding.name for finding in report.blocking(frozenset({"a", "b"}))] == ["a"]
    # A person who accepts what nobody asks about has accepted nothing.
    assert report.choose_accepted(frozenset({"a", "b", "c", "d"})) == ["b"]


# The page.


def test_each_finding_has_its_line_on_the_page() -> None:
    found = set[str]()
    for module in (ROOT / "worker" / "preflight").glob("*.py"):
        found.update(re.findall(r'(?:Finding|name_tokens|doubt)\(\s*(?:\w+, )?"([a-z_]+)"', module.read_text()))
    found.update(tenant.TOKEN_TEXTS, tenant.DEVICE_TEXTS, tenant.PERSON_TEXTS)
    page = read_page("docs/commands.md#check")
    assert len(found) > 30
    assert {name for name in found if f"`{name}`" not in page} == set()
