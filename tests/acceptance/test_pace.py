"""`oathbulk pace`, `--share`, and the pace that finds its limit, from the shell."""

from __future__ import annotations

import shutil

import pytest
import redis
from support.processes.command_desk import CommandDesk

from worker.pace.rate_groups import RateGroup
from worker.pace.slots import Pace
from worker.simulator.shipment import make_shipment

SETTINGS = {"PINGONE_RATE": "10", "OATHBULK_CONCURRENCY": "24"}


@pytest.fixture
def desk(desk):
    """One with a home, and nothing in it."""
    desk.make_home()
    return desk


def test_before_the_first_request_it_says_what_is_not_known(desk):
    result = desk.oathbulk("pace")
    assert result.code == 0
    assert "no request yet" in result.stdout
    assert "the limit is not known" in result.stdout


def test_what_a_person_sets_is_shown_with_who_set_it(desk):
    result = desk.oathbulk("pace", "--share", "60%", "--rate", "12", "--ticket", "CHG-7", OATHBULK_ACTOR="eve")
    assert result.code == 0
    assert "Ours are 60 % of that" in result.stdout
    assert "It stays at 12 requests/s" in result.stdout
    assert "Set by eve" in result.stdout
    assert "CHG-7" in result.stdout
    known = desk.oathbulk("pace", "--adapt", "--share", "1", "--json").json
    assert (known["share"], known["fixed_rate"]) == (1, None)
    shown = desk.oathbulk("pace", "--rate", "4", OATHBULK_ACTOR="eve").stdout
    assert "it adapts" not in shown
    shown = desk.oathbulk("pace", "--adapt", OATHBULK_ACTOR="bob").stdout
    assert "No rate is set: it adapts to what PingOne permits." in shown
    assert "Set by bob on " in shown
    assert "eve" not in shown


def test_what_is_no_share_or_no_rate_is_refused(desk):
    for wrong in (["--share", "0"], ["--share", "160%"], ["--share", "much"], ["--rate", "0"], ["--rate", "nan"]):
        result = desk.oathbulk("pace", *wrong)
        assert result.code == 2, wrong
        assert wrong[0] in result.stderr
    assert desk.oathbulk("pace", "--rate", "5", "--adapt").code == 2


def test_before_the_first_run_it_says_how_that_begins_at_this_rate(tmp_path):
    with CommandDesk(tmp_path / "desk") as desk:
        result = desk.oathbulk("pace", "--rate", "4")
        assert result.code == 2
        assert result.stderr.endswith(": to begin at this rate: PINGONE_RATE=4 PINGONE_RATE_MAX=4 oathbulk run FILE\n")
        assert not desk.home.exists()


def test_a_load_that_is_refused_sets_no_share(desk):
    (desk.folder / "empty.csv").write_text("serial,otp1,otp2,user_id,device_id\n")
    assert desk.oathbulk("load", "empty.csv", "--share", "60%").code == 2
    assert desk.oathbulk("pace", "--json").json["share"] == 1


@pytest.mark.faults
def test_a_run_finds_the_limit_remembers_it_and_a_share_is_kept(set_out):
    """15 requests a second are permitted, which a busy machine can make too, and nobody told."""
    desk, simulator = set_out(make_shipment(480), SETTINGS, rate=15, burst=3)
    header, *rows = (desk.folder / "shipment.csv").read_text().splitlines()
    for name, mine in (("first.csv", rows[:420]), ("second.csv", rows[420:])):
        (desk.folder / name).write_text("\n".join([header, *mine, ""]))
    first = desk.oathbulk("run", "first.csv", "--offline", "--json")
    assert first.code == 0
    # A rate that is not found would be refused for a third of the way; a busy machine sends late, and so in bursts.
    assert first.json["rate_limited"] < 0.1 * first.json["requests"]
    known = desk.oathbulk("pace", "--json").json
    # A machine that was too busy to make more finds a lower one.
    assert 5 < known["ceiling"] < 20
    assert first.json["ceiling"] == known["ceiling"]
    assert "PingOne refuses from about" in desk.oathbulk("pace").stdout

    # The first run may have ended while it climbed anew; Redis would go on with that, and the database knows the limit.
    shutil.rmtree(desk.home / "valkey" / "appendonlydir")
    began = len(simulator.calls())
    second = desk.oathbulk("run", "second.csv", "--offline", "--share", "50%", "--json")
    assert second.code == 0
    ours = [call.arrived_at for call in simulator.calls()[began:]]
    assert (len(ours) - 1) / (ours[-1] - ours[0]) < 0.65 * known["ceiling"]
    assert desk.oathbulk("pace", "--json").json["share"] == 0.5


def test_every_group_of_calls_is_shown_and_where_redis_cannot_be_asked_that_is_said(desk):
    known = desk.oathbulk("pace", "--json").json
    assert [(each["group"], each["is_read"]) for each in known["groups"]] == [
        ("mfa", True),
        ("directory", False),
        ("inventory", False),
        ("configuration", False),
    ]
    shown = desk.oathbulk("pace", OATHBULK_REDIS_URL="redis://127.0.0.1:1/0").stdout
    assert "inventory (tokens of the environment): not known, since Redis cannot be asked." in shown
    assert "No run is at work" not in shown


def test_where_no_run_is_at_work_that_is_said_with_what_is_kept_and_what_to_do(desk):
    shown = desk.oathbulk("pace").stdout
    assert "inventory (tokens of the environment): not known, since no run is at work." in shown
    assert "Redis cannot be asked" not in shown
    assert "No run is at work here. What is said of the license and of mfa is kept in the database" in shown
    assert "ask again while `oathbulk run FILE` works" in shown


def test_a_rate_is_set_for_one_group_and_its_hold_is_lifted(desk, valkey_url):
    redis_url = {"OATHBULK_REDIS_URL": valkey_url}
    result = desk.oathbulk("pace", "--rate", "2", "--group", "directory", **redis_url)
    assert result.code == 0, result.stderr
    assert "directory (people by their names): 2.0 requests/s lately, stays at 2" in result.stdout
    known = desk.oathbulk("pace", "--json", **redis_url).json
    assert known["fixed_rate"] is None
    with redis.Redis.from_url(valkey_url) as client:
        Pace(client, known["license"], 2.0, RateGroup.DIRECTORY).hold(60, "PingOne answered 429")
    shown = desk.oathbulk("pace", **redis_url).stdout
    assert "PingOne answered 429. To go on now: oathbulk pace --lift --group directory" in shown
    lifted = desk.oathbulk("pace", "--lift", "--group", "directory", "--json", **redis_url).json
    assert [each["hold"] for each in lifted["groups"]] == [None] * 4


def test_a_group_without_a_command_for_it_is_refused(desk):
    for wrong in (["--group", "mfa"], ["--group", "directory", "--share", "60%"], ["--rate", "2", "--group", "none"]):
        result = desk.oathbulk("pace", *wrong)
        assert result.code == 2, wrong
        assert "--group" in result.stderr
    result = desk.oathbulk("pace", "--rate", "2", "--group", "directory")
    assert result.code == 3
    assert "OATHBULK_REDIS_URL" in result.stderr
