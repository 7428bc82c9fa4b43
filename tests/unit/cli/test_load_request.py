"""What a person asks for, written again as it is typed."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from worker.cli.load_request import LoadOptions, LoadRequest
from worker.cli.source_options import SourceOptions
from worker.rules.hours import DailyHours


def test_only_what_is_no_default_is_written() -> None:
    assert LoadRequest("july").to_words() == ["--batch", "july"]


def test_every_option_is_written() -> None:
    hours = DailyHours(time(22), time(5, 30), "Europe/Berlin")
    accepted = frozenset({"devices_old", "clock"})
    request = LoadRequest("july", "test", 5, "CHG-7", hours, 0.6, True, accepted)
    assert " ".join(request.to_words()) == (
        "--batch july --environment test --canary 5 --share 0.6 --window 22:00-05:30 --zone Europe/Berlin --offline"
        " --accept clock --accept devices_old --ticket CHG-7"
    )


def test_how_the_file_is_read_is_written_too_and_a_check_takes_no_more_than_it_knows() -> None:
    source = SourceOptions(key_file=Path("box key.txt"), may_pair=True)
    request = LoadRequest("july", "test", canary=5, offline=True, source=source)
    assert request.to_words()[-3:] == ["--key-file", "box key.txt", "--pair"]
    assert request.to_check_words() == [
        "--environment",
        "test",
        "--offline",
        "--key-file",
        "box key.txt",
        "--pair",
    ]


@pytest.mark.parametrize(
    ("batch", "file", "name"),
    [("wave-04 ", "box.csv", "wave-04"), (" wave 04", "box.csv", "wave 04"), (None, "wave-04 .csv", "wave-04")],
)
def test_blanks_around_a_batch_s_name_are_not_part_of_it(batch: str | None, file: str, name: str) -> None:
    """Nobody sees them, and nobody would type them again."""
    assert LoadOptions(batch=batch).read(Path(file), SourceOptions()).name == name
