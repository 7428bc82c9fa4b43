"""What the files of a shipment tell by themselves: refused rows, doubles, stale OTPs, and presses on the first
morning."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from worker.intake import Leftovers, Row, RowError, Shipment
from worker.preflight.findings import Finding, Level, Verdicts, name_tokens
from worker.vault.seed import Seed


def read_rows(shipment: Shipment) -> tuple[Verdicts, Leftovers]:
    """Read every row of a shipment. Raises UnusableFile."""
    verdicts, leftovers = Verdicts(), Leftovers()
    seen: dict[str, int] = {}
    for row in shipment.rows(leftovers):
        if isinstance(row, RowError):
            verdicts.refused.append(row)
        elif earlier := _find_earlier(row, seen):
            reason = f"its serial number or device stands on row {earlier} already: keep one of the two rows"
            verdicts.refused.append(RowError(row.row_number, reason, row.serial_number))
        else:
            verdicts.good.append(row)
    return verdicts, leftovers


def check_files(
    shipment: Shipment, verdicts: Verdicts, leftovers: Leftovers, *, totp_max_age: float, now: datetime | None = None
) -> list[Finding]:
    """Find what rows and list tell. `totp_max_age` in seconds: how long after its generation a TOTP pair is sent."""
    findings = []
    if verdicts.refused:
        reasons = Counter(error.reason for error in verdicts.refused)
        (reason, times), *_ = reasons.most_common(1)
        text = f"Refused: {len(verdicts.refused)} of the rows, {times} of them since {reason}"
        serials = tuple(error.serial_number for error in verdicts.refused if error.serial_number)
        findings.append(Finding("rows_refused", Level.NOTE, text, len(verdicts.refused), serials[:5]))
    if not verdicts.good:
        findings.append(Finding("nothing_to_load", Level.STOP, "Not one row can be loaded. Mend them first."))
    findings += _check_list(shipment, leftovers)
    findings += _check_stale(verdicts, totp_max_age, now or datetime.now(UTC))
    return findings + _count_presses(verdicts)


def _find_earlier(row: Row, seen: dict[str, int]) -> int | None:
    """Find the row that has this token or device already, and remember this one."""
    names = [name for name in (row.serial_number, row.device_id) if name]
    earlier = next((seen[name] for name in names if name in seen), None)
    if earlier is None:
        seen |= dict.fromkeys(names, row.row_number)
    return earlier


def _check_list(shipment: Shipment, leftovers: Leftovers) -> list[Finding]:
    """What list and box do not have in common, and who gets more than one token."""
    if shipment.assignment is None:
        return []
    left_out = "left out" if shipment.only_assigned else "refused"
    findings = []
    if leftovers.unassigned:
        text = (
            f"In the box and without a person in the list: {leftovers.unassigned} of the tokens. They are {left_out}."
        )
        findings.append(Finding("unassigned", Level.NOTE, text, leftovers.unassigned))
    text = "In the list and not in the box: {n} serial numbers. See whether it is the list of this shipment."
    findings += name_tokens("not_in_box", Level.ASK, text, leftovers.not_in_box)
    text = "Of persons who get another token of this list: {n} of the tokens. See whether they are to have two."
    findings += name_tokens("person_twice", Level.ASK, text, shipment.assignment.persons_twice)
    if nameless := shipment.assignment.nameless:
        reason = f"line {nameless[0].row_number}: {nameless[0].reason}"
        text = f"Without a usable serial number: {len(nameless)} lines of the list; {reason}"
        findings.append(Finding("list_lines", Level.ASK, text, len(nameless)))
    return findings


def _check_stale(verdicts: Verdicts, max_age: float, now: datetime) -> list[Finding]:
    """TOTP pairs that are too old to be sent."""
    oldest = now - timedelta(seconds=max_age)
    for row in verdicts.good:
        if row.otp_type == "totp" and row.generated_at is not None and row.generated_at < oldest:
            verdicts.doubt(row, "stale_otp", "its TOTP pair is too old to be sent: produce it again")
    text = (
        "Older than OATHBULK_TOTP_MAX_AGE, and so not sent: {n} of the TOTP pairs. Produce them right before the load,"
        " or load the vendor's seeds."
    )
    return name_tokens("stale_otp", Level.ASK, text, verdicts.doubted("stale_otp"))


def _count_presses(verdicts: Verdicts) -> list[Finding]:
    """How many tokens will be behind PingOne's counter on the first morning."""
    behind = sum(isinstance(row.otps, Seed) and row.otp_type == "hotp" for row in verdicts.good)
    if not behind:
        return []
    text = (
        f"HOTP tokens whose OTPs are made from their seeds: {behind}. PingOne's counter will be some numbers ahead of"
        " the token in the person's hand, and its first presses are refused: hand out how many to discard, see"
        " docs/first-morning.md."
    )
    return [Finding("presses_to_discard", Level.NOTE, text, behind)]
