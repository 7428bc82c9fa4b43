"""What is said of a batch in sentences: what will become of it, what it costs, what is left of it, and what a command
has done. Terminal, desk, report, log and webhook say the same. Pure, but for the time that passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from shlex import quote
from typing import TYPE_CHECKING

from models.reason import OUTAGE_CURE, PASSING, PAUSE_CURES, PauseReason, Reason, find_cure
from models.record_states import KEPT_BACK, UNTIL_LET_GO, Status
from models.refused_row import REFUSED
from models.row_fault import FAULT_CURES, RowFault
from worker.leases.replay import NotReplayed, Why
from worker.observability.wording import agree, count_things, format_duration, format_moment, write_share
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.facts import BatchStatus, Outage
from worker.reports.stall import Cause, Fleet, describe_sick, explain_stall, write_run
from worker.rules.hours import format_time

# Dates that are told one by one.
MOST_WAVES = 4

# Not to be loaded by a status, which says nothing of a search or a mend.
if TYPE_CHECKING:
    from worker.batches.commands import Replayed
    from worker.batches.hours import OutOfHours
    from worker.batches.mending import Mended
    from worker.reports.batch_history import Command, Timeline
    from worker.reports.search import Read, Sought


# Characters: what a terminal of 80 columns leaves beside a count of five digits and the longest reason.
LONGEST = 49

SHORT_CURES = {
    Reason.INVALID_OTP: "check token and OTPs; mend with two fresh OTPs",
    Reason.RESYNC_FAILED: "press twice, and mend with these two OTPs",
    Reason.SECOND_OTP_MISSING: "mend with two fresh, consecutive OTPs",
    Reason.STALE_OTP: "mend with a fresh pair and its generated_at",
    Reason.LOCKED: "unlock it, then replay or mend with fresh OTPs",
    Reason.BLOCKED: "unblock it, then replay or mend with fresh OTPs",
    Reason.ACCOUNT_NOT_USABLE: "unlock or enable the account, then replay",
    Reason.REJECTED: "look PingOne's codes up; mend the row",
    Reason.FORBIDDEN: "give the role Identity Data Admin, then replay",
    Reason.DEVICE_NOT_FOUND: "pair again; mend with the new device_id",
    Reason.BUDGET_SPENT: "once PingOne is well, mend with fresh OTPs",
    Reason.ATTEMPTS_SPENT: "replay once PingOne is well",
    Reason.USER_NOT_FOUND: "mend the name; or the role, then replay",
    Reason.USER_AMBIGUOUS: "mend the row with the right user_id",
    Reason.TOKEN_NOT_IN_INVENTORY: "import the token, then replay",
    Reason.TOKEN_DIFFERS: "revoke it; mend with --import --pair",
    Reason.TOKEN_TAKEN: "mend the person; or unpair it, then replay",
    Reason.TOKEN_REFUSED: "ask the vendor for a corrected file",
    Reason.TOO_MANY_DEVICES: "remove a device or raise the limit; then replay",
    Reason.METHOD_OFF: "permit OATH tokens in the policy, then replay",
    Reason.LICENSE: "have the license extended, then replay",
    Reason.DEVICE_IN_PROGRESS: "wait for the other record, then replay",
    Reason.PAIRING_FAILED: "replay once PingOne is well",
}
# The same for a batch of seeds.
SHORT_SEED_CURES = SHORT_CURES | {
    Reason.INVALID_OTP: "check token and seed, then replay",
    Reason.RESYNC_FAILED: "check token and seed, then replay",
    Reason.LOCKED: "unlock it, then replay",
    Reason.BLOCKED: "unblock it, then replay",
    Reason.REJECTED: "look PingOne's codes up; replay",
    Reason.BUDGET_SPENT: "replay once PingOne is well",
}


def write_export(batch: str, which: str, ending: str) -> str:
    """Write the command that exports these rows of a batch into a file of its name with this ending. `which`: the
    options that choose the rows."""
    return f"oathbulk export {quote(batch)} {which} -o {quote(name_export(batch, ending))}"


def write_mend(batch: str, ending: str) -> str:
    """Write the command that brings the corrected file of this ending back into its batch."""
    return f"oathbulk mend {quote(batch)} {quote(name_export(batch, ending))}"


def name_export(batch: str, ending: str) -> str:
    """Name the file of an export. A batch of a name with a slash has none in another folder."""
    return f"{batch.replace('/', '-')}-{ending}.csv"


# The outlook of a batch that runs while no record is in work.
WAITING = "Waiting for a worker."
# What stands before the command that goes on with a batch.
_GO_ON = "Go on with: "


def describe_outlook(status: BatchStatus, *, has_buttons: bool = False) -> str:
    """Say what will happen to the batch if nobody does anything, and which command goes on; in words where it
    `has_buttons`."""
    if status.purged_at:
        return _describe_purged(status)
    match status.state:
        case "finished":
            return _describe_finished(status)
        case "cancelled":
            return f"Cancelled.{_describe_still_read(status)}"
        case "paused" if status.outage:
            return f"Paused ({status.reason}): {describe_outage(status.outage, status.detail)}"
        case "paused" if status.reason in PASSING:
            return f"Paused ({status.reason}): {status.detail}"
        case "paused" if status.reason == PauseReason.PERSON:
            awaited = "a person to resume it" if has_buttons else f"`oathbulk resume {quote(status.name)}`"
            return f"{str(status.detail).removesuffix('.')}; waits for {awaited}.{_describe_in_work(status)}"
        case "paused":
            resume = "It waits for a person." if has_buttons else f"{_GO_ON}oathbulk resume {quote(status.name)}"
            return f"Paused ({status.reason}): {status.detail}{_describe_in_work(status)} {resume}"
    if status.hold:
        return describe_hold(status.hold, None if has_buttons else quote(status.name))
    if status.outage:
        return describe_outage(status.outage)
    if status.dated and status.dated == status.left:
        unattended = "" if status.fleet.alive or not status.coming else f" {explain_stall(status.fleet)}"
        return describe_waves(status) + unattended
    waits = (status.next_due_at - datetime.now(UTC)).total_seconds() if status.next_due_at else 0.0
    is_waiting = not (status.counts[Status.QUEUED] or status.counts[Status.ACTIVATING])
    if is_waiting and waits > 1 and not status.preparing:
        going = status.left - status.dated
        wait = agree(going, "waits for its time", "wait for their time")
        told = f"{going:,} {wait}; the next is due in {format_duration(waits)}."
        return told + describe_waves(status, " ")
    if status.stall:
        return f"Nothing has moved for {format_duration(status.standstill)}. {status.stall}"
    # The pace is that of the last half minute: where no worker is left, it says nothing of what is to come.
    if status.eta_seconds and status.fleet.alive:
        left = f"{format_duration(status.eta_seconds)} left at this pace."
        return left + _explain_time_left(status) + _describe_end_of_hours(status) + describe_waves(status, " Then ")
    if status.fleet.alive and (status.preparing or not is_waiting):
        return "The time left is not known yet."
    return WAITING


def describe_waves(status: BatchStatus, begin: str = "") -> str:
    """Say how many records wait for a date, when the next wave begins and the last, and how many a person keeps back;
    empty where none waits."""
    told, waits, coming = list[str](), status.dated - status.kept_back, status.coming
    if coming:
        begins = f"the next wave, of {coming[0].records:,}, begins on {format_time(coming[0].at)}"
        last = f", the last on {format_time(coming[-1].at)}" if len(coming) > 1 else ""
        ends = f"; all are done in about {format_duration(status.eta_all_seconds)}" if status.eta_all_seconds else ""
        told.append(f"{waits:,} {agree(waits, 'waits', 'wait')} for a date: {begins}{last}{ends}.")
    if kept := status.kept_back:
        told.append(
            f"{kept:,} {agree(kept, 'is', 'are')} kept back until `oathbulk resume {quote(status.name)} --where …`"
            f" lets {agree(kept, 'it', 'them')} go."
        )
    return f"{begin}{' '.join(told)}" if told else ""


def describe_dates(dates: Mapping[datetime | None, int], zone: tzinfo | None) -> str:
    """Say how many rows may begin at once, and how many at which dates; and by which clocks dates without an offset
    were read: those of `zone`, None for this machine's. Empty where no row has a date."""
    if not (waves := sorted(date for date in dates if date)):
        return ""
    told = [f"{dates[None]:,} at once"] if dates.get(None) else []
    if len(waves) > MOST_WAVES:
        later = sum(dates[date] for date in waves)
        told.append(f"{later:,} at {len(waves):,} dates from {format_time(waves[0])} to {format_time(waves[-1])}")
    else:
        told += [f"{dates[date]:,} from {format_time(date)} on" for date in waves]
    clocks = f"of {zone} (--zone)" if zone else f"of this machine ({datetime.now().astimezone():%Z})"
    return f"Tokens may begin: {', '.join(told)}. Dates without an offset were read by the clocks {clocks}."


def describe_date(not_before: datetime | None) -> str:
    """Say from when on records may go that wait for it; empty where they wait for nothing."""
    if not_before is None:
        return ""
    return KEPT_BACK if not_before >= UNTIL_LET_GO else format_time(not_before)


def describe_going_on(batch: str) -> str:
    """Say how a batch goes on here after the run that worked on it has ended."""
    return f"{_GO_ON}{write_run(batch)}"


def explain_fleet(statuses: Sequence[BatchStatus]) -> list[str]:
    """Say why no worker comes to a batch that waits for one, and which workers ended since they fail alone."""
    notes = []
    if any(describe_outlook(status) == WAITING for status in statuses):
        fleet = replace(statuses[0].fleet, rehearsal=statuses[0].rehearsal)
        stall = explain_stall(fleet if len(statuses) == 1 else replace(fleet, batch=None))
        notes += [] if stall.cause == Cause.UNKNOWN else [str(stall)]
    if statuses and statuses[0].fleet.sick:
        notes.append(f"These ended, since they fail where others do not: {describe_sick(statuses[0].fleet)}")
    return notes


def describe_outlook_after_run(status: BatchStatus, stopped: str) -> str:
    """Say what will happen to a batch after the run that worked on it has ended, and how to go on (`stopped`). Workers
    elsewhere may go on with it."""
    if not status.left:
        return describe_outlook(status)
    if status.waits_for_a_person:
        resume = f"{_GO_ON}oathbulk resume {quote(status.name)}, then {stopped.removeprefix(_GO_ON)}"
        return f"Paused ({status.reason}): {status.detail} This run has ended. {resume}"
    nothing_runs = f"Nothing works on it here any more; {_count_left(status)} left. {stopped}"
    return nothing_runs if status.state == "running" else f"{describe_outlook(status)} {nothing_runs}"


def describe_hold(hold: Hold, batch: str | None = "BATCH") -> str:
    """Say until and since when all workers hold, why, and how a person ends that: by a command on this batch, or by a
    button (None)."""
    go_on = "resume it, and end the hold too." if batch is None else f"oathbulk resume {batch} --now"
    return (
        f"All workers hold until {hold.until:%H:%M:%S} UTC ({format_duration(hold.left)}), since "
        f"{_format_clock(hold.since, hold.until)}: {hold.why}. To go on now: {go_on}"
    )


def describe_outage(outage: Outage, detail: str | None = None) -> str:
    """Say since when PingOne has not answered, and when it is tried again. `detail`: what the batch's pause says."""
    at = outage.next_try_at
    next_try = "it is tried again now"
    if at is not None:
        next_try = f"the next try {'was due' if outage.is_overdue else 'is'} at {at:%H:%M:%S} UTC"
    since = f" since {_format_clock(outage.since, at or datetime.now(UTC))}" if outage.since else ""
    said = f"PingOne has not answered{since}; {next_try}."
    if detail in (None, PAUSE_CURES[PauseReason.OUTAGE]):
        return f"{said} {OUTAGE_CURE}"
    return f"{said} {detail}"


def _format_clock(at: datetime, beside: datetime) -> str:
    """Write a time by the clock, in UTC; with its date if that is not the one of the time that stands beside it."""
    return f"{at:%H:%M:%S}" if at.date() == beside.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def _explain_time_left(status: BatchStatus) -> str:
    """Say what makes the batch take so long, and what could be done about it; empty unless that is the license's
    pace."""
    known = status.license_pace
    if known is None:
        return ""
    if known.fixed_rate:
        return f" It stays at {known.fixed_rate:g} requests/s, as {known.set_by} set it."
    if status.eta_if_listed_seconds is None:
        return ""
    if known.share < 1:
        return f" That is {write_share(known.share)} of the {known.ceiling:.0f} requests/s that PingOne permits."
    return (
        f" PingOne permits {known.ceiling:.0f} requests/s. If this address is not listed under Rate Limits and "
        f"Allowed IPs, listing it would bring that down to about {format_duration(status.eta_if_listed_seconds)}."
    )


def _describe_end_of_hours(status: BatchStatus) -> str:
    """Say when the batch's hours (`--window`) end, which may be before the batch is finished; empty if it has none."""
    if status.closes_at is None:
        return ""
    return f" Its window {status.hours} {status.zone} closes at {format_time(status.closes_at)}."


def format_log_line(status: BatchStatus, *, stopped: str | None = None) -> str:
    """Describe the batch in one line, for a log. `stopped` is given if the run that worked on it has ended before the
    batch was finished: a sentence that says how to go on."""
    future = describe_outlook(status) if stopped is None else describe_outlook_after_run(status, stopped)
    outlook = put_waiting_first(status, future)
    counts = ", ".join(f"{number} {name}" for name, number in status.counts.items() if number)
    return f"{status.name}: {counts}; {status.pace:.1f} records/s; {outlook}"


def _describe_purged(status: BatchStatus) -> str:
    """Say when a batch was purged, and how it had ended."""
    words = {Status.DEAD_LETTER: agree(status.counts[Status.DEAD_LETTER], "dead letter", "dead letters")}
    ended = [f"{number:,} {words.get(Status(name), name)}" for name, number in status.counts.items() if number]
    return f"Purged on {status.purged_at:%Y-%m-%d}; {', '.join(ended) or 'it had no record'}."


def _count_left(status: BatchStatus) -> str:
    """Write how many records are left, with the verb of the sentence."""
    return f"{count_things(status.left, 'record')} {agree(status.left, 'is', 'are')}"


def _describe_still_read(status: BatchStatus) -> str:
    """Say how many records of a cancelled batch PingOne is asked about once more; empty if none is left."""
    if not status.left:
        return ""
    return f" {_count_left(status)} read once more before {agree(status.left, 'it ends', 'they end')}."


def _describe_in_work(status: BatchStatus) -> str:
    """Say how many records of a paused batch are still in work, and when the wait for a worker that died ends; empty if
    none is."""
    if status.in_work_until is None:
        return ""
    number, until = status.counts[Status.ACTIVATING], f"{status.in_work_until:%H:%M:%S} UTC"
    are, their = agree(number, "is", "are"), agree(number, "its", "their")
    still = f" {count_things(number, 'record')} {are} still in work"
    if status.in_work_until <= datetime.now(UTC):
        return f"{still}, though the time of {their} worker ran out at {until}; the next worker that runs takes over."
    return f"{still}; if {their} worker died, the wait for it ends at {until}."


def _describe_finished(status: BatchStatus) -> str:
    """Say how long a finished batch took, and how many of its tokens are not active."""
    took = (
        format_duration((status.finished_at - status.created_at).total_seconds()) if status.finished_at else "no time"
    )
    left = status.tokens_left
    if not left:
        return f"Finished after {took}: every token is active."
    are, them = agree(left, "is", "are"), agree(left, "it", "them")
    told = f"{count_things(left, 'token')} {are} not active; nothing happens to {them} until a person acts."
    return f"Finished after {took}: {told}"


def describe_waiting(status: BatchStatus) -> str:
    """Say in a sentence how many records wait for what before their first call; empty if none does."""
    token = "is imported" if status.may_import else "is found in the inventory"
    waits = {"person is found": status.waiting.get("user", 0), f"token {token}": status.waiting.get("token", 0)}
    parts = [
        f"{number:,} {agree(number, 'waits until its', 'wait until their')} {event}"
        for event, number in waits.items()
        if number
    ]
    return f"{', '.join(parts)}." if parts else ""


def put_waiting_first(status: BatchStatus, outlook: str) -> str:
    """Say how many records wait for what, and then what will become of the batch."""
    return f"{describe_waiting(status)} {outlook}".lstrip()


def describe_made(status: BatchStatus) -> str:
    """Say what the batch has made in PingOne, and how many tokens are active without an OTP; empty if nothing of the
    kind."""
    parts = []
    if status.imported or status.paired:
        parts += [
            f"{count_things(status.imported, 'token')} imported",
            f"{count_things(status.paired, 'device')} paired",
        ]
    if status.unproved:
        parts.append(f"{status.unproved} active unproved (PingOne wanted no OTP)")
    return " · ".join(parts)


def describe_costs(status: BatchStatus) -> str:
    """Say how many OTPs, requests and attempts the records of a batch took."""
    return (
        f"{count_things(status.otp_posts, 'OTP')} posted · {status.resynced:,} resynced by a second OTP · "
        f"{count_things(status.requests, 'request')}, {status.rate_limited:,} of them answered 429 · "
        f"{count_things(status.attempts, 'attempt')}"
    )


def describe_tokens(status: BatchStatus, *, has_buttons: bool = False) -> list[str]:
    """Say which rows of the batch are refused, which command lists all that is left for a person, and which lets those
    go again for which that is enough; in words where it `has_buttons`."""
    return [
        *_describe_refused(status),
        *_name_export_of_left(status, has_buttons=has_buttons),
        *_name_replay(status, has_buttons=has_buttons),
    ]


def list_dead_letters(status: BatchStatus) -> list[tuple[str, int, str]]:
    """List the dead letters by reason, the most frequent first: how many, and what a person can do about them."""
    ordered = sorted(status.dead_letters.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, number, find_cure(Reason(reason), has_seed=status.has_seeds)) for reason, number in ordered]


def list_refused(status: BatchStatus) -> list[tuple[str, int, str]]:
    """List the same of the refused rows."""
    return [(reason, number, FAULT_CURES[RowFault(reason)]) for reason, number in status.refused.items()]


def describe_refused(line: Read) -> str:
    """Say which row was refused, and why, with the cure."""
    return f"Row {line.row_number} of {line.batch} was refused: {line.detail}"


def count_active(active: int, rows: int) -> str:
    """Say how many tokens of a file of so many rows are active: `2,959 of 3,000 tokens are active`."""
    return f"{active:,} of {count_things(rows, 'token')} {'is' if 1 in (active, rows) else 'are'} active"


def _describe_refused(status: BatchStatus) -> list[str]:
    """Say how many rows are refused for which reasons."""
    number = sum(status.refused.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.refused.items())
    were_refused = f"{count_things(number, 'row')} {agree(number, 'was', 'were')} refused"
    return [f"{were_refused} at loading: {reasons}."] if number else []


def _name_export_of_left(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the commands that list the tokens that are left for a person, and let them go again; nothing where there is
    none, or none is known any more."""
    if not status.is_left_known:
        return []
    command = status.write_command(write_export(status.name, "--left", "left"))
    lines = [] if has_buttons else [f"Those that are left, with their reasons: {command}"]
    # Of a rehearsal nothing goes again.
    return lines if status.rehearsal else [*lines, f"Corrected, they go again: {write_mend(status.name, 'left')}"]


def _name_replay(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the command that lets those dead letters go again that need no fresh OTPs; nothing before the batch is
    finished, or where all need them. Of a rehearsal none can: how that is practised instead."""
    if status.rehearsal and status.tokens_left and not status.left:
        return [status.rehearsal.describe_end()]
    reasons = sorted(reason for reason in status.dead_letters if status.replayable.get(reason))
    if status.left or not reasons:
        return []
    # Without a reason, cancelled records would go too; otherwise it means the same, and is soon typed.
    chosen = "".join(f" --reason {reason}" for reason in reasons if status.counts[Status.CANCELLED])
    gone = f"Without fresh OTPs, once their cause is gone ({', '.join(reasons)})"
    return [f"{gone}: {'replay them.' if has_buttons else f'oathbulk replay {quote(status.name)}{chosen}'}"]


def describe_pace(known: KnownPace, *, tells_hold: bool = True) -> list[str]:
    """Say what is known of a license's pace: the rate, a hold unless that is told elsewhere, whether it adapts, the
    ceiling, the share, and who set what holds now; a line each."""
    lines = [
        f"License {known.license}: " + (f"{known.rate:.1f} requests/s lately." if known.rate else "no request yet.")
    ]
    if known.hold and tells_hold:
        lines.append(describe_hold(known.hold))
    if known.fixed_rate:
        lines.append(f"It stays at {known.fixed_rate:g} requests/s. Let it adapt again with: oathbulk pace --adapt")
    else:
        lines.append("No rate is set: it adapts to what PingOne permits.")
    if known.ceiling and known.found_at:
        found_at = f"{known.found_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"PingOne refuses from about {known.ceiling:.1f} requests/s on (found {found_at}).")
    else:
        lines.append("PingOne has refused none yet, so the limit is not known.")
    if known.share < 1:
        lines.append(f"Ours are {write_share(known.share)} of that; the rest is left to people who sign on.")
    if known.set_by and known.set_at:
        why = f" ({known.ticket})" if known.ticket else ""
        lines.append(f"Set by {known.set_by} on {known.set_at:%Y-%m-%d %H:%M} UTC{why}.")
    return lines


def describe_paused(batch: str) -> str:
    """Say that a batch is paused, and how it goes on."""
    return f"{batch} is paused. Go on with: oathbulk resume {quote(batch)}"


def describe_kept_back(batch: str, where: Sequence[str], records: int) -> str:
    """Say how many records were kept back that have not begun, and how they are let go."""
    given_up = "What was given up there waits too, should it go again."
    if not records:
        begun = f"Nothing of {batch} with {' and '.join(where)} is left to keep back: it has begun, or was so before."
        return f"{begun} {given_up}"
    words = " ".join(f"--where {quote(each)}" for each in where)
    it, waits = agree(records, "it", "them"), agree(records, "waits", "wait")
    return (
        f"{count_things(records, 'record')} of {batch} {waits} for you, whatever date the file gave {it}. {given_up}"
        f" Let {it} go now with: oathbulk resume {quote(batch)} {words}\nOr mend {it} with a date, to go then."
    )


def describe_let_go(batch: str, where: Sequence[str], records: int) -> str:
    """Say how many records wait for no date any more."""
    if not records:
        return f"None of {batch} with {' and '.join(where)} waited for a date."
    it = agree(records, "it", "them")
    return f"{count_things(records, 'record')} of {batch} may go now, whatever date the file gave {it}."


def describe_resumed(batch: str, outside: OutOfHours | None, fleet: Fleet, *, lifts_hold: bool) -> str:
    """Say whether a resumed batch runs: outside its hours it waits, and without workers nothing works on it."""
    if outside is not None:
        return _describe_waiting(batch, outside)
    hold = " A hold of its workers ends within seconds." if lifts_hold else ""
    return (f"{batch} runs." if fleet.alive else _describe_unattended(batch, fleet)) + hold


def describe_cancelled(batch: str, records: int) -> str:
    """Say how much was cancelled, and how that is taken back."""
    return f"{batch} is cancelled: {count_things(records, 'record')}. Take it back with: oathbulk replay {quote(batch)}"


def describe_replayed(batch: str, replayed: Replayed, reasons: Sequence[Reason] | None, fleet: Fleet) -> str:
    """Say how many records go again, whether anything works on them, and which stay and why; a line each."""
    go = agree(replayed.records, "goes", "go")
    lines = [f"{count_things(replayed.records, 'record')} of {batch} {go} again."]
    if replayed.out_of_hours is not None:
        lines.append(_describe_waiting(batch, replayed.out_of_hours))
    elif replayed.records and not fleet.alive:
        lines.append(_describe_unattended(batch, fleet))
    if replayed.not_replayed:
        lines.append(describe_staying(batch, replayed.not_replayed))
    elif reasons and not replayed.records:
        lines.append(f"No dead letter of {batch} has the reason {' or '.join(reasons)}.")
    return "\n".join(lines)


def describe_mended(batch: str, mended: Mended, fleet: Fleet) -> str:
    """Say what a mend did with the rows of its file, and whether anything works on them; a line each."""
    going = [
        (mended.again, f"{agree(mended.again, 'goes', 'go')} again"),
        (mended.added, f"{agree(mended.added, 'was', 'were')} added"),
        (mended.dated, f"{agree(mended.dated, 'begins', 'begin')} at another date"),
        (mended.refused, f"{agree(mended.refused, 'is', 'are')} refused"),
    ]
    staying = [
        (mended.active, "active"),
        (mended.in_work, "in work"),
        (mended.taken_back, "taken back by an undo, and the file names no other person"),
        (mended.left_out, "active in other batches"),
    ]
    told, left = (", ".join(f"{number:,} {what}" for number, what in said if number) for said in (going, staying))
    lines = [f"{batch}, tokens of the file: {told or 'none goes again'}."]
    if left:
        lines.append(f"Left as they are: {left}.")
    if not (mended.again or mended.added or mended.dated):
        lines.append("Nothing was changed.")
    elif mended.is_paused:
        lines.append(f"{batch} is paused. Go on with: oathbulk resume {quote(batch)}")
    elif not fleet.alive:
        lines.append(_describe_unattended(batch, fleet))
    return "\n".join(lines)


def describe_staying(batch: str, stay: Sequence[NotReplayed]) -> str:
    """Say which records a replay has left as they are: for each reason how many, why, and what to do."""
    records = sum(group.records for group in stay)
    lines = [f"{records} {agree(records, 'stays as it is', 'stay as they are')}:"]
    lines += [f"  {group.records} {group.reason}: {_explain_staying(batch, group)}" for group in stay]
    lines += [
        f"As a file, to write fresh OTPs into and mend: {write_export(batch, chosen, ending)}"
        for chosen, ending in _choose_for_export(stay)
    ]
    return "\n".join(lines)


def _choose_for_export(stay: Sequence[NotReplayed]) -> Iterator[tuple[str, str]]:
    """Write the options of `oathbulk export` that choose the records which need fresh OTPs, each with the ending of a
    file's name."""
    lacking = {group.reason for group in stay if group.why == Why.FRESH_OTPS}
    if reasons := sorted(lacking - {Status.CANCELLED}):
        yield " ".join(f"--reason {reason}" for reason in reasons), "fresh"
    if Status.CANCELLED in lacking:
        yield f"--status {Status.CANCELLED}", str(Status.CANCELLED)


def _explain_staying(batch: str, group: NotReplayed) -> str:
    """Say why these records of a batch cannot go again."""
    match group.why:
        case Why.FRESH_OTPS:
            return "fresh OTPs are needed, since those that they have were refused, used or too old."
        case Why.SEED_ERASED:
            return (
                "the seed was erased when the token became active. Give the vendor's file, and a list of those who get"
                f" theirs anew: oathbulk mend {quote(batch)} FILE --assign LIST"
            )
        case Why.TAKEN_BACK:
            again = f"oathbulk replay {quote(batch)} --where …"
            return f"an undo took them back. Mend them for other persons; or to let some go all the same: {again}"
        case Why.LOADED_AGAIN:
            return f"loaded again since, in batch {group.batch}."
        case Why.IN_PROGRESS:
            return f"in progress in batch {group.batch}."


def _describe_unattended(batch: str, fleet: Fleet) -> str:
    """Say that no worker comes to a batch that may run, and what brings one."""
    return f"{batch} may run, but nothing works on it. {explain_stall(fleet)}"


def _describe_waiting(batch: str, outside: OutOfHours) -> str:
    """Say that the batch waits for its hours, and how it runs at once."""
    return f"{batch} is {outside}. To let it run now, and all day: oathbulk resume {quote(batch)} --no-window"


def describe_nothing_found(sought: Sought) -> str:
    """Say that there is no such record; where something was typed of which nothing may begin so, how that is read."""
    if sought.text is not None or sought.user is not None:
        return "No record is like that. What is searched for has to be the beginning of a value."
    of = f" of {sought.batch}" if sought.batch else ""
    having = f" has the reason {sought.reason}" if sought.reason else ""
    match sought.status:
        case None:
            return f"No record{of}{having}." if having else f"There is no record{of}."
        case _ if sought.status == REFUSED and not having:
            return f"No row{of} was refused."
        case Status.DEAD_LETTER:
            status = "is a dead letter"
        case _:
            status = f"is {sought.status}"
    return f"No record{of} {status}{' and' + having if having else ''}."


def describe_outcome(status: BatchStatus) -> str:
    """Say in one sentence how many tokens are active, and what became of the others."""
    others, dead, cancelled = status.tokens_left, status.counts[Status.DEAD_LETTER], status.counts[Status.CANCELLED]
    if not status.rows:
        return "The batch has no tokens."
    if not others:
        return "The only token is active." if status.rows == 1 else f"All {status.rows:,} tokens are active."
    ends = (
        (dead, f"{agree(dead, 'was', 'were')} given up"),
        (status.rows_refused, f"{agree(status.rows_refused, 'was', 'were')} refused at loading"),
        (cancelled, f"{agree(cancelled, 'was', 'were')} cancelled"),
        (status.left, f"{agree(status.left, 'is', 'are')} still to do"),
    )
    told = [(number, how) for number, how in ends if number]
    begin = count_active(status.tokens_active, status.rows)
    if status.rows == 1:
        return f"{begin}; it {told[0][1]}."
    if len(told) == 1:
        return f"{begin}; {'the other one' if others == 1 else f'the other {others:,}'} {told[0][1]}."
    *first, last = (f"{number:,} {how}" for number, how in told)
    return f"{begin}; {others:,} are not: {', '.join(first)} and {last}."


def describe_timeline(timeline: Timeline) -> str:
    """Say in words what the chart shows."""
    if not timeline.moments:
        return "No token is active."
    total = timeline.moments[-1][1]
    (first, _), (last, _) = timeline.moments[0], timeline.moments[-1]
    half = next(at for at, count in timeline.moments if 2 * count >= total)
    if total == 1:
        return f"The only active token became so at {format_moment(first)} UTC."
    seconds = (last - first).total_seconds()
    span = format_duration(seconds) if seconds >= 1 else f"{1000 * seconds:.0f} ms"
    return (
        f"The first token became active at {format_moment(first)} UTC, half of the {total:,} were active by "
        f"{format_moment(half)}, and the last became so at {format_moment(last)}, {span} after the first."
    )


def describe_command(command: Command) -> str:
    """Write the facts of a command as `name: value; …`, without those that are empty."""
    return "; ".join(
        f"{name.replace('_', ' ')}: {_write_fact(value)}"
        for name, value in command.facts.items()
        if value not in (None, [], {}, "")
    )


def _write_fact(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
