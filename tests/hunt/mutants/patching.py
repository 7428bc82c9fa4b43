"""How a mutant is made: names of our own classes and functions are given another meaning, in memory, for a while."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from hunt import initial_state

# What has the name, the name, and what it means instead.
Patch = tuple[Any, str, Any]

MakePatches = Callable[[], list[Patch]]


@dataclass(frozen=True)
class Mutant:
    """A fault. `charge`: a part of that of which the judges have to find it guilty; one that only crashes, since what
    it patches was renamed, is not found. `amid`: evils without which it does not show; it is hunted in schedules that
    know them."""

    charge: str
    amid: tuple[str, ...]
    make_patches: MakePatches


MUTANTS: dict[str, Mutant] = {}


def mutant(charge: str, *, amid: tuple[str, ...] = ()) -> Callable[[MakePatches], MakePatches]:
    """Enter a function that makes the patches of a mutant; its name says what the mutant does wrong."""

    def enter(make_patches: MakePatches) -> MakePatches:
        MUTANTS[make_patches.__name__] = Mutant(charge, amid, make_patches)
        return make_patches

    return enter


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
        for target, attribute, value in MUTANTS[name].make_patches():
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
