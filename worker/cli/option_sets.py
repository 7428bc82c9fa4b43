"""Sets of options that several commands have in common: a dataclass each, of which every field is an option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def takes_option_sets(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of each parameter that is such a dataclass; the command gets the dataclass."""
    declared = inspect.signature(command, eval_str=True).parameters
    sets: dict[str, Any] = {name: each.annotation for name, each in declared.items() if is_dataclass(each.annotation)}
    parameters = list[inspect.Parameter]()
    for name, each in declared.items():
        parameters += _make_parameters(sets[name]) if name in sets else [each.replace(kind=each.KEYWORD_ONLY)]

    @wraps(command)
    def with_options(**values: Any) -> None:
        made = {
            name: option_set(**{field.name: values.pop(field.name) for field in fields(option_set)})
            for name, option_set in sets.items()
        }
        command(**values, **made)

    # Typer reads the options of a command from these two.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del with_options.__wrapped__
    return with_options


def _make_parameters(option_set: Any) -> list[inspect.Parameter]:
    """Make a parameter of each field."""
    hints = get_type_hints(option_set, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(option_set)
    ]
