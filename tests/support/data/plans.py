"""Plans for tests, without a preflight: a small one, in which each test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from worker.pages.plan_contents import (
    Column,
    FindingLine,
    Numbers,
    Plan,
    Preflight,
    SettingLine,
    Source,
    Target,
    Timing,
)

ASKED = FindingLine("devices_old", "ask", "Waiting for activation longer than 20 hours: 2 of the devices.", ("MADE1",))
NOTE = FindingLine("account_lock", "note", "After 5 wrong OTPs PingOne locks the person's whole account for 600 s.")
STOP = FindingLine("license", "stop", "The license does not include OATH tokens.")


def make_plan(**fields: Any) -> Plan:
    """A plan of three tokens that are imported, paired and activated, against which nothing was found."""
    plan = Plan(
        hash="0123456789ab",
        parts={"batch": "july", "canary": None},
        made_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        made_by="anna",
        version="0.1.0",
        command="oathbulk run boxes/july.csv --batch july --import --pair --plan 0123456789ab",
        ticket="CHG-7",
        may_import=True,
        may_pair=True,
        source=Source("boxes/july.csv", "a" * 64, "otp-pairs", "who.csv", "b" * 64),
        target=Target("july", "default", "env-1", "api.pingone.com", "auth.pingone.com", "license-1"),
        numbers=make_numbers(),
        columns=(Column("lot", (("L-1", 2), ("L-2", 1))),),
        preflight=make_preflight(),
        timing=Timing(requests=7, seconds=95.0, rate=30.0),
        settings=(SettingLine("OATHBULK_MAX_ATTEMPTS", "8", "default", is_hashed=True),),
    )
    return replace(plan, **fields)


def make_numbers(**fields: Any) -> Numbers:
    """Three good rows of seeds, and one that is refused; PingOne's inventory was compared."""
    usual: dict[str, Any] = {
        "tokens": 3,
        "ready": 3,
        "refused": 1,
        "already_active": 0,
        "imports": 2,
        "pairings": 3,
        "hotp_seeds": 3,
        "is_exact": True,
        "post_budget": 3,
        "max_attempts": 8,
    }
    return Numbers(**usual | fields)


def make_preflight(*findings: FindingLine, **fields: Any) -> Preflight:
    """A preflight that asked PingOne everything."""
    usual: dict[str, Any] = {"unknown": (), "is_asked": True, "is_complete": True}
    return Preflight(findings, **usual | fields)
