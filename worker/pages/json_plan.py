"""The plan as JSON, for machines and for `--plan`. docs/plan.md explains each key; none of them goes away."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from worker.pages import plan_sentences
from worker.pages.plan_contents import FindingLine, Plan, SettingLine


def render_json(plan: Plan) -> str:
    """Write the plan."""
    return json.dumps(make_plan(plan), indent=2) + "\n"


def make_plan(plan: Plan) -> dict[str, Any]:
    """The plan as values that JSON has. `parts` are what the hash is computed from, and nothing else is."""
    return {
        "plan": plan.hash,
        "parts": dict(plan.parts),
        "made_at": plan.made_at.isoformat(),
        "made_by": plan.made_by,
        "version": plan.version,
        "command": plan.command,
        "ticket": plan.ticket,
        "purpose": plan_sentences.describe_purpose(plan),
        "obstacles": plan_sentences.list_obstacles(plan),
        "source": asdict(plan.source),
        "target": asdict(plan.target),
        "counts": asdict(plan.numbers),
        "columns": [{"column": column.name, "values": dict(column.values)} for column in plan.columns],
        "findings": [_make_finding(finding) for finding in plan.preflight.findings],
        "blocking": plan.preflight.blocking,
        "not_known": list(plan.preflight.unknown),
        "timing": asdict(plan.timing),
        "writes": [
            {"where": where, "what": what, "how_many": number}
            for where, what, number in plan_sentences.list_writes(plan)
        ],
        "notices": plan_sentences.list_notices(plan),
        "stop": _make_steps(plan_sentences.list_stops(plan)),
        "undo": _make_steps(plan_sentences.list_undoing(plan)),
        "settings": [_make_setting(setting) for setting in plan.settings],
    }


def _make_finding(finding: FindingLine) -> dict[str, Any]:
    return {
        "name": finding.name,
        "level": finding.level,
        "text": finding.text,
        "serials": list(finding.serials),
        "accepted": finding.is_accepted,
    }


def _make_steps(steps: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"command": command, "does": does} for command, does in steps]


def _make_setting(setting: SettingLine) -> dict[str, Any]:
    return {"name": setting.name, "value": setting.value, "from": setting.origin, "in_hash": setting.is_hashed}
