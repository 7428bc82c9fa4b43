"""A box at a PingOne that another hand wrote, which loses answers after it did what was asked: its own record says what
it made."""

from __future__ import annotations

import pytest
from support.processes.command_desk import CommandDesk
from support.servers.stand_in import WholeWayStandIn
from support.servers.stand_in_box import BoxTenant, judge_tenant, make_tokens, write_box

WORDS = ("box.csv", "--assign", "who.csv", "--import", "--pair")
QUICK = {
    "_OATHBULK_TUNING__call_deadline": "2",
    "_OATHBULK_TUNING__send_within": "1",
    "_OATHBULK_TUNING__lease_left_for_post": "3",
    "_OATHBULK_TUNING__lease": "6",
    "_OATHBULK_TUNING__outage_hold": "1",
    "_OATHBULK_TUNING__read_delay": "0.5",
    "OATHBULK_OTP_POST_BUDGET": "7",
    "_OATHBULK_TUNING__tokens_per_import": "25",
    "_OATHBULK_TUNING__names_per_request": "20",
}
# Calls of which the first answer of each kind gets lost for certain.
LOST = ("users", "tokens", "import", "job", "pair", "device", "activate")


@pytest.mark.faults
@pytest.mark.parametrize("is_inventory_apart", [False, True])
def test_what_is_made_there_is_made_once_and_for_its_person(tmp_path, is_inventory_apart):
    tenant = BoxTenant(make_tokens(60))
    with (
        WholeWayStandIn(tenant, loses=LOST, loses_every=11, is_inventory_apart=is_inventory_apart) as pingone,
        CommandDesk(tmp_path / "desk", QUICK, pingone.settings, {"_OATHBULK_TUNING__first_records": "0"}) as desk,
    ):
        write_box(desk.folder, list(tenant.tokens.values()))
        result = desk.oathbulk("run", *WORDS)
        assert result.code == 0, result.stdout[-2000:] + result.stderr[-3000:]
        assert tenant.active == set(tenant.tokens)
        assert set(pingone.lost) >= set(LOST)
    assert list(judge_tenant(tenant)) == []
    assert desk.status("box")["counts"]["active"] == 60
