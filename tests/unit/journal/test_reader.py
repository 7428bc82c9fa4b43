"""Journals that are read back: their lines are found among whatever else a file may hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.journal.reader import LONGEST_LINE, Line, NoJournalFound, Reader, find_files, parse

GOOD = {
    "at": "2026-07-01T12:00:00.000+00:00",
    "batch": 7,
    "row": 12,
    "record": 41,
    "device": "device",
    "lease": "lease",
    "otp": 1,
    "state": "sent",
    "posts": 1,
    "status": None,
    "code": None,
    "detail_code": None,
    "then": None,
}
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a0-\0\n") | st.lists(st.integers(), max_size=2)
)


def text_of(**changed: Any) -> bytes:
    return json.dumps(GOOD | changed).encode()


def test_a_line_of_ours_is_read() -> None:
    line = parse(text_of())
    assert line is not None
    assert line.at == datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "changed",
    [
        {"at": "2026-07-01T12:00:00"},
        {"at": "yesterday"},
        {"batch": 0},
        {"batch": 2**63},
        {"row": "12"},
        {"row": True},
        {"device": None},
        {"device": "d" * 101},
        {"otp": 3},
        {"state": "lost"},
        {"posts": -1},
        {"then": 5},
    ],
    ids=str,
)
def test_a_line_with_a_field_that_is_wrong_is_none_of_ours(changed: dict[str, Any]) -> None:
    assert parse(text_of(**changed)) is None


@pytest.mark.parametrize("field", ["at", "batch", "row", "device", "lease", "otp", "state", "posts", "then"])
def test_a_line_without_a_field_is_none_of_ours(field: str) -> None:
    assert parse(json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()) is None


def test_any_beginning_of_a_line_is_none_of_ours() -> None:
    whole = text_of()
    assert [end for end in range(len(whole)) if parse(whole[:end])] == []


@given(st.binary())
def test_any_bytes_are_a_line_or_none(text: bytes) -> None:
    assert isinstance(parse(text), Line | None)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), VALUES))
def test_any_values_are_a_line_or_none(changed: dict[str, Any]) -> None:
    assert isinstance(parse(text_of(**changed)), Line | None)


def test_foreign_lines_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    monster = b"x" * (3 * LONGEST_LINE)
    path.write_bytes(b"\n".join([text_of(row=1), b"", b'{"level": "info"}', monster, b"\xff\0", text_of(row=2)[:-9]]))
    reader = Reader([path])
    assert [line.row for line in reader] == [1]
    assert (reader.lines, reader.unreadable) == (7, 6)


def test_older_lines_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    times = [f"2026-07-0{day}T12:00:00.000+00:00" for day in (1, 3, 2)]
    path.write_bytes(b"\n".join(text_of(at=at, row=row) for row, at in enumerate(times, 1)))
    reader = Reader([path], since=datetime(2026, 7, 2, tzinfo=UTC))
    assert [line.row for line in reader] == [2, 3]
    assert (reader.first_at, reader.last_at) == (
        datetime(2026, 7, 2, 12, tzinfo=UTC),
        datetime(2026, 7, 3, 12, tzinfo=UTC),
    )


def test_files_are_named_or_found_in_their_directory_each_once(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "notes.txt"))
    for path in (first, second, other):
        path.touch()
    assert find_files([second, tmp_path]) == [first, second]
    assert find_files([other]) == [other]


def test_a_path_that_is_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoJournalFound, match="nothing is no journal: name a file"):
        find_files([tmp_path / "nothing"])
