"""Tokens of a shipment in PingOne's inventory: whether they are there, with our parameters, and paired with whom."""

from __future__ import annotations

from collections.abc import Iterable

from worker.intake import Row
from worker.pingone.inventory import InventoryToken
from worker.preflight.findings import Finding, Level, Verdicts, name_tokens
from worker.vault.seed import Seed

# Tokens that an environment may have:
# https://docs.pingidentity.com/pingone/strong_authentication_mfa/p1_pid_oath_tokens.html
MOST_TOKENS = 100_000
# The part of them from which a person is told.
NEARLY_FULL = 0.9

TEXTS = {
    "token_not_in_inventory": "Not in PingOne's inventory: {n} of the tokens. Import them first.",
    "token_differs": "In PingOne's inventory with other parameters than the file has: {n} of the tokens. Every OTP"
    " would be wrong: revoke them there, and import them anew.",
    "token_taken": "Paired with another person or device than the file says: {n} of the tokens. Correct the ids.",
    "token_not_paired": "In the inventory, and paired with nobody: {n} of the tokens. Pair them first.",
}


def check_inventory(verdicts: Verdicts, tokens: Iterable[InventoryToken]) -> list[Finding]:
    """Compare the whole inventory with the rows. Raises what reading it raises."""
    rows = {row.serial_number: row for row in verdicts.good}
    found, count = set[str](), 0
    for token in tokens:
        count += 1
        row = rows.get(token.serial_number or "")
        if row is not None:
            found.add(row.serial_number)
            _judge(verdicts, row, token)
    for serial, row in rows.items():
        if serial not in found:
            verdicts.doubt(row, "token_not_in_inventory", "the inventory has no token of this serial number")
    findings = [
        finding
        for name, text in TEXTS.items()
        for finding in name_tokens(name, Level.ASK, text, verdicts.doubted(name))
    ]
    if count > NEARLY_FULL * MOST_TOKENS:
        text = f"The inventory has {count} of the {MOST_TOKENS} tokens that an environment may have."
        findings.append(Finding("inventory_nearly_full", Level.NOTE, text))
    return findings


def _judge(verdicts: Verdicts, row: Row, token: InventoryToken) -> None:
    """Note what the inventory says against a row, if anything."""
    if isinstance(row.otps, Seed) and (difference := _find_difference(row.otps, token)):
        verdicts.doubt(row, "token_differs", f"PingOne has it with another {difference}")
    elif token.device_id is None and token.user_id is None:
        verdicts.doubt(row, "token_not_paired", "it is paired with nobody")
    elif _differs(token.device_id, row.device_id) or _differs(token.user_id, row.user_id):
        verdicts.doubt(row, "token_taken", "it is paired with another person or device")


def _find_difference(seed: Seed, token: InventoryToken) -> str | None:
    """Which parameter PingOne has otherwise; None if all that it tells are ours."""
    ours = {
        "type": seed.otp_type,
        "number of digits": seed.digits,
        "hash": seed.hash_algorithm,
        "time step": seed.time_step,
    }
    theirs = {
        "type": token.type and token.type.lower(),
        "number of digits": token.digits,
        "hash": token.hash_name and token.hash_name.lower().removeprefix("hmac"),
        "time step": token.time_step if seed.time_step else None,
    }
    return next((name for name, value in theirs.items() if value is not None and value != ours[name]), None)


def _differs(theirs: str | None, ours: str | None) -> bool:
    return theirs is not None and ours is not None and theirs.lower() != ours.lower()
