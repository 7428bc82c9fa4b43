"""Arrays as PostgreSQL reads them from text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import BigInteger, Boolean, DateTime, Float, Integer, String

from models.record_states import OtpState
from worker.database.array_text import choose_writer


@pytest.mark.parametrize(
    ("kind", "values", "written"),
    [
        (String(), ["a", None, "NULL", ""], '{"a",NULL,"NULL",""}'),
        (String(8), ['a"b', "a\\b", "{a,b}"], '{"a\\"b","a\\\\b","{a,b}"}'),
        (String(), [OtpState.SENT], '{"sent"}'),
        (Integer(), [1, None, -3, True], "{1,NULL,-3,1}"),
        (BigInteger(), [2**63 - 1], "{9223372036854775807}"),
        (Float(), [0.1, 1e-7, None], "{0.1,1e-07,NULL}"),
        (Boolean(), [True, False, None], "{1,0,NULL}"),
        (Integer(), [], "{}"),
    ],
)
def test_an_array_is_written(kind, values, written) -> None:
    assert choose_writer(kind)(values) == written


def test_a_type_whose_values_python_writes_otherwise_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be written as text"):
        choose_writer(DateTime())([datetime.now(UTC)])
