"""The watched simulator as a process of its own, and its control API."""

import json
import math
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
from support.data.shipments import MadeSeeds
from support.judges.call_log import (
    LoggedCall,
    ProvisioningCall,
    Tenant,
    fingerprint,
    read_call_log,
    read_tenant,
    read_whole_call_log,
)
from support.judges.otp_calls import KnownSeed, Pair
from support.processes.program import TESTS, Program
from support.processes.waiting import wait_until

from worker.simulator.shipment import MadeShipment, MadeToken

SALT = "salted"


class Simulator:
    """Serves the world of one shipment. `settings` are the simulator's own."""

    def __init__(self, directory: Path, shipment: MadeShipment, env: Mapping[str, str], **settings: Any) -> None:
        self.shipment = shipment
        self._journal = directory / "journal.jsonl"
        world, ready = directory / "world.json", directory / "simulator.json"
        world.write_text(json.dumps(shipment.world_json() | {"settings": settings}))
        arguments = ["--ready-file", str(ready), "--world", str(world)]
        arguments += ["--journal", str(self._journal), "--journal-salt", SALT]
        self.program = Program("simulator", "support.simulator", arguments, {**env, "PYTHONPATH": TESTS}, directory)
        wait_until(lambda: ready.exists() or not self.program.is_running, "the simulator listens")
        assert self.program.is_running, self.program.read_log()
        self.url = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
        # From which moment on (monotonic seconds) its clock was so far ahead: the call log has the machine's time.
        self._skews: list[tuple[float, float]] = [(0.0, 0.0)]
        self._http = httpx.Client(base_url=f"{self.url}/simulator", verify=False, trust_env=False, timeout=30)

    @property
    def pairs(self) -> dict[str, Pair]:
        return {
            row.device_id: Pair(fingerprint(SALT, row.otp1), fingerprint(SALT, row.otp2) if row.otp2 else None)
            for row in self.shipment.rows
        }

    @property
    def seeds(self) -> dict[str, KnownSeed]:
        """Those of the devices whose records bring a seed."""
        rows = self.shipment.seeds if isinstance(self.shipment, MadeSeeds) else ()
        return {row.device_id: know_seed(row) for row in rows}

    @property
    def variables(self) -> dict[str, str]:
        """What points oathbulk here."""
        world = self.shipment.world
        return {
            "PINGONE_ENVIRONMENT_ID": world.environment_id,
            "PINGONE_CLIENT_ID": world.client_id,
            "PINGONE_CLIENT_SECRET": world.client_secret,
            "PINGONE_API_URL": f"{self.url}/v1",
            # Otherwise every test would learn it first.
            "PINGONE_RESYNC_ON_FIRST_CALL": "false",
            "PINGONE_TOKEN_URL": f"{self.url}/{{env}}/as/token",
        }

    def change(self, **settings: Any) -> None:
        self._http.patch("/settings", json=settings).raise_for_status()

    def set_clock(self, unix_time: float) -> None:
        """From now on its clock goes on from there. No call may be on its way."""
        skew = unix_time - time.time()
        self.change(clock_skew=skew)
        self._skews.append((time.monotonic(), skew))

    def seed(self, **world: Any) -> None:
        """More devices, each in the place of one of the same id; another secret of the client."""
        self._http.post("/world", json=world).raise_for_status()

    def order_faults(self, *orders: Mapping[str, str]) -> None:
        """Each hits the next call that fits it, once."""
        self._http.post("/faults", json=list(orders)).raise_for_status()

    def sign_on(self, device_id: str, otp: str) -> str:
        """What a sign-on of the device's user with this OTP comes to."""
        answer = self._http.post("/sign-on", json={"device_id": device_id, "otp": otp}).raise_for_status()
        return str(answer.json()["outcome"])

    def make_older(self, hours: float) -> None:
        """The devices that wait for their activation; its clock stays as it is."""
        self._http.post("/age", json={"hours": hours}).raise_for_status()

    def revoke_access_tokens(self) -> None:
        self._http.post("/access_tokens/revoke").raise_for_status()

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = self._read("counts")
        return counts

    def posts(self) -> int:
        """OTPs that arrived, each time that one did."""
        return int(self.counts()["otp_posts"])

    def open_calls(self) -> int:
        """Calls that have arrived and are not over."""
        return int(self.counts()["open"])

    def access_tokens(self) -> list[str]:
        """All that were handed out."""
        return [*self._read("access_tokens")["access_tokens"]]

    def active(self) -> set[str]:
        """The ids of the devices that are ACTIVE."""
        return {device_id for device_id, device in self.devices().items() if device["status"] == "ACTIVE"}

    def devices(self) -> dict[str, dict[str, Any]]:
        """All devices, by id."""
        return {device["device_id"]: device for device in self._read("devices")["devices"]}

    def tokens(self) -> dict[str, dict[str, Any]]:
        """All tokens of the inventory, by serial number."""
        return {token["serial"]: token for token in self._read("tokens")["tokens"]}

    def tenant(self) -> Tenant:
        """All tokens, devices and jobs, and what was there before."""
        return read_tenant(*(self._read(what)[what] for what in ("devices", "tokens", "jobs")), self.shipment.world)

    def _read(self, what: str) -> Any:
        return self._http.get(f"/{what}").raise_for_status().json()

    def whole_log(self) -> list[ProvisioningCall]:
        """All calls that are over; all of them when the simulator has stopped."""
        return read_whole_call_log(self._journal)

    def calls(self) -> list[LoggedCall]:
        """To devices, those that are over; all of them when the simulator has stopped. Their `time` is that of the
        simulator's own clock."""
        calls = read_call_log(self._journal)
        if len(self._skews) == 1:
            return calls
        return [replace(call, time=call.time + self._skew_at(call.arrived_at)) for call in calls]

    def _skew_at(self, moment: float) -> float:
        _, skew = self._skews[bisect_right(self._skews, (moment, math.inf)) - 1]
        return skew

    def stop(self) -> None:
        self.program.stop()

    def close(self) -> None:
        self._http.close()
        self.program.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def know_seed(token: MadeToken) -> KnownSeed:
    """The seed of a made-up token."""
    time_step = token.time_step if token.type == "totp" else None
    return KnownSeed(bytes.fromhex(token.secret), token.counter, time_step, SALT, token.digits, token.hash)
