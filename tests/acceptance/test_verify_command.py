"""`oathbulk verify`: PingOne's truth beside ours, read and never changed."""

from __future__ import annotations

from worker.simulator.shipment import make_box, make_shipment

BOX = make_box(3, seed=1)
SHIPMENT = make_shipment(10, hopeless={"wrong_otp": 1, "unknown_device": 1})
# One of each, as rows of the file.
PLACES = {
    kind: next(place for place, row in enumerate(SHIPMENT.rows) if SHIPMENT.expected[row.serial].reason == kind)
    for kind in (None, "invalid_otp", "device_not_found")
}


def seed(simulator, kind, **device):
    """What became of the device of this row meanwhile."""
    row = SHIPMENT.rows[PLACES[kind]]
    seeded = {"serial": row.serial, "user_id": row.user_id, "device_id": row.device_id}
    simulator.seed(devices=[seeded | device])


def test_what_became_of_every_device_is_told(set_out):
    desk, simulator = set_out(SHIPMENT)
    assert desk.oathbulk("run", "shipment.csv", "--accept", "token_not_in_inventory").code == 1
    before = simulator.counts()["operations"]

    agrees = desk.oathbulk("verify", "shipment")
    assert (agrees.code, agrees.stderr) == (0, "Reading devices back: 0 of 10\n")
    assert agrees.stdout == "shipment has 10 records: 0 differ, 0 could not be read. 8 devices are ACTIVE in PingOne.\n"

    # Somebody unpaired one token and paired it again, and helped two others by hand.
    seed(simulator, None, status="ACTIVATION_REQUIRED")
    seed(simulator, "invalid_otp", status="ACTIVE")
    seed(simulator, "device_not_found", status="ACTIVE")
    lines = {
        place: (SHIPMENT.rows[place].serial, ours, theirs)
        for place, ours, theirs in (
            (PLACES[None], "active", "ACTIVATION_REQUIRED"),
            (PLACES["invalid_otp"], "dead_letter", "ACTIVE"),
            (PLACES["device_not_found"], "dead_letter", "ACTIVE"),
        )
    }
    result = desk.oathbulk("verify", "shipment")
    assert result.code == 1
    assert result.stdout.splitlines() == [
        *(
            f"row {place + 2} ({serial}): {ours} here, {theirs} in PingOne"
            for place, (serial, ours, theirs) in sorted(lines.items())
        ),
        "shipment has 10 records: 3 differ, 0 could not be read. 9 devices are ACTIVE in PingOne.",
    ]
    as_json = desk.oathbulk("verify", "shipment", "--json")
    assert (as_json.code, as_json.stderr) == (1, "")
    assert as_json.json == {
        "batch": "shipment",
        "total": 10,
        "devices_active": 9,
        "differences": [
            {"row_number": place + 2, "serial_number": serial, "ours": ours, "theirs": theirs} | {"is_known": True}
            for place, (serial, ours, theirs) in sorted(lines.items())
        ],
        "inventory_failure": None,
        "tokens_unread": 0,
    }
    # Nothing but reads went out, one a device each time.
    after = simulator.counts()["operations"]
    assert after["read"] - before["read"] == 3 * 10
    assert after["activate"] == before["activate"]
    # The Valkey that the command brought is gone.
    assert desk.processes() == []


def test_what_cannot_be_asked_is_named(set_out, valkey_url):
    """At the pace of a fleet, too: its Redis is used."""
    desk, simulator = set_out(SHIPMENT, {"OATHBULK_REDIS_URL": valkey_url})
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    # In another tenant none of its devices would be found.
    elsewhere = desk.oathbulk("verify", "shipment", PINGONE_ENVIRONMENT_ID="another-tenant")
    assert elsewhere.code == 3
    assert "restore PINGONE_ENVIRONMENT_ID" in elsewhere.stderr

    # One failure, not one a device.
    refused = desk.oathbulk("verify", "shipment", PINGONE_CLIENT_SECRET="another one")
    assert refused.code == 3
    assert "PINGONE_CLIENT_SECRET" in refused.stderr
    assert simulator.counts()["operations"] == {"access_token": 1}

    row = SHIPMENT.rows[4]
    simulator.change(error_statuses=[503])
    # A read that is lost is made again, a few times.
    simulator.order_faults(*[{"kind": "error_before", "operation": "read", "device_id": row.device_id}] * 4)
    unread = desk.oathbulk("verify", "shipment")
    assert unread.code == 1
    first, last = unread.stdout.splitlines()
    assert first.startswith(f"row 6 ({row.serial}): could not be read (HTTP 503")
    assert last == "shipment has 10 records: 0 differ, 1 could not be read. 0 devices are ACTIVE in PingOne."


def test_an_inventory_that_may_not_be_read_is_no_agreement(set_out):
    """Although every device that was read is as it should be."""
    desk, simulator = set_out(BOX)
    BOX.write(desk.folder)
    run = ("run", "box.pskc", "--key-file", "box.key", "--assign", "who.csv", "--import", "--pair", "--batch", "box")
    ran = desk.oathbulk(*run, "--accept", "notification")
    assert ran.code == 0, ran.stderr
    assert desk.oathbulk("verify", "box").code == 0
    simulator.change(forbidden_groups=["inventory"])

    verified = desk.oathbulk("verify", "box")

    assert verified.code == 1
    first, last = verified.stdout.splitlines()
    assert first.startswith("The inventory could not be read (HTTP 403")
    assert first.endswith("): nothing is known of the tokens of 3 records.")
    assert last == "box has 3 records: 0 differ, 0 could not be read. 3 devices are ACTIVE in PingOne."
    as_json = desk.oathbulk("verify", "box", "--json").json
    assert (as_json["inventory_failure"][:8], as_json["tokens_unread"]) == ("HTTP 403", 3)
