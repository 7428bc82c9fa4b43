"""What a person can do about failed rows of a batch: the cure of each reason, in full and in a few words, and the
commands that list these rows and send them again. The terminal, the desk and the report show the same sentences."""

from shlex import quote
from typing import TypeAlias

from models.reason import Reason, find_cure
from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.reports.facts import BatchStatus

# Why a row failed: as a dead letter, or as a row that was not loaded.
Why: TypeAlias = Reason | RowFault
# Maximum length of a short cure, in characters: it must fit into 80 columns beside a count of five digits and the
# longest reason.
LONGEST = 49
SHORT_CURES: dict[Why, str] = {
    RowFault.ROW_UNREADABLE: "quote values with separators; mend the row",
    RowFault.SERIAL_UNFIT: "copy it from the token, as Text; mend the row",
    RowFault.OTPS_UNFIT: "mend with two fresh, consecutive OTPs",
    RowFault.SEED_UNFIT: "add the missing option, or get a new file",
    RowFault.PERSON_UNFIT: "correct the ids or the list; mend the row",
    RowFault.DATE_UNFIT: "write not_before as 2026-12-01; mend the row",
    RowFault.FILE_ROW_UNFIT: "take the row from the export again",
    RowFault.REPEATED: "find out which row is right, and mend with it",
    RowFault.IN_PROGRESS: "wait for the other batch, then mend the row",
    RowFault.ACTIVE_ELSEWHERE: "nothing; close it with cancel --where",
    RowFault.OTPS_USED: "mend with two fresh, consecutive OTPs",
    Reason.INVALID_OTP: "check token and OTPs; mend with two fresh OTPs",
    Reason.RESYNC_FAILED: "press twice, and mend with these two OTPs",
    Reason.SECOND_OTP_MISSING: "mend with two fresh, consecutive OTPs",
    Reason.STALE_OTP: "mend with a fresh pair and its generated_at",
    Reason.LOCKED: "unlock it, then replay or mend with fresh OTPs",
    Reason.BLOCKED: "unblock it, then replay or mend with fresh OTPs",
    Reason.ACCOUNT_NOT_USABLE: "unlock or enable the account, then replay",
    Reason.REJECTED: "look up PingOne's codes; mend the row",
    Reason.FORBIDDEN: "grant Identity Data Admin, then replay",
    Reason.DEVICE_NOT_FOUND: "pair again; mend with the new device_id",
    Reason.BUDGET_SPENT: "once PingOne recovers, mend with fresh OTPs",
    Reason.ATTEMPTS_SPENT: "replay once PingOne has recovered",
    Reason.USER_NOT_FOUND: "mend the name, or fix the role and replay",
    Reason.USER_AMBIGUOUS: "mend the row with the right user_id",
    Reason.TOKEN_NOT_IN_INVENTORY: "import the token, then replay",
    Reason.TOKEN_DIFFERS: "revoke it; replay, or mend with --import --pair",
    Reason.TOKEN_TAKEN: "mend the person, or unpair it and replay",
    Reason.TOKEN_REFUSED: "ask the vendor for a corrected file",
    Reason.TOO_MANY_DEVICES: "remove a device or raise the limit; then replay",
    Reason.METHOD_OFF: "permit OATH tokens in the policy, then replay",
    Reason.LICENSE: "extend the license, then replay",
    Reason.DEVICE_IN_PROGRESS: "wait for the other record, then replay",
    Reason.PAIRING_FAILED: "replay once PingOne has recovered",
}
# Short cures for a batch whose dead letters have seeds.
SHORT_SEED_CURES = SHORT_CURES | {
    Reason.INVALID_OTP: "check token and seed, then replay",
    Reason.RESYNC_FAILED: "check token and seed, then replay",
    Reason.LOCKED: "unlock it, then replay",
    Reason.BLOCKED: "unblock it, then replay",
    Reason.REJECTED: "look up PingOne's codes; replay",
    Reason.BUDGET_SPENT: "replay once PingOne has recovered",
}


def list_failed(status: BatchStatus) -> list[tuple[Why, int, str]]:
    """List dead letters and rows that were not loaded by reason, the most frequent first: the reason, how many rows it
    has, and its cure."""
    dead = [
        (Reason(reason), number, find_cure(Reason(reason), has_seed=status.has_seeds))
        for reason, number in status.dead_letters.items()
    ]
    not_loaded = [(RowFault(word), number, FAULT_CURES[RowFault(word)]) for word, number in status.refused.items()]
    return sorted([*dead, *not_loaded], key=lambda group: (-group[1], group[0]))


def describe_failed(status: BatchStatus, *, has_buttons: bool = False) -> list[str]:
    """Name the commands that export the failed rows, mend them, and replay those that need no correction. If the page
    `has_buttons`, omit the commands for which it has buttons."""
    return [*_name_export(status, has_buttons=has_buttons), *_name_replay(status, has_buttons=has_buttons)]


def _name_export(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the command that exports the failed rows, and the one that mends them. Empty if no row failed, or the batch
    is purged."""
    if not status.can_export_failed:
        return []
    command = status.write_command(write_export(status.name, "--failed", "failed"))
    lines = [] if has_buttons else [f"What failed, with the reasons: {command}"]
    # No row of a rehearsal can be sent again.
    if status.rehearsal:
        return lines
    if status.counts[Status.DEAD_LETTER] or not status.seed_file:
        correct = "Download what failed, as CSV, and correct it" if has_buttons else "Correct it"
        lines.append(f"{correct}, then: {write_mend(status.name, 'failed')}")
    if status.refused and status.seed_file:
        lines.append(describe_seed_mend(status.name, status.seed_file))
    return lines


def _name_replay(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the replay of the dead letters that need no fresh OTPs. Empty until the batch is finished, or if all need
    fresh OTPs. A rehearsal cannot be replayed, so say how to practice a replay."""
    if status.rehearsal and status.failed and not status.to_do:
        return [status.rehearsal.describe_end()]
    reasons = sorted(reason for reason in status.dead_letters if status.replayable.get(reason))
    if status.to_do or not reasons:
        return []
    # Without a reason, a replay also sends cancelled records. If there are none, the shorter command does the same.
    chosen = "".join(f" --reason {reason}" for reason in reasons if status.counts[Status.CANCELLED])
    gone = f"Rows that need no fresh OTPs ({', '.join(reasons)}), once the cause is fixed"
    return [f"{gone}: {'replay them.' if has_buttons else f'oathbulk replay {quote(status.name)}{chosen}'}"]


def write_export(batch: str, which: str, ending: str) -> str:
    """Write the command that exports some rows of a batch into a file named after the batch, with this ending. `which`:
    the options that select the rows."""
    return f"oathbulk export {quote(batch)} {which} -o {quote(name_export(batch, ending))}"


def write_mend(batch: str, ending: str) -> str:
    """Write the command that mends a batch with the corrected file that has this ending."""
    return f"oathbulk mend {quote(batch)} {quote(name_export(batch, ending))}"


def describe_seed_mend(batch: str, seed_file: str) -> str:
    """Say how rows of a seed file that were not loaded are mended: an export has no seeds."""
    return (
        "An export has no seeds of rows that were not loaded. Correct the list or get a new file, then, with the same "
        f"key or password option as the load: oathbulk mend {quote(batch)} {quote(seed_file)} --assign LIST"
    )


def name_export(batch: str, ending: str) -> str:
    """Name the file of an export. Each slash of the batch's name becomes a hyphen, so the file stays in this folder."""
    return f"{batch.replace('/', '-')}-{ending}.csv"
