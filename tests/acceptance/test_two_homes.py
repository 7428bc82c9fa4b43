"""A shipment that two installations have, each with a database of its own: what the other one does is noticed, and what
it did before is none of a batch's business."""

from __future__ import annotations

from models.reason import PAUSE_CURES, PauseReason
from worker.simulator.shipment import make_shipment

CANARY = 2


def test_a_batch_pauses_once_another_home_activates_its_devices_and_not_for_what_was_active_before(set_out, tmp_path):
    """The other home does all of it between two attempts of this one. A third one finds everything ACTIVE."""
    desk, simulator = set_out(make_shipment(24))
    other, third = ({"OATHBULK_HOME": str(tmp_path / name)} for name in ("other", "third"))
    assert desk.oathbulk("run", "shipment.csv", "--canary", str(CANARY)).code == 4
    assert desk.oathbulk("resume", "shipment").code == 0
    assert desk.oathbulk("run", "shipment.csv", **other).code == 0
    posts = simulator.posts()

    result = desk.oathbulk("run", "shipment", "--json")

    assert result.code == 4, result.stderr
    assert (result.json["state"], result.json["reason"]) == ("paused", PauseReason.SOMEBODY_ELSE)
    assert result.json["detail"].endswith(PAUSE_CURES[PauseReason.SOMEBODY_ELSE])
    assert result.json["counts"]["pending"] > 0
    # Five are enough; what was on its way ends.
    assert 5 <= simulator.posts() - posts <= 5 + 2 * int(desk.settings["OATHBULK_CONCURRENCY"])

    finished = desk.oathbulk("run", "shipment.csv", "--json", **third)
    assert finished.code == 0, finished.stderr
    assert finished.json["counts"]["active"] == 24
