"""What the rows of a batch do not say that was loaded with --pair and --import, and what PingOne has of it."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hunt.dice import Dice
from hunt.made_up_seeds import hotp
from hunt.tenant import ModelDevice, ModelSeed

# Somebody whom no assignment names.
STRANGER = str(uuid.UUID(int=11))


def choose(dice: Dice, devices: list[ModelDevice]) -> dict[str, dict[str, object]] | None:
    """By serial number, the columns that say what each record lacks; None in the scenarios where nothing is made. What
    PingOne has then is changed accordingly. In some scenarios most records have to be prepared, in others few."""
    share = dice.pick("creation", (None, None, None, 0.15, 0.15, 0.9))
    if share is None or not dice.permits("creation"):
        return None
    return {device.serial_number: _lack(dice, device, share) for device in devices}


def _lack(dice: Dice, device: ModelDevice, share: float) -> dict[str, object]:
    if not dice.chance("creation", 0.9):
        return {}
    was_there = dice.pick("creation", ("free",) * 7 + ("waiting", "active", "taken"))
    _set_up(dice, device, was_there)
    if not dice.chance("creation", share):
        owner_id = "" if was_there == "free" and dice.chance("creation", 0.8) else None
        return {"device_id": "", "owner_id": owner_id}
    if was_there == "free" and dice.chance("creation", 0.8):
        # Only what brings a seed can be imported.
        device.seed = device.seed or ModelSeed(hotp(dice))
        device.is_in_inventory = False
    device.is_different = device.is_in_inventory and dice.chance("creation", 0.1)
    lacking: dict[str, object] = {"device_id": "", "is_in_inventory": False}
    if dice.chance("creation", 0.4):
        device.person = replace(device.person, kind=dice.pick("creation", ("one",) * 12 + ("none", "two", "disabled")))
        device.people = [device.person]
        lacking |= {"user_id": "", "username": device.person.username}
    return lacking


def _set_up(dice: Dice, device: ModelDevice, was_there: str) -> None:
    """The token is free, or was somebody's device before."""
    device_id, device.device_id = device.device_id, ""
    device.seen_from = 0.0
    if was_there == "free":
        return
    device.become(device_id, -dice.between("creation", 0.0, 300.0), owner_id=STRANGER if was_there == "taken" else "")
    if was_there == "active":
        device.become_active()
