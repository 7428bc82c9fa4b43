"""The first morning of a rehearsal: everybody signs on, half of the people as the hand-out says, half as they like."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from worker.cli.console import console
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT

if TYPE_CHECKING:
    from worker.simulator.people import Person, SignOn
    from worker.simulator.seed_shipment import MadeSeeds

# Seconds from the run to the first sign-ons.
NIGHT = 12 * 3600.0
# Seconds from the first sign-ons to the second. A lock is over by then: PingOne's longest takes 30 minutes.
LATER = 3600.0
# Seconds that the simulator may take for an answer, on a busy machine.
TIMEOUT = 30.0
# How often an OTP was refused, in words.
TIMES = {1: "once", 2: "twice"}


class Simulator:
    """The control API of the rehearsal's simulator, at this URL."""

    def __init__(self, url: str) -> None:
        # Not through a proxy, whatever is set: it is on this machine.
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=TIMEOUT)
        self._ahead = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def lose_answers(self, device_ids: Sequence[str]) -> None:
        """Let the first OTP of each of these devices get lost on its way, so that another has to go."""
        orders = [{"kind": "error_before", "operation": "activate", "device_id": each} for each in device_ids]
        self._http.post("/simulator/faults", json=orders).raise_for_status()

    def move_clock(self, seconds: float) -> None:
        """Set the simulator's clock ahead, by so much more."""
        self._ahead += seconds
        self._http.patch("/simulator/settings", json={"clock_skew": self._ahead}).raise_for_status()

    def sign_on(self, person: Person, discarded: int = 0) -> SignOn:
        """Let a person sign on now, after so many presses."""
        from worker.simulator.world import Outcome

        path = f"/simulator/devices/{person.token.device_id}/sign-on"

        def check(otp: str) -> Outcome:
            answer = self._http.post(path, json={"otp": otp}).raise_for_status()
            return Outcome(answer.json()["outcome"])

        return person.sign_on(check, time.time() + self._ahead, discarded)


def play_first_morning(made: MadeSeeds, hand_out: Path, simulator: Simulator) -> int:
    """Let everybody whose token is in the hand-out sign on twice, print how it went, and choose the exit code: whether
    those who follow the hand-out got in at the first try, both times."""
    presses = _read_hand_out(hand_out)
    people = [person for person in made.people if person.token.serial in presses]
    # Those alike stand side by side, so each half has about as many of each kind.
    followers, others = people[::2], people[1::2]
    simulator.move_clock(NIGHT)
    followed = [simulator.sign_on(person, presses[person.token.serial]) for person in followers]
    console.print(f"{len(followers)} people do as {hand_out.name} says: {_count(followed)}.")
    console.print(f"{len(others)} people do not: {_count([simulator.sign_on(person) for person in others])}.")
    simulator.move_clock(LATER)
    followed_again = [simulator.sign_on(person) for person in followers]
    others_again = [simulator.sign_on(person) for person in others]
    console.print(f"An hour later all sign on again: {_count([*followed_again, *others_again])}.")
    if followers and all(sign_on.is_at_first_try for sign_on in (*followed, *followed_again)):
        return ALL_ACTIVE
    console.print("The first morning failed: not all who did as it says got in at the first try.", style="red")
    return SOME_LEFT


def _read_hand_out(path: Path) -> dict[str, int]:
    """Read how often each token is to be pressed before, by its serial number."""
    with path.open(encoding="utf-8", newline="") as file:
        return {line["serial"]: int(line["presses_to_discard"]) for line in csv.DictReader(file)}


def _count(sign_ons: Sequence[SignOn]) -> str:
    """Say how many sign-ons went in which way."""
    let_in = Counter(sign_on.refused for sign_on in sign_ons if sign_on.is_let_in)
    at_once = let_in.pop(0, 0)
    refused = [f"{count} refused {TIMES.get(n, f'{n} times')}" for n, count in sorted(let_in.items())]
    locked_out = sum(not sign_on.is_let_in for sign_on in sign_ons)
    return ", ".join([f"{at_once} signed on at the first try", *refused, f"{locked_out} locked out"])
