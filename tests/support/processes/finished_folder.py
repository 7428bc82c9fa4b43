"""A folder in which a shipment was run to its end: made once for a module's tests, each of which gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from support.data.tokens import Token, write_shipment
from support.processes.command_desk import CommandDesk
from support.servers.stand_in import StandIn


def run_to_the_end(folder: Path, tokens: Sequence[Token], **columns: Sequence[str]) -> Path:
    """Run these tokens as `shipment.csv`, with more columns, in a folder below this one, and return it. One of them at
    least is a dead letter."""
    with (
        StandIn([*tokens]) as pingone,
        CommandDesk(folder / "desk", pingone.settings, {"_OATHBULK_TUNING__first_records": "0"}) as desk,
    ):
        write_shipment(desk.folder / "shipment.csv", tokens, **columns)
        assert desk.oathbulk("run", "shipment.csv").code == 1
    return desk.folder


def copy_to(desk: CommandDesk, finished: Path) -> None:
    """Let the folder of a desk, and its home, be as that one."""
    shutil.copytree(finished, desk.folder, dirs_exist_ok=True)
