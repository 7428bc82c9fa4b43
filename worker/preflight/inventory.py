"""Tokens of a shipment in PingOne's inventory: whether they are there, with our parameters, and paired with whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from worker.batches.inventory import find_difference
from worker.intake import NO_SWITCHES, Row, Switches
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


# What a load does with such tokens where it may, instead of asking.
DOES = {
    "token_not_in_inventory": "Not in PingOne's inventory yet: {n} of the tokens. They will be imported.",
    "token_not_paired": "In the inventory, and paired with nobody: {n} of the tokens. They will be paired.",
}


def check_inventory(
    verdicts: Verdicts, tokens: Iterable[InventoryToken], switches: Switches = NO_SWITCHES
) -> list[Finding]:
    """Compare the whole inventory with the rows. `switches`: what the load may create. Raises what reading it
    raises."""
    does = {
        "token_not_in_inventory": switches.may_import,
        "token_not_paired": switches.may_pair,
    }
    # PingOne may write a serial number in other letters than the file.
    rows = defaultdict[str, list[Row]](list)
    for row in verdicts.good:
        rows[row.serial_number.lower()].append(row)
    found, free, count = set[str](), list[str](), 0
    for token in tokens:
        count += 1
        serial = (token.serial_number or "").lower()
        for row in rows.get(serial, ()):
            found.add(serial)
            if switches.may_pair and _is_free(token):
                free.append(row.serial_number)
            _judge(verdicts, row, token, may_pair=switches.may_pair)
    missing = [row for serial, mine in rows.items() if serial not in found for row in mine]
    if not switches.may_import:
        for row in missing:
            verdicts.doubt(row, "token_not_in_inventory", "the inventory has no token of this serial number")
    findings = [
        finding
        for name, text in TEXTS.items()
        for finding in name_tokens(name, Level.ASK, text, verdicts.doubted(name))
    ]
    lacking = [row.serial_number for row in missing]
    for name, serials in (("token_not_in_inventory", lacking), ("token_not_paired", free)):
        findings += name_tokens(name, Level.NOTE, DOES[name], serials if does[name] else ())
    if len(missing) + count > MOST_TOKENS and switches.may_import:
        text = f"The inventory has {count} tokens and may have {MOST_TOKENS}: {len(missing)} more have no room in it."
        findings.append(Finding("inventory_full", Level.STOP, text))
    elif count > NEARLY_FULL * MOST_TOKENS:
        text = f"The inventory has {count} of the {MOST_TOKENS} tokens that an environment may have."
        findings.append(Finding("inventory_nearly_full", Level.NOTE, text))
    return findings


def _judge(verdicts: Verdicts, row: Row, token: InventoryToken, *, may_pair: bool) -> None:
    """Note what the inventory says against a row, if anything."""
    if isinstance(row.otps, Seed) and (difference := find_difference(row.otps, token)):
        verdicts.doubt(row, "token_differs", f"PingOne has it with another {difference}")
    elif _is_free(token):
        if not may_pair:
            verdicts.doubt(row, "token_not_paired", "it is paired with nobody")
    elif _differs(token.device_id, row.device_id) or _differs(token.user_id, verdicts.find_user_id(row)):
        verdicts.doubt(row, "token_taken", "it is paired with another person or device")


def _is_free(token: InventoryToken) -> bool:
    return token.device_id is None and token.user_id is None


def _differs(theirs: str | None, ours: str | None) -> bool:
    return theirs is not None and ours is not None and theirs.lower() != ours.lower()
