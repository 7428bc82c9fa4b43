"""What a plan says in sentences: what is to be done, what is written where, what people notice, how to stop it."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import PurePath
from shlex import quote

from worker.observability.counting import agree, count_things, write_share
from worker.pages.plan_contents import Numbers, Plan, Timing
from worker.pages.wording import list_words, write_number, write_span

# What stands in place of a number that is not exact.
_AT_MOST = "at most "


def describe_purpose(plan: Plan) -> str:
    """Say in one sentence what is to be done."""
    target, file = plan.target, PurePath(plan.source.file).name
    verbs = ["imported"] * plan.may_import + ["paired"] * plan.may_pair + ["activated"]
    are = agree(plan.numbers.tokens, "is", "are")
    return (
        f"{count_things(plan.numbers.tokens, 'token')} of {file} {are} to be {list_words(verbs)} in the PingOne"
        f" environment {target.environment} at {target.api_host}."
    )


def list_obstacles(plan: Plan) -> list[str]:
    """Say why it would not be loaded as it stands, or what the plan could not find out; empty if neither is so."""
    obstacles = []
    preflight = plan.preflight
    stops = [finding.name for finding in preflight.findings if finding.level == "stop"]
    asks = [name for name in preflight.blocking if name not in stops]
    if stops:
        obstacles.append(f"As it stands, nothing would be loaded: {list_words(stops)}. Mend that, and make a new plan.")
    if asks:
        obstacles.append(
            f"As it stands, nothing would be loaded: it is asked about {list_words(asks)}. Mend that, or accept it by"
            " --accept, and make a new plan."
        )
    if not preflight.is_asked:
        why = "was asked nothing" if preflight.is_complete else "could not be asked"
        obstacles.append(f"PingOne {why}: what it would tell of users, inventory, devices and policy is not known.")
    return obstacles


def name_next_step(plan: Plan) -> str:
    """Say what the plan's command is for: to start it, or to make the plan anew where nothing would be loaded."""
    blocking = [finding.level for finding in plan.preflight.findings if finding.is_blocking]
    if "stop" in blocking:
        return "To make a new plan, once that is mended"
    return "To make a new plan that accepts it" if blocking else "To start it"


def list_writes(plan: Plan) -> list[tuple[str, str, str]]:
    """List what is written: where, what, and how many."""
    numbers = plan.numbers
    most = numbers.tokens * numbers.post_budget
    writes = [
        ("PingOne: inventory", "tokens imported with their seeds", _count(plan.may_import, numbers.imports, numbers)),
        ("PingOne: users", "tokens paired, which makes devices", _count(plan.may_pair, numbers.pairings, numbers)),
        ("PingOne: devices", "devices activated with OTPs", f"{_AT_MOST}{write_number(numbers.tokens)}"),
        (
            "PingOne: OTPs",
            f"OTPs posted: {numbers.post_budget} to a device, and {count_things(numbers.max_attempts, 'attempt')},"
            " at the most",
            f"{_AT_MOST}{write_number(most)}",
        ),
        ("our database", "a batch with its records; OTPs and seeds are encrypted", write_number(numbers.tokens)),
        ("our database", "lines of the history, one for each attempt", "as many as attempts"),
        ("our audit", f"the load, with plan {plan.hash}; then each command", "1 and more"),
    ]
    if plan.timing.share is not None:
        share = f"license {plan.target.license}: share of its rate that batches keep to"
        writes.append(("our pace", share, write_share(plan.timing.share)))
    return writes


def _count(is_allowed: bool, number: int, numbers: Numbers) -> str:
    if not is_allowed:
        return "none: not permitted"
    return write_number(number) if numbers.is_exact else f"{_AT_MOST}{write_number(number)}"


def describe_duration(timing: Timing) -> str:
    """Say how long it takes."""
    text = f"About {count_things(timing.requests, 'request')}, which take {write_span(timing.seconds)} at the"
    if timing.is_rate_bought:
        text += f" {timing.rate:g} requests a second that the license has."
    else:
        text += f" {timing.rate:g} requests a second with which it begins. It becomes faster as long as PingOne permits"
        text += " it."
    if timing.share is not None:
        text += f" It keeps to {write_share(timing.share)} of what the license permits: people sign on with the rest."
    return text


def describe_hours(timing: Timing) -> str:
    """Say in which hours it runs, and in how many days it is done."""
    if timing.hours is None or timing.hours_seconds is None:
        return "It runs as soon as it is started, at any hour, until it is finished."
    days = max(1, ceil(timing.seconds / timing.hours_seconds))
    return (
        f"It runs from {timing.hours} only, {write_span(timing.hours_seconds)} a day; outside of these hours it pauses,"
        f" and goes on by itself. At the pace above it is done in {count_things(days, 'day')}."
    )


def list_notices(plan: Plan) -> list[str]:
    """Say what the people who get the tokens will notice."""
    return [_tell_messages(plan), _tell_default_device(plan), *_tell_presses(plan), *_tell_locks(plan)]


def _tell_messages(plan: Plan) -> str:
    preflight = plan.preflight
    if found := preflight.find("notification"):
        return f"Messages: {found.text}"
    is_known = preflight.is_asked and preflight.find("policy_unknown") is None
    if not is_known or any(text.startswith("the policies") for text in preflight.unknown):
        return "Messages: whether PingOne writes to people of a new device is not known, since its policy was not read."
    return "Messages: PingOne's policy sends people no message about a new device."


def _tell_default_device(plan: Plan) -> str:
    begin = f"Up to {write_number(plan.numbers.pairings)} people get a new device. " if plan.may_pair else ""
    return (
        f"Default device: {begin}PingOne asks a person for their first active device. Who has no other active device is"
        " asked for this token from its activation on; who has one is asked for that as before."
    )


def _tell_presses(plan: Plan) -> Iterator[str]:
    if plan.numbers.hotp_seeds:
        yield (
            f"First sign-on: {count_things(plan.numbers.hotp_seeds, 'HOTP token')} will lie behind PingOne's counter,"
            " so their first presses are refused. Hand out how many to discard, once the batch is finished:"
            f" `oathbulk export {quote(plan.target.batch)} --hand-out -o hand-out.csv`"
        )


def _tell_locks(plan: Plan) -> Iterator[str]:
    for name in ("locks_early", "account_lock"):
        if found := plan.preflight.find(name):
            yield f"Locks: {found.text}"


def list_stops(plan: Plan) -> list[tuple[str, str]]:
    """List the commands that stop it, each with what it does."""
    batch = quote(plan.target.batch)
    return [
        (f"oathbulk pause {batch}", "No new call starts after a second; calls in flight end and are written down."),
        (f"oathbulk resume {batch}", "It goes on where it was."),
        (f"oathbulk cancel {batch}", "Gives up what is left. What is active stays active."),
        (f"oathbulk status {batch}", "How it stands, and what will happen if nobody does anything."),
    ]


def list_undoing(plan: Plan) -> list[tuple[str, str]]:
    """List the commands that take away what it made, in their order."""
    batch = quote(plan.target.batch)
    steps = [(f"oathbulk cancel {batch}", "First: no further call starts.")]
    if plan.may_pair:
        steps += [
            (f"oathbulk unpair {batch}", "Says which devices would be removed, and changes nothing."),
            (f"oathbulk unpair {batch} --yes", "Removes the devices that this batch made, and no others."),
        ]
    if plan.may_import:
        steps += [
            (f"oathbulk revoke {batch}", "Says which tokens would be revoked, and changes nothing."),
            (f"oathbulk revoke {batch} --yes", "Revokes the tokens that this batch imported and that are not paired."),
        ]
    steps.append((f"oathbulk verify {batch}", "Reads back from PingOne what is left."))
    if plan.timing.share is not None:
        environment = quote(plan.target.environment)
        steps.append((f"oathbulk pace --environment {environment} --share 100%", "Lets batches use the whole rate."))
    return steps


def list_limits_of_undoing(plan: Plan) -> list[str]:
    """Say what is not undone."""
    limits = ["OTPs that were sent are spent: the counter of a HOTP token stays where it is in PingOne."]
    if not plan.may_pair:
        limits.append(
            "This batch makes no device and no token, so oathbulk removes none: a device that became active is"
            " deactivated or removed in PingOne."
        )
    return [*limits, "The batch, its history and its audit stay in the database."]
