"""Checks a shipment against PingOne: the environment's rules, the people, their devices, and the inventory. A refused
read stops nothing: it is reported as unknown."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TypeVar

import tenacity

from models.reason import Reason
from worker.batches.imports import find_difference, list_tokens
from worker.batches.people import FindUsers, find_all, group_by_name, judge_person
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake.shipment import NO_SWITCHES, Switches
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.observability.wording import count_things
from worker.pace.search import PaceOutOfReach, RateGroup, SlotTooFar
from worker.pingone.client import Call
from worker.pingone.clients import Reads
from worker.pingone.configuration import Capabilities, MfaSettings, Policy
from worker.pingone.devices import ACTIVATION_REQUIRED, User, UserAttribute, UserDevice, fold_case
from worker.pingone.errors import CredentialsRefused, NotDelivered, NotFound, PingOneError
from worker.pingone.inventory import InventoryToken
from worker.pingone.wire import is_from_pingone
from worker.preflight.findings import Finding, GoodRow, Level, NotPingOne, Report, Verdicts, name_tokens
from worker.rules.resync import NeedsFlag, ResyncKnowledge

T = TypeVar("T")

# Maximum seconds that a read waits for a slot.
LONGEST_WAIT = 60.0
_WAITING_FOR_SLOTS = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(SlotTooFar) & tenacity.retry_if_not_exception_type(PaceOutOfReach),
    wait=tenacity.wait_exception(lambda far: far.wait if isinstance(far, SlotTooFar) else 0.0),
    stop=lambda state: state.idle_for + state.upcoming_sleep > LONGEST_WAIT,
    reraise=True,
)
# What PingOne sends for a new device if the policy does not say.
NOTIFIES_BY_DEFAULT = "EMAIL_THEN_SMS"
NO_NOTIFICATION = "NONE"
# Seconds by which our clock may differ from PingOne's before a person has to accept it.
LARGEST_CLOCK_OFFSET = 60.0
# The smallest OATHBULK_OTP_POST_BUDGET: a token that is out of step needs OTP 1 and OTP 2.
FEWEST_POSTS = 2


class TenantCheck:
    """Asks PingOne about a shipment. A refused read is reported, and stops nothing. `switches`: what may be created in
    the tenant."""

    def __init__(
        self,
        reads: Reads,
        environment: Environment,
        settings: Settings,
        switches: Switches = NO_SWITCHES,
        on_progress: OnProgress = tell_nobody,
    ) -> None:
        self._reads = reads
        self._environment = environment
        self._settings = settings
        self._switches = switches
        self._on_progress = on_progress
        self._max_devices: int | None = None
        # Whether PingOne itself answered any read, and the last failure that came from something else.
        self._was_answered = False
        self._foreign: PingOneError | None = None
        self._call = Call(session_id="oathbulk-check", transaction_id="oathbulk-check")

    def add_to(self, report: Report, known: ResyncKnowledge, measure_clock: Callable[[], float]) -> None:
        """Add PingOne's findings to a report. Raises NotDelivered, CredentialsRefused and PaceOutOfReach, since nothing
        can be asked then; and NotPingOne if none of the answers came from PingOne itself."""
        reads, verdicts, tell = self._reads, report.verdicts, self._on_progress
        report.findings += check_learned(known, is_fixed=self._environment.resync_on_first_call is not None)
        checks: dict[str, Callable[[], Iterable[Finding]]] = {
            "the clock": lambda: check_clock(measure_clock()),
            "the license": lambda: self._check_license(report),
            "the policies": lambda: check_policies(
                self._read(reads.read_policies),
                persons=verdicts.good,
                post_budget=self._settings.otp_post_budget,
                makes_devices=self._switches.may_pair,
            ),
            "the MFA settings": self._check_settings,
            # Asked before the inventory and the devices, which compare tokens with the people found here.
            "the users": lambda: check_persons(
                verdicts, partial(self._read, reads.find_users), self._settings.tuning.names_per_request, tell
            ),
            "the inventory": lambda: check_inventory(
                verdicts, list_tokens(reads, self._call, self._make, tell), self._switches
            ),
            "people's devices": lambda: check_devices(
                verdicts, partial(self._read, reads.list_devices), max_devices=self._max_devices, on_progress=tell
            ),
        }
        try:
            for what, check in checks.items():
                self._ask(report, what, check)
        finally:
            report.requests = self._call.requests
        if self._foreign is not None and not self._was_answered:
            raise NotPingOne(f"PINGONE_API_URL={self._environment.api_url}", self._foreign)

    def _ask(self, report: Report, what: str, check: Callable[[], Iterable[Finding]]) -> None:
        """Add the findings of a check; if its read is refused or gets no readable answer, report it as unknown."""
        try:
            report.findings += check()
        except (CredentialsRefused, NotDelivered, PaceOutOfReach):
            raise
        except (PingOneError, SlotTooFar) as refused:
            report.unknown.append(f"{what}: {refused}")

    def _check_license(self, report: Report) -> Iterable[Finding]:
        capabilities = self._read(self._reads.read_capabilities)
        report.keep_to_license(capabilities.rates.get(RateGroup.MFA))
        return check_capabilities(capabilities)

    def _check_settings(self) -> Iterable[Finding]:
        settings = self._read(self._reads.read_mfa_settings)
        self._max_devices = settings.max_devices
        return check_settings(settings)

    def _read(self, read: Callable[..., T], *names: object) -> T:
        return self._make(partial(read, *names, call=self._call))

    def _make(self, read: Callable[[], T]) -> T:
        """Make a read, and note whether PingOne itself answers. Raises what the read raises."""
        try:
            result = _WAITING_FOR_SLOTS(read)
        except PingOneError as failure:
            if is_from_pingone(failure.answer):
                self._was_answered = True
            else:
                self._foreign = failure
            raise
        self._was_answered = True
        return result


def check_policies(
    policies: list[Policy], *, persons: int, post_budget: int, makes_devices: bool = False
) -> Iterator[Finding]:
    """Check the policy. It is assumed to be the environment's default, since PingOne does not show a device's own.
    `makes_devices`: whether the load will pair tokens; otherwise the rows have ids of existing devices."""
    policy = next((policy for policy in policies if policy.is_default), None)
    if policy is None:
        text = "The environment has no default policy, so it is not known which rules apply."
        yield Finding("policy_unknown", Level.NOTE, text)
        return
    name = policy.name or policy.id
    if policy.is_oath_enabled is False:
        text = f"The policy {name} does not permit OATH tokens: enable them, or no device becomes ACTIVE."
        yield Finding("method_off", Level.STOP, text)
    if policy.failure_count is not None and policy.failure_count < post_budget:
        cure = f"set OATHBULK_OTP_POST_BUDGET={policy.failure_count}"
        if policy.failure_count < FEWEST_POSTS:
            cure = f"raise that number to at least {FEWEST_POSTS} while the batch runs"
        yield Finding(
            "locks_early",
            Level.ASK,
            f"The policy {name} locks a device after {count_things(policy.failure_count, 'wrong OTP')}, and up to"
            f" {post_budget} are sent to one: {cure}.",
        )
    if (policy.new_device_notification or NOTIFIES_BY_DEFAULT) != NO_NOTIFICATION:
        yield _tell_of_notification(policy, persons, makes_devices=makes_devices)


def _tell_of_notification(policy: Policy, persons: int, *, makes_devices: bool) -> Finding:
    """Say that PingOne writes to people about a new device: a question only if devices will be made."""
    name, notification = policy.name or policy.id, policy.new_device_notification
    says = "does not say otherwise" if notification is None else f"says {notification}"
    if makes_devices:
        write_to = "1 person" if persons == 1 else f"{persons} people"
        return Finding(
            "notification",
            Level.ASK,
            f"PingOne might write to {write_to} when their token becomes a device: the policy {name} {says}. Set "
            f"newDeviceNotification to NONE while the batch runs, or tell people.",
        )
    return Finding(
        "notification",
        Level.NOTE,
        f"PingOne writes to people when their token becomes a device: the policy {name} {says}. The devices of these "
        f"{persons} tokens exist already; PingOne does not document whether it writes again when they become active.",
    )


def check_settings(settings: MfaSettings) -> Iterator[Finding]:
    """Check the MFA settings: they may lock the whole account."""
    if settings.has_account_lock and settings.lockout_failures is not None:
        seconds = "" if settings.lockout_seconds is None else f" for {settings.lockout_seconds:.0f} s"
        text = f"After {settings.lockout_failures} wrong OTPs PingOne locks the person's whole account{seconds}."
        yield Finding("account_lock", Level.NOTE, text)


def check_capabilities(capabilities: Capabilities) -> Iterator[Finding]:
    """Check what the license permits, as far as PingOne shows it."""
    if capabilities.can_use_oath_token is False:
        text = "The license does not include OATH tokens: no device would become ACTIVE."
        yield Finding("license", Level.STOP, text)
    if rate := capabilities.rates.get(RateGroup.MFA):
        text = f"The license has {rate:g} requests a second for MFA; an address that is not listed gets 35 %."
        yield Finding("rate_bought", Level.NOTE, text)


def check_clock(offset: float) -> Iterator[Finding]:
    """Compare our clock with PingOne's. `offset`: the seconds by which ours is ahead. PingOne's clock determines the
    OTPs of TOTP seeds, but a wrong clock here is a sign of more trouble."""
    if abs(offset) > LARGEST_CLOCK_OFFSET:
        way = "ahead of" if offset > 0 else "behind"
        yield Finding("clock", Level.ASK, f"This machine's clock is {abs(offset):.0f} s {way} PingOne's: set it.")


def check_learned(known: ResyncKnowledge, *, is_fixed: bool) -> Iterator[Finding]:
    """Say so if it is not known yet whether this environment wants oathResync with OTP 1."""
    if not is_fixed and known.needs == NeedsFlag.UNKNOWN:
        yield Finding(
            "resync_unknown",
            Level.NOTE,
            "It is not known yet whether this environment wants oathResync with OTP 1, so the batch begins slowly "
            "until PingOne asks for a second OTP. Finding out may cost up to three pairs of OTPs, but never a token "
            "with a seed. If you know, set PINGONE_RESYNC_ON_FIRST_CALL; otherwise consider --canary.",
        )


PERSON_TEXTS = {
    "user_not_found": "Tokens for people whom PingOne does not find: {n}. Correct their names, or check "
    "whether the worker application's role covers their population.",
    "user_ambiguous": "Tokens for names that several people have: {n}. Give their user ids.",
    "account_not_usable": "Tokens for people whose account is disabled or locked: {n}. Enable or unlock these accounts "
    "first.",
    "other_person": "Tokens whose user id or name belongs to a different person than the name beside it: {n}. Correct "
    "one of the two.",
}

# What a row's verdict says about its person.
SAYS = {
    Reason.USER_NOT_FOUND: "PingOne finds nobody by this name",
    Reason.USER_AMBIGUOUS: "PingOne finds several people by this name: give the user id",
    Reason.ACCOUNT_NOT_USABLE: "the person's account is disabled or locked",
}


# Number of requests whose answers are in memory at the same time.
REQUESTS = 100


def check_persons(
    verdicts: Verdicts, find_users: FindUsers, names_per_request: int, on_progress: OnProgress = tell_nobody
) -> list[Finding]:
    """Look up every named person, several in each request. Raises what the reads raise."""
    # Look up each row by the first of these attributes that it has.
    unnamed, conditions = "true", dict[UserAttribute, str]()
    for attribute in UserAttribute:
        conditions[attribute] = f"{unnamed} AND {attribute.column} IS NOT NULL"
        unnamed += f" AND {attribute.column} IS NULL"
    total = sum(1 for each in conditions for _ in verdicts.count_names(each.column, conditions[each]))
    find_users = _tell_progress(find_users, total, on_progress)
    for attribute, condition in conditions.items():
        names = verdicts.count_names(attribute.column, condition)
        rows = verdicts.list_by_name(attribute.column, condition)
        while chunk := dict(islice(names, REQUESTS * names_per_request)):
            try:
                found = group_by_name(attribute, find_all(attribute, list(chunk), find_users, names_per_request))
            except Exception:
                verdicts.forget_doubts(PERSON_TEXTS)
                raise
            for name, times in chunk.items():
                for row in islice(rows, times):
                    _judge_person(verdicts, row, found.get(fold_case(name), []))
    return verdicts.ask_about(PERSON_TEXTS)


def _tell_progress(find_users: FindUsers, total: int, on_progress: OnProgress) -> FindUsers:
    """Wrap `find_users` so that it reports after each request how many names were looked up."""
    done = 0

    def find(attribute: UserAttribute, names: Sequence[str]) -> Sequence[User]:
        nonlocal done
        users = find_users(attribute, names)
        done += len(names)
        if done < total:
            on_progress("Looking people up", done, total)
        return users

    return find


def _judge_person(verdicts: Verdicts, row: GoodRow, users: Sequence[User]) -> None:
    """Note what is wrong with a row's person, or, if nothing is, who it is. A user id beside the name chooses among
    several people."""
    meant = [user for user in users if user.id.lower() == row.user_id]
    if users and row.user_id and not meant:
        verdicts.doubt(
            row.serial_number, "other_person", "the user id belongs to a different person than the name beside it"
        )
    elif judged := judge_person(meant or users):
        reason, detail = judged
        verdicts.doubt(row.serial_number, reason, f"{SAYS[reason]}{detail and f'. {detail}'}")
    elif any(
        _differ(getattr(row, attribute.column), (meant or users)[0].find(attribute)) for attribute in UserAttribute
    ):
        verdicts.doubt(
            row.serial_number, "other_person", "a name in the row belongs to another person, or is out of date"
        )
    else:
        verdicts.note_user(row, (meant or users)[0].id.lower())


def _differ(written: str | None, shown: str | None) -> bool:
    return written is not None and shown is not None and fold_case(written) != fold_case(shown)


# Tokens that an environment may have:
# https://docs.pingidentity.com/pingone/strong_authentication_mfa/p1_pid_oath_tokens.html
MOST_TOKENS = 100_000
# Above this share of MOST_TOKENS, a finding says that the inventory is nearly full.
NEARLY_FULL = 0.9

TOKEN_TEXTS = {
    "token_not_in_inventory": "Tokens that are not in PingOne's inventory: {n}. Import them first.",
    "token_differs": "Tokens whose parameters in PingOne's inventory differ from the file's: {n}. Every OTP "
    "would be wrong: revoke them there, and import them again.",
    "token_taken": "Tokens that are paired with a different person or device than the file says: {n}. Correct the ids.",
    "token_not_paired": "Tokens that are in the inventory, but paired with nobody: {n}. Pair them first.",
}


# What is said instead if the load may import or pair such tokens.
DOES = {
    "token_not_in_inventory": "Tokens that are not in PingOne's inventory yet: {n}. A run imports "
    "those that it would activate.",
    "token_not_paired": "Tokens that are in the inventory, but paired with nobody: {n}. A run pairs those "
    "that it would activate.",
}


def check_inventory(
    verdicts: Verdicts, tokens: Iterable[InventoryToken], switches: Switches = NO_SWITCHES
) -> list[Finding]:
    """Compare the whole inventory with the rows. `switches`: what the load may create. Raises what reading raises."""
    free, count = list[str](), 0
    for token in tokens:
        count += 1
        is_free = _is_free(token)
        for row in verdicts.note_in_inventory(token.serial_number or "", "free" if is_free else "paired"):
            if switches.may_pair and is_free:
                free.append(row.serial_number)
            _judge_token(verdicts, row, token, may_pair=switches.may_pair)
    missing = "inventory IS NULL"
    if not switches.may_import:
        reason = "the inventory has no token with this serial number"
        verdicts.doubt_where(missing, "token_not_in_inventory", reason)
    imported = (row.serial_number for row in verdicts.list_good(missing)) if switches.may_import else ()
    imports = name_tokens("token_not_in_inventory", Level.NOTE, DOES["token_not_in_inventory"], imported)
    return [
        *verdicts.ask_about(TOKEN_TEXTS),
        *imports,
        *name_tokens("token_not_paired", Level.NOTE, DOES["token_not_paired"], free),
        *_check_room(count, sum(finding.tokens for finding in imports)),
    ]


def _check_room(count: int, imported: int) -> Iterator[Finding]:
    """Say whether the inventory, which has `count` tokens, has room for those that will be imported."""
    if imported and count + imported > MOST_TOKENS:
        text = f"The inventory has {count} of at most {MOST_TOKENS} tokens: {imported} more do not fit."
        yield Finding("inventory_full", Level.STOP, text)
    elif count > NEARLY_FULL * MOST_TOKENS:
        text = f"The inventory has {count} of the {MOST_TOKENS} tokens that an environment may have."
        yield Finding("inventory_nearly_full", Level.NOTE, text)


def _judge_token(verdicts: Verdicts, row: GoodRow, token: InventoryToken, *, may_pair: bool) -> None:
    """Note what the inventory says against a row, if anything."""
    if row.digits is not None and (difference := find_difference(row, token)):
        verdicts.doubt(
            row.serial_number, "token_differs", f"PingOne's inventory has the token with a different {difference}"
        )
    elif _is_free(token):
        if not may_pair:
            verdicts.doubt(row.serial_number, "token_not_paired", "it is paired with nobody")
    elif _differ(token.device_id, row.device_id) or _differ(token.user_id, row.known_user_id):
        verdicts.doubt(row.serial_number, "token_taken", "it is paired with another person or device")


def _is_free(token: InventoryToken) -> bool:
    return token.device_id is None and token.user_id is None


# Lists the devices of the user with this id.
ListDevices = Callable[[str], Sequence[UserDevice]]

# PingOne deletes a device that is not active 24 hours after it was made; a batch takes time too.
OLD = timedelta(hours=20)
# Maximum number of people whose devices are read, with one request each.
SAMPLE = 50
# Progress is reported each time after this many people.
EACH = 25

DEVICE_TEXTS = {
    "devices_old": "Devices that have waited for activation longer than 20 hours: {n}. PingOne deletes a device "
    "that is not active after 24 hours: begin at once, or pair these tokens again and write the new device ids into "
    "the file.",
    "device_not_found": "Tokens with a device id that PingOne does not find with this user: {n}. It deletes a "
    "device that is not active after 24 hours: pair these tokens again, or correct the ids.",
    "too_many_devices": "Tokens for people who have the maximum number of devices already: {n}. Remove one "
    "of their devices, or raise maxAllowedDevices in PingOne's MFA settings.",
}


def check_devices(
    verdicts: Verdicts,
    list_devices: ListDevices,
    *,
    max_devices: int | None,
    on_progress: OnProgress = tell_nobody,
) -> list[Finding]:
    """Read the devices of some people, and compare them with the rows. `max_devices`: how many a person may have, None
    if unknown. Raises what the reads raise."""
    everybody = sum(1 for _ in verdicts.list_user_ids())
    # Read everybody's devices, or those of an even sample.
    is_sample = everybody > SAMPLE
    chosen = {number * everybody // SAMPLE for number in range(SAMPLE)} if is_sample else range(everybody)
    persons = [person for number, person in enumerate(verdicts.list_user_ids()) if number in chosen]
    asked = telling(persons, on_progress, "Reading people's devices", len(persons), each=EACH)
    devices = {person: _list_or_nothing(list_devices, person) for person in asked}
    theirs = f"coalesce(user_id, found_user_id) IN ({', '.join('?' * len(persons))})"
    for row in verdicts.list_good(theirs, *persons):
        _judge_device(verdicts, row, devices[row.known_user_id or ""], max_devices)
    among = f"In a sample of {len(persons)} of the {everybody} people: " if is_sample else ""
    findings = verdicts.ask_about({name: among + text for name, text in DEVICE_TEXTS.items()})
    if is_sample:
        text = (
            f"The devices of {len(persons)} of the {everybody} people were read, as an even sample; those of the "
            f"others are not known."
        )
        findings.append(Finding("devices_sampled", Level.NOTE, text))
    return findings


def _list_or_nothing(list_devices: ListDevices, person: str) -> Sequence[UserDevice]:
    """List the devices of a person; none if PingOne does not know this id."""
    try:
        return list_devices(person)
    except NotFound:
        return ()


def _judge_device(verdicts: Verdicts, row: GoodRow, devices: Sequence[UserDevice], max_devices: int | None) -> None:
    """Note what the person's devices say against a row, if anything."""
    if row.device_id is None:
        if max_devices is not None and len(devices) >= max_devices:
            reason = f"the person has {len(devices)} devices, and cannot have any more"
            verdicts.doubt(row.serial_number, "too_many_devices", reason)
        return
    device = next((device for device in devices if device.id.lower() == row.device_id), None)
    if device is None:
        verdicts.doubt(row.serial_number, "device_not_found", "PingOne does not find this device with this user")
    elif device.status == ACTIVATION_REQUIRED and device.age and device.age > OLD:
        reason = "its device has waited longer than 20 hours; PingOne deletes it after 24"
        verdicts.doubt(row.serial_number, "devices_old", reason)
