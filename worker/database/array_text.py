"""Writes arrays as PostgreSQL reads them from text. The driver could do it too, but looks up the type of each element,
and takes longer for that than for all the rest of a statement.

https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Boolean, Float, Integer, String
from sqlalchemy.types import TypeEngine

# Writes an array of values of one type, some of which may be None.
ArrayWriter: TypeAlias = Callable[[Sequence[Any]], str]


def choose_writer(kind: TypeEngine[Any]) -> ArrayWriter:
    """What writes arrays of this SQL type, which is one of texts, numbers or booleans. Raises TypeError for another."""
    if isinstance(kind, String):
        return _write_texts
    if isinstance(kind, Integer | Boolean):
        return _write_whole
    if isinstance(kind, Float):
        return _write_floats
    raise TypeError(f"arrays of {kind!r} cannot be written as text")


def _write_texts(texts: Sequence[str | None]) -> str:
    quoted = ["NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]
    return "{" + ",".join(quoted) + "}"


def _write_whole(values: Sequence[int | None]) -> str:
    """Whole numbers, and booleans as 1 and 0, whichever of both the column has."""
    return "{" + ",".join(["NULL" if value is None else f"{value:d}" for value in values]) + "}"


def _write_floats(values: Sequence[float | None]) -> str:
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
