"""Settings are checked together, and the error names those that are wrong."""

import pytest
from pydantic import ValidationError

from worker.simulator.settings import Settings


def test_a_change_gives_new_settings_and_keeps_the_rest():
    settings = Settings(look_ahead=5).with_changes({"resync_range": 50})
    assert (settings.rules.look_ahead, settings.rules.resync_range) == (5, 50)


@pytest.mark.parametrize(
    "changes",
    [
        {"look_aheat": 5},
        {"rate": -1},
        {"rate_changes": {"10": 0}},
        {"rate_changes": {"-1": 5}},
        {"faults": {"reset_after": 0.7, "drip": 0.4}},
        {"faults": {"reset_after": -0.1}},
        {"faults": {"made_up": 0.1}},
        {"error_statuses": [404]},
        {"fault_operations": ["made_up"]},
        {"group_rates": {"mfa": 5}},
        {"group_rates": {"directory": -1}},
        {"forbidden_groups": ["made_up"]},
        {"page_size": 0},
    ],
)
def test_a_wrong_setting_is_named(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Settings().with_changes(changes)
