"""Describes what happens next to a batch if nobody intervenes: how long it still takes and at which pace, what it waits
for, and which command continues it. The terminal, the desk, the report and the log show the same sentences. Pure,
except that it reads the clock."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from shlex import quote

from models.reason import OUTAGE_CURE, PASSING, PAUSE_CURES, PauseReason
from models.record_states import FINAL, KEPT_BACK, UNTIL_LET_GO, Status
from worker.observability.wording import agree, count_things, format_duration, format_moment, write_share
from worker.pace.known_pace import Hold, KnownPace
from worker.reports.facts import BatchStatus, Outage, PartStatus, describe_rows
from worker.reports.stall import DROPPED_CURE, Cause, describe_dropped, describe_sick, explain_stall, write_run
from worker.rules.hours import format_time

# A shorter hold is not shown, since it ends before anybody has read about it.
LONG_HOLD = timedelta(seconds=3)
# Maximum number of dates that are listed one by one.
MOST_WAVES = 4
# Begins the outlook of a running batch that no worker works on.
WAITING = "Waiting for a worker."
# The words before the command that continues a batch.
_GO_ON = "Continue with: "


def describe_outlook(status: BatchStatus, *, has_buttons: bool = False) -> str:
    """Say what happens next to the batch if nobody intervenes, and which command continues it. If the page
    `has_buttons`, describe the command in words."""
    if status.purged_at:
        return _describe_purged(status)
    match status.state:
        case "finished":
            return _describe_finished(status)
        case "cancelled":
            return f"Cancelled.{_describe_still_read(status)}"
        case "paused":
            return _describe_paused(status, has_buttons=has_buttons)
    if status.hold and status.hold.until - status.hold.since >= LONG_HOLD:
        return describe_hold(status.hold, None if has_buttons else quote(status.name))
    if status.outage:
        return describe_outage(status.outage)
    return _describe_running(status)


def _describe_paused(status: BatchStatus, *, has_buttons: bool) -> str:
    """Say why a batch is paused, and what it waits for."""
    if status.outage:
        return f"Paused ({status.reason}): {describe_outage(status.outage, status.detail)}"
    on_the_table = f" {describe_on_the_table(status)}" if status.on_the_table else ""
    if status.reason in PASSING:
        return f"Paused ({status.reason}): {status.detail}{on_the_table}"
    in_work = f"{_describe_in_work(status)}{on_the_table}"
    if status.reason == PauseReason.PERSON:
        awaited = "someone to resume it" if has_buttons else f"`oathbulk resume {quote(status.name)}`"
        return f"{str(status.detail).removesuffix('.')}; waits for {awaited}.{in_work}"
    resume = "It is waiting for someone to act." if has_buttons else f"{_GO_ON}oathbulk resume {quote(status.name)}"
    return f"Paused ({status.reason}): {status.detail}{in_work} {resume}"


def _describe_running(status: BatchStatus) -> str:
    """Say what a running batch waits for, or how long it still takes."""
    waiting = status.dated + status.on_the_table
    if waiting and waiting == status.to_do and not status.preparing:
        comes = status.coming or status.on_the_table
        unattended = "" if status.fleet.alive or not comes else f" {explain_stall(status.fleet)}"
        return " ".join(filter(None, (describe_on_the_table(status), describe_waves(status)))) + unattended
    waits = (status.next_due_at - datetime.now(UTC)).total_seconds() if status.next_due_at else 0.0
    is_waiting = not (status.counts[Status.QUEUED] or status.counts[Status.ACTIVATING])
    on_the_table = f" {describe_on_the_table(status)}".rstrip()
    later = f"{describe_waves(status, ' ')}{on_the_table}"
    if is_waiting and waits > 1 and not status.preparing:
        going = status.to_do - waiting
        wait = agree(going, "waits for its time", "wait for their time")
        return f"{going:,} {wait}; the next is due in {format_duration(waits)}.{later}"
    slowness = _explain_slowness(status)
    if status.stall:
        # The cure comes last, since it may end with a command.
        return f"Nothing has moved for {format_duration(status.standstill)}.{slowness}{later} {status.stall}"
    # The pace was measured in the last half minute. Without workers, it says nothing about the time ahead.
    if status.eta_seconds and status.fleet.alive:
        done = f"Done in about {format_duration(status.eta_seconds)} at this pace."
        done += _explain_time_left(status) + slowness
        return done + _describe_end_of_hours(status) + describe_waves(status, " Then ") + on_the_table
    if status.fleet.alive and (status.preparing or not is_waiting or slowness):
        return f"The search for the best pace continues.{slowness}{later}"
    return f"{WAITING}{later}"


def describe_outlook_after_run(status: BatchStatus, stopped: str) -> str:
    """Say what happens to a batch after the run that worked on it has ended, and how to continue it (`stopped`).
    Workers elsewhere may still work on it."""
    if not status.to_do:
        return describe_outlook(status)
    stopped = put_resumes_first([status], stopped)
    if status.waits_for_a_person:
        return f"Paused ({status.reason}): {status.detail} This run has ended. {stopped}"
    nothing_runs = f"No worker here is working on it anymore; {_count_to_do(status)} to do. {stopped}"
    return nothing_runs if status.state == "running" else f"{describe_outlook(status)} {nothing_runs}"


def describe_going_on(batch: str) -> str:
    """Name the command that continues a batch here after the run that worked on it has ended."""
    return f"{_GO_ON}{write_run(batch)}"


def put_resumes_first(statuses: Sequence[BatchStatus], stopped: str) -> str:
    """Put the `resume` of each batch before the command that continues them (`stopped`), unless one of these batches
    continues without a `resume`."""
    resumes = [_write_resume(status) for status in statuses if status.to_do]
    return _GO_ON + ", then ".join([*resumes, stopped.removeprefix(_GO_ON)]) if all(resumes) else stopped


def _write_resume(status: BatchStatus) -> str:
    """Write the `resume` command without which no record of a batch continues; empty if a record continues without
    it."""
    where = " --where …" * (not status.waits_for_a_person)
    waits = status.waits_for_a_person or status.kept_back == status.to_do
    return f"oathbulk resume {quote(status.name)}{where}" if waits else ""


def format_log_line(status: BatchStatus, *, stopped: str | None = None) -> str:
    """Describe the batch in one line, for a log. `stopped`: if the run that worked on the batch ended before the batch
    was finished, a sentence that says how to continue."""
    future = describe_outlook(status) if stopped is None else describe_outlook_after_run(status, stopped)
    outlook = put_waiting_first(status, future)
    rows = ", ".join(filter(None, (f"{status.active:,} active", describe_rows(status))))
    parts = (rows, describe_steps(status), f"{status.pace:.1f} records/s", outlook)
    return f"{status.name}: {'; '.join(filter(None, parts))}"


def describe_steps(status: BatchStatus) -> str:
    """Count the records to do by status: `7 pending, 2 queued, 1 activating`; empty if there are none."""
    return ", ".join(
        f"{number:,} {name}" for name, number in status.counts.items() if number and Status(name) not in FINAL
    )


def describe_waiting(status: BatchStatus) -> str:
    """Say how many records wait for their user or token before their first call; empty if none does."""
    token = "is imported" if status.may_import else "is found in the inventory"
    waits = {"person is found": status.waiting.get("user", 0), f"token {token}": status.waiting.get("token", 0)}
    parts = [
        f"{number:,} {agree(number, 'waits until its', 'wait until their')} {event}"
        for event, number in waits.items()
        if number
    ]
    return f"{', '.join(parts)}." if parts else ""


def put_waiting_first(status: BatchStatus, outlook: str) -> str:
    """Put the sentence about waiting records, if there is one, before the outlook."""
    return f"{describe_waiting(status)} {outlook}".lstrip()


def explain_fleet(statuses: Sequence[BatchStatus]) -> list[str]:
    """Say why no worker works on a batch that waits for one, which workers shut down because they failed where others
    did not, and how many messages were dropped."""
    notes = []
    if any(describe_outlook(status).startswith(WAITING) for status in statuses):
        fleet = replace(statuses[0].fleet, rehearsal=statuses[0].rehearsal)
        stall = explain_stall(fleet if len(statuses) == 1 else replace(fleet, batch=None))
        notes += [] if stall.cause == Cause.UNKNOWN else [str(stall)]
    if statuses and statuses[0].fleet.sick:
        notes.append(f"These shut down, because they failed where others did not: {describe_sick(statuses[0].fleet)}")
    if statuses and (dropped := describe_dropped(statuses[0].fleet)):
        notes.append(f"{dropped}: {DROPPED_CURE}.")
    return notes


def describe_on_the_table(status: BatchStatus) -> str:
    """Say how many rows wait to be given out; empty if none does."""
    number = status.on_the_table
    return f"{number:,} {agree(number, 'is', 'are')} waiting to be given out." if number else ""


def describe_waves(status: BatchStatus, begin: str = "") -> str:
    """Say how many records wait for a date, when the next and the last wave begin, and how many records a person keeps
    back; empty if none waits."""
    sentences, waits, coming = list[str](), status.dated - status.kept_back, status.coming
    if coming:
        begins = f"the next wave, of {coming[0].records:,}, begins on {format_time(coming[0].at)}"
        last = f", the last on {format_time(coming[-1].at)}" if len(coming) > 1 else ""
        ends = f"; all are done in about {format_duration(status.eta_all_seconds)}" if status.eta_all_seconds else ""
        sentences.append(f"{waits:,} {agree(waits, 'waits', 'wait')} for a date: {begins}{last}{ends}.")
    if kept := status.kept_back:
        sentences.append(
            f"{kept:,} {agree(kept, 'is', 'are')} kept back until `oathbulk resume {quote(status.name)} --where …`"
            f" starts {agree(kept, 'it', 'them')}."
        )
    return f"{begin}{' '.join(sentences)}" if sentences else ""


def describe_dates(
    dates: Mapping[datetime | None, int],
    zone: tzinfo | None,
    now: datetime | None = None,
    *,
    gives_out: bool = False,
) -> str:
    """Say how many rows may begin at once, how many at each date, and how many are kept back; and which time zone
    applies to dates without an offset: `zone`, or this machine's if that is None. `now`: None for this machine's
    time. `gives_out`: rows without a person wait to be given out. Empty if there are no rows."""
    table = " (those without a person: once they are given out)" if gives_out else ""
    written, now = sorted(date for date in dates if date and date < UNTIL_LET_GO), now or datetime.now(UTC)
    kept_back, total, past = dates.get(UNTIL_LET_GO), sum(dates.values()), [date for date in written if date <= now]
    if not written and not kept_back:
        of_all = "The one token" if total == 1 else f"All {total:,} tokens"
        return f"{of_all} may start at once{table}." if total else ""
    parts = [f"{dates[None]:,} at once{table}"] if dates.get(None) else []
    if past:
        latest = f"whose date, {format_time(past[-1])}{' or before' * (len(past) > 1)}, is past: at once"
        parts.append(f"{sum(dates[date] for date in past):,} {latest}")
    waves = written[len(past) :]
    if len(waves) > MOST_WAVES:
        later = sum(dates[date] for date in waves)
        parts.append(f"{later:,} at {len(waves):,} dates from {format_time(waves[0])} to {format_time(waves[-1])}")
    else:
        parts += [f"{dates[date]:,} from {format_time(date)} on" for date in waves]
    parts += [f"{kept_back:,} when someone starts {agree(kept_back, 'it', 'them')}"] if kept_back else []
    clocks = f"of {zone} (--zone)" if zone else f"of this machine ({datetime.now().astimezone():%Z})"
    return f"Tokens may start: {', '.join(parts)}. Dates without an offset are times {clocks}."


def describe_date(not_before: datetime | None) -> str:
    """Write the date for which records wait; empty if they wait for none."""
    if not_before is None:
        return ""
    return KEPT_BACK if not_before >= UNTIL_LET_GO else format_time(not_before)


def describe_start(part: PartStatus) -> str:
    """Write the earliest date for which rows of a part wait, and how many are kept back; empty if none waits."""
    kept_back = f"{part.kept_back:,} kept back" if part.kept_back else ""
    return ", ".join(filter(None, (describe_date(part.not_before), kept_back)))


def describe_hold(hold: Hold, batch: str | None = "BATCH") -> str:
    """Say since and until when all workers hold, why, and how a person ends the hold: with a command on this batch, or
    with the desk's button if `batch` is None."""
    go_on = "resume it, and end the hold too." if batch is None else f"oathbulk resume {batch} --now"
    return (
        f"All workers hold until {hold.until:%H:%M:%S} UTC ({format_duration(hold.left)}), since "
        f"{_format_clock(hold.since, hold.until)}: {hold.why}. To continue now: {go_on}"
    )


def describe_outage(outage: Outage, detail: str | None = None) -> str:
    """Say since when PingOne has not answered, and when it is tried again. `detail`: the detail of the batch's
    pause."""
    at = outage.next_try_at
    next_try = "oathbulk is trying again now"
    if at is not None:
        next_try = f"the next try {'was due' if outage.is_overdue else 'is'} at {at:%H:%M:%S} UTC"
    since = f" since {_format_clock(outage.since, at or datetime.now(UTC))}" if outage.since else ""
    silence = f"PingOne has not answered{since}; {next_try}."
    if detail in (None, PAUSE_CURES[PauseReason.OUTAGE]):
        return f"{silence} {OUTAGE_CURE}"
    return f"{silence} {detail}"


def _format_clock(at: datetime, beside: datetime) -> str:
    """Write the time of day, in UTC; with its date if that differs from the date of the time `beside` it."""
    return f"{at:%H:%M:%S}" if at.date() == beside.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def describe_pace(known: KnownPace, *, tells_hold: bool = True) -> list[str]:
    """Describe a license's pace, one line each: the rate, a hold if `tells_hold`, whether the rate adapts, the ceiling,
    the share, and who set the present values."""
    lines = [
        f"License {known.license}: "
        + (f"paced at {known.rate:.1f} requests/s." if known.rate else "its pace is not known yet.")
    ]
    if known.hold and tells_hold:
        lines.append(describe_hold(known.hold))
    if known.fixed_rate:
        lines.append(f"It stays at {known.fixed_rate:g} requests/s. To let it adapt again: oathbulk pace --adapt")
    else:
        lines.append("No rate is set: it adapts to what PingOne permits.")
    if known.ceiling and known.found_at:
        found_at = f"{known.found_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"PingOne throttles at about {known.ceiling:.1f} requests/s (found {found_at}).")
    else:
        lines.append("PingOne's limit is not known yet.")
    if known.share < 1:
        lines.append(f"oathbulk uses {write_share(known.share)} of that; sign-ons have the rest.")
    if known.set_by and known.set_at:
        why = f" ({known.ticket})" if known.ticket else ""
        lines.append(f"Set by {known.set_by} on {known.set_at:%Y-%m-%d %H:%M} UTC{why}.")
    return lines


def _explain_slowness(status: BatchStatus) -> str:
    """Say what slows down the batch in this installation: distant servers, or that its environment's use of oathResync
    is still unknown. Empty if nothing does, or if PingOne's limit does."""
    if status.eta_if_listed_seconds is not None:
        return ""
    learning = ["it is not known yet whether OTP 1 needs oathResync, so only a few tokens are tried at a time"]
    causes = learning * status.is_learning + status.fleet.far_servers
    return f" What holds it back: {'; '.join(causes)}." if causes else ""


def _explain_time_left(status: BatchStatus) -> str:
    """Say that the license's pace determines how long the batch takes, and what could change that; empty if something
    else determines it."""
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
    """Say when the batch's hours (`--window`) end, possibly before the batch is finished; empty if it has no hours."""
    if status.closes_at is None:
        return ""
    return f" Its window {status.hours} {status.zone} closes at {format_time(status.closes_at)}."


def _describe_purged(status: BatchStatus) -> str:
    """Say when a batch was purged, and how many of its rows were active, failed or closed."""
    ended = ", ".join(filter(None, (f"{status.active:,} active", describe_rows(status))))
    return f"Purged on {status.purged_at:%Y-%m-%d}; {ended if status.rows else 'it had no rows'}."


def _describe_finished(status: BatchStatus) -> str:
    """Say when a finished batch ended, and how many of its rows are not active."""
    at = f" at {format_moment(status.finished_at)} UTC" if status.finished_at is not None else ""
    others = describe_rows(status)
    if not status.failed:
        return f"Finished{at}: {others or 'every row is active'}."
    it = agree(status.failed, "it", "them")
    return f"Finished{at}: {others}. Nothing happens to {it} until someone acts."


def _describe_still_read(status: BatchStatus) -> str:
    """Say how many records of a cancelled batch are read from PingOne once more; empty if none is left."""
    if not status.to_do:
        return ""
    return f" {_count_to_do(status)} read once more before {agree(status.to_do, 'it ends', 'they end')}."


def _describe_in_work(status: BatchStatus) -> str:
    """Say how many records of a paused batch are still being worked on, and when the wait for a dead worker ends; empty
    if none is in progress."""
    if status.in_work_until is None:
        return ""
    number, until = status.counts[Status.ACTIVATING], f"{status.in_work_until:%H:%M:%S} UTC"
    are, their = agree(number, "is", "are"), agree(number, "its", "their")
    still = f" {count_things(number, 'record')} {are} still being worked on"
    if status.in_work_until <= datetime.now(UTC):
        return f"{still}, though {their} worker's time ran out at {until}; the next worker takes over."
    return f"{still}; if {their} worker died, the wait for it ends at {until}."


def _count_to_do(status: BatchStatus) -> str:
    """Count the rows to do, with the verb: `7 rows are`."""
    return f"{count_things(status.to_do, 'row')} {agree(status.to_do, 'is', 'are')}"
