"""What comes back by itself, and when: a retry after a failure that may pass, a replay by the schedule, and no more."""

from __future__ import annotations

import json
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.data.tokens import make_tokens, write_shipment
from support.processes.waiting import wait_until
from support.servers.stand_in import Refusal

CELERY = Path(sysconfig.get_path("scripts")) / "celery"
# Seconds.
PATIENCE = 60


def test_what_failed_in_passing_comes_back_by_itself_when_it_is_due(set_up):
    desk, pingone = set_up(make_tokens(12), _OATHBULK_TUNING__read_delay="1.5")
    pingone.refusals.extend([Refusal(500, "UNEXPECTED_ERROR")] * 3)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 0, result.stderr
    assert len(pingone.active) == 12
    failed = {post.device_id: post for post in pingone.posts if post.answer == "UNEXPECTED_ERROR"}
    assert len(failed) == 3
    # Each was read before its OTP went again, and not before its time.
    assert {device_id for device_id, _ in pingone.reads} == set(failed)
    assert all(read_at - failed[device_id].arrived_at >= 1.5 for device_id, read_at in pingone.reads)
    again = [count for (device_id, _), count in pingone.times_posted().items() if device_id in failed]
    assert again == [2, 2, 2]
    assert (result.json["attempts"], result.json["otp_posts"], result.json["requests"]) == (15, 15, 18)


def test_a_device_that_appears_late_is_found_and_costs_no_attempt(set_up):
    desk, pingone = set_up(make_tokens(6))
    pingone.refusals.append(Refusal(404, "NOT_FOUND"))
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 0, result.stderr
    assert (result.json["attempts"], result.json["otp_posts"]) == (6, 6)
    assert len(pingone.reads) == 1


def test_the_replay_schedule_replays_what_time_may_mend_and_nothing_else(set_up, valkey_url):
    tokens = make_tokens(4, wrong=1)
    desk, pingone = set_up(tokens, OATHBULK_REDIS_URL=valkey_url, OATHBULK_REPLAY_CRON="0 4 1 1 *")
    missing = pingone.tokens.pop(tokens[0].device_id)
    # The first load makes the key, without which a worker ends.
    assert desk.oathbulk("load", "shipment.csv", "--accept", "token_not_in_inventory").code == 0
    # Workers as in production, started by hand.
    desk.start_program(CELERY, "-A", "worker", "worker", "-l", "WARNING")
    desk.start_program(CELERY, "-A", "worker", "beat", "-l", "WARNING")
    status = wait_until(lambda: found if (found := desk.status())["state"] == "finished" else None, PATIENCE, "an end")
    assert status["dead_letters"] == {"device_not_found": 1, "invalid_otp": 1}
    pingone.tokens[missing.device_id] = missing

    assert desk.start_program(CELERY, "-A", "worker", "call", "oathbulk.replay").wait().code == 0
    status = wait_until(
        lambda: found if (found := desk.status())["counts"]["active"] == 3 else None, PATIENCE, "the missing is active"
    )
    assert status["dead_letters"] == {"invalid_otp": 1}
    # A refused OTP never goes again, whatever is replayed.
    assert pingone.times_posted()[tokens[3].device_id, tokens[3].otps[0]] == 1


def test_the_schedule_runs_only_if_a_person_set_it(desk):
    program = """if True:
        import json
        from worker.celery import app
        entries = app.conf.beat_schedule.items()
        print(json.dumps({name: [entry["task"], str(entry["schedule"])] for name, entry in entries}))
    """

    def schedule(**settings):
        result = desk.start_program(sys.executable, "-c", program, OATHBULK_REDIS_URL="redis://", **settings).wait()
        assert result.code == 0, result.stderr
        return json.loads(result.stdout)

    assert set(schedule()) == {"dispatch", "notify", "prepare"}
    task, when = schedule(OATHBULK_REPLAY_CRON="15 3 * * 1")["replay"]
    assert task == "oathbulk.replay"
    assert "15 3 * * 1" in when


def test_a_stale_totp_is_a_dead_letter_and_not_one_of_its_otps_is_sent(set_up):
    tokens = make_tokens(6)
    desk, pingone = set_up(tokens)
    now = datetime.now(UTC)
    made = [now - timedelta(hours=1)] * 4 + [now + timedelta(seconds=60)] * 2
    columns = {"otp_type": ["totp"] * 6, "generated_at": [moment.isoformat() for moment in made]}
    write_shipment(desk.folder / "shipment.csv", tokens, **columns)
    result = desk.oathbulk("run", "shipment.csv", "--json", "--accept", "stale_otp")
    assert result.code == 1
    assert result.json["dead_letters"] == {"stale_otp": 4}
    assert result.json["counts"]["active"] == 2
    assert {post.device_id for post in pingone.posts} == {token.device_id for token in tokens[4:]}
