"""How records come to where a way begins, and a worker gets the message of each."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from crash_points.stage import Stage
from worker.pace.search import fix_rate


def answers_are_lost(stage: Stage, fault: str = "reset_after") -> list[int]:
    """That of every record's first post."""
    ids = stage.enqueue()
    stage.lose_answer(*ids, fault=fault)
    return ids


def unknown(fault: str, meanwhile: Callable[[Stage], object] = lambda _: None) -> Callable[[Stage], list[int]]:
    """One attempt had no answer, and the read that it owes is due."""

    def prepare(stage: Stage) -> list[int]:
        stage.work(*answers_are_lost(stage, fault))
        meanwhile(stage)
        stage.go_on()
        return stage.enqueue()

    return prepare


def half_done(stage: Stage) -> list[int]:
    """PingOne has asked for OTP 2, and its time step has begun."""
    stage.work(*stage.enqueue())
    stage.go_on()
    return stage.enqueue()


def doubled(stage: Stage) -> list[int]:
    """The message comes again when all is done."""
    ids = stage.enqueue()
    stage.work(*ids)
    return ids


def held(stage: Stage) -> list[int]:
    """The fleet holds when the messages are out."""
    ids = stage.enqueue()
    stage.pace.hold(100)
    return ids


def let_go(stage: Stage) -> None:
    """As if the hold's time were over."""
    stage.redis.delete(*stage.redis.keys("oathbulk:pace-3:*"))


def limited(stage: Stage) -> list[int]:
    """PingOne's license has nothing left, for hours. A person has fixed the rate: else the fleet would hold for longer
    after some refusals than after others."""
    ids = stage.enqueue()
    stage.pace.change(lambda search, reading: fix_rate(search, search.rate, reading.now))
    stage.fleet.simulator.change(rate=1e-6, burst=1, retry_after="none")
    httpx.get(f"{stage.fleet.simulator.url}/v1/the-last-one-for-today")
    return ids


def unlimited(stage: Stage) -> None:
    stage.fleet.simulator.change(rate=None)


def revoked(stage: Stage) -> list[int]:
    """Every worker has an access token by which PingOne does not know it any more."""
    stage.revokes = True
    return stage.enqueue()


def not_revoked(stage: Stage) -> None:
    stage.revokes = False


def strange(stage: Stage) -> list[int]:
    """PingOne knows the worker application by another secret."""
    _seed(stage, client_secret="another")
    return stage.enqueue()


def known_again(stage: Stage) -> None:
    _seed(stage)
    stage.resume()


def forbidden(stage: Stage) -> list[int]:
    """The worker application lacks a role."""
    stage.fleet.simulator.change(forbidden_groups=["mfa"])
    return stage.enqueue()


def permitted(stage: Stage) -> None:
    stage.fleet.simulator.change(forbidden_groups=[])
    stage.resume()


def missed(times: int) -> Callable[[Stage], list[int]]:
    """No device was found so often."""

    def prepare(stage: Stage) -> list[int]:
        for _ in range(times):
            stage.work(*stage.enqueue())
            stage.go_on()
        return stage.enqueue()

    return prepare


def paired_late(stage: Stage) -> list[int]:
    """The devices were not found, since they were another person's, and are now."""
    devices = stage.fleet.shipment.world_json()["devices"]
    _seed(stage, devices=[device | {"user_id": "another"} for device in devices])
    stage.work(*stage.enqueue())
    _seed(stage, devices=devices)
    stage.go_on()
    return stage.enqueue()


def _seed(stage: Stage, **changes: object) -> None:
    stage.fleet.simulator.seed(**stage.fleet.shipment.world_json() | {"devices": []} | changes)
