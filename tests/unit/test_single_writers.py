"""A record's status and a batch's state have one writer each: no other module of ours writes the column."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
# The column, and where it may be written. An inventory job has a state too, which only the
# log of jobs writes.
WRITERS = {
    "status": ("worker/leases",),
    "state": (
        "worker/batches/state.py",
        "worker/batches/tokens.py",
    ),
}
# Functions of SQLAlchemy without which a module writes nothing.
WRITING = {"insert", "update", "text"}


def can_write(tree: ast.Module) -> bool:
    """Whether a module builds statements that change rows."""
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imported if (node.module or "").startswith("sqlalchemy") for alias in node.names}
    return bool(names & WRITING)


def mentions(tree: ast.Module, column: str) -> Iterator[int]:
    """Lines that give this column a value: `values(status=…)`, `{"status": …}`, `{Record.status: …}`, `SET status`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="values"), keywords=keywords):
                yield from (node.lineno for keyword in keywords if keyword.arg == column)
            case ast.Dict(keys=keys):
                for key in keys:
                    match key:
                        case ast.Constant(value=name) if name == column:
                            yield node.lineno
                        case ast.Attribute(value=ast.Name(id="Record" | "Batch"), attr=name) if name == column:
                            yield node.lineno
            case ast.Constant(value=str(sql)) if f"SET {column}" in sql:
                yield node.lineno


def other_writers(checkout: Path, column: str) -> list[str]:
    """File and line of everything beside the one writer that writes the column."""
    found = []
    for package in ("models", "worker"):
        for path in sorted((checkout / package).rglob("*.py")):
            name = path.relative_to(checkout).as_posix()
            tree = ast.parse(path.read_text())
            if not name.startswith(WRITERS[column]) and can_write(tree):
                found += [f"{name}:{line}" for line in mentions(tree, column)]
    return found


@pytest.mark.parametrize("column", WRITERS)
def test_a_status_has_one_writer(column: str) -> None:
    assert other_writers(CHECKOUT, column) == []


@pytest.mark.parametrize("column", WRITERS)
@pytest.mark.parametrize(
    "code",
    [
        "update(Batch).values({column}='running')",
        "values = {{'{column}': 'running'}}",
        "update(Record).values({{Record.{column}: 'active'}})",
        "text('UPDATE record SET {column} = 1')",
    ],
)
def test_another_writer_is_found(tmp_path: Path, column: str, code: str) -> None:
    module = tmp_path / "worker" / "dispatch" / "other.py"
    module.parent.mkdir(parents=True)
    module.write_text(f"from sqlalchemy import text, update\n{code.format(column=column)}\n")

    assert other_writers(tmp_path, column) == ["worker/dispatch/other.py:2"]
