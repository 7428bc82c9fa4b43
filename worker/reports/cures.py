"""What a person can do about tokens of a batch that are not active: the cure of each reason, in full and in a few
words, and the commands that list these tokens and let them go again. Terminal, desk and report say the same."""

from shlex import quote

from models.reason import Reason, find_cure
from models.record_states import Status
from models.row_fault import FAULT_CURES, RowFault
from worker.observability.wording import agree, count_things
from worker.reports.facts import BatchStatus

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


def list_dead_letters(status: BatchStatus) -> list[tuple[str, int, str]]:
    """List the dead letters by reason, the most frequent first: how many, and what a person can do about them."""
    ordered = sorted(status.dead_letters.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, number, find_cure(Reason(reason), has_seed=status.has_seeds)) for reason, number in ordered]


def list_refused(status: BatchStatus) -> list[tuple[str, int, str]]:
    """List the refused rows by reason, in the same way."""
    return [(reason, number, FAULT_CURES[RowFault(reason)]) for reason, number in status.refused.items()]


def describe_tokens(status: BatchStatus, *, has_buttons: bool = False) -> list[str]:
    """Say how many rows are refused and why, and name the commands that list the tokens which wait for a person, and
    that let those go again which need no correction; where the page `has_buttons`, in words."""
    return [
        *_describe_refused(status),
        *_name_export_of_left(status, has_buttons=has_buttons),
        *_name_replay(status, has_buttons=has_buttons),
    ]


def _describe_refused(status: BatchStatus) -> list[str]:
    """Say how many rows are refused for which reasons."""
    number = sum(status.refused.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in status.refused.items())
    were_refused = f"{count_things(number, 'row')} {agree(number, 'was', 'were')} refused"
    return [f"{were_refused} at loading: {reasons}."] if number else []


def _name_export_of_left(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the commands that list the tokens which wait for a person, and that bring them back corrected; nothing where
    there are none, or their rows are purged."""
    if not status.is_left_known:
        return []
    command = status.write_command(write_export(status.name, "--left", "left"))
    lines = [] if has_buttons else [f"Those that are left, with their reasons: {command}"]
    # Of a rehearsal nothing goes again.
    return lines if status.rehearsal else [*lines, f"Corrected, they go again: {write_mend(status.name, 'left')}"]


def _name_replay(status: BatchStatus, *, has_buttons: bool) -> list[str]:
    """Name the replay of the dead letters that need no fresh OTPs; nothing before the batch is finished, or where all
    need some. A rehearsal cannot be replayed: say how to practise that."""
    if status.rehearsal and status.tokens_left and not status.left:
        return [status.rehearsal.describe_end()]
    reasons = sorted(reason for reason in status.dead_letters if status.replayable.get(reason))
    if status.left or not reasons:
        return []
    # Without a reason, cancelled records would go too; otherwise it means the same, and is soon typed.
    chosen = "".join(f" --reason {reason}" for reason in reasons if status.counts[Status.CANCELLED])
    gone = f"Without fresh OTPs, once their cause is gone ({', '.join(reasons)})"
    return [f"{gone}: {'replay them.' if has_buttons else f'oathbulk replay {quote(status.name)}{chosen}'}"]


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
