"""How a mutant is made: names of our own classes and functions are given another meaning, in memory, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from hunt import initial_state

# What has the name, the name, and what it means instead.
Patch = tuple[Any, str, Any]

MUTANTS: dict[str, Callable[[], list[Patch]]] = {}


def mutant(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    """Its name says what it does wrong."""
    MUTANTS[make.__name__] = make
    return make


def around(target: Any, attribute: str, change: Callable[..., Any]) -> Patch:
    """`change` is called in the place of the real function, which it gets first."""
    real = getattr(target, attribute)

    @wraps(real)
    def changed(*arguments: Any, **named: Any) -> Any:
        return change(real, *arguments, **named)

    return target, attribute, changed


@contextmanager
def at_large(name: str) -> Iterator[None]:
    """The mutant takes the place of the real code."""
    # Statements that healthy code has built are of no use to it, and the other way round.
    initial_state.forget_statements()
    with ExitStack() as stack:
        for target, attribute, value in MUTANTS[name]():
            stack.enter_context(_patched(target, attribute, value))
        try:
            yield
        finally:
            initial_state.forget_statements()


def execute(statement: str, *values: Any) -> Any:
    """A statement behind everybody's back; its first row."""
    return initial_state.database().raw.execute(statement, values).fetchone()


@contextmanager
def _patched(target: Any, attribute: str, value: Any) -> Iterator[None]:
    real = getattr(target, attribute)
    setattr(target, attribute, value)
    try:
        yield
    finally:
        setattr(target, attribute, real)
