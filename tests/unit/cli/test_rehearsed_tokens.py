"""The persons of a rehearsal of one's own file."""

from __future__ import annotations

from pathlib import Path

from worker.cli.rehearsed_tokens import make_shipment_for
from worker.intake import open_shipment


def test_names_that_differ_in_more_than_capitals_are_of_two_persons(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    ids = [f"0f0b7a52-0000-4000-8000-00000000000{number}" for number in range(3)]
    rows = [
        f"MADE{number},12345{number},65432{number},{name},{ids[number]}\n"
        for number, name in enumerate(("weiß", "weiss", "Weiss"))
    ]
    file.write_text("serial,otp1,otp2,username,device_id\n" + "".join(rows), encoding="utf-8")

    made = make_shipment_for(open_shipment(file), 0)

    assert sorted(user.username or "" for user in made.world.users) == ["weiss", "weiß"]
