"""Makes a command when somebody calls it: its module is imported then, and no other command's."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from worker.cli.command_list import COMMANDS
from worker.cli.top_help import write_help
from worker.cli.usage_errors import UsageError

# Commands of before, which somebody may type by habit: what is typed now.
REPLACED = {
    "inspect": "check FILE",
    "plan": "check FILE",
    "search": "show TEXT",
    "unpair": "undo BATCH",
    "revoke": "undo BATCH",
    "reconcile": "db restored",
}


class LazyCommands(Mapping[str, Any]):
    """Commands by name, as typer asks for them; each is imported and made when it is first looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make_command(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """The command `oathbulk`, whose commands are listed and completed by `command_list`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()  # type: ignore[assignment]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was typed. Raises UsageError, which names what took the place of one of before."""
        name = args[0]
        if name not in self.commands and (now := REPLACED.get(name)):
            raise UsageError(f"'{name}' is `oathbulk {now}` now")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer passes it
        """Write the list of commands."""
        formatter.write(write_help(formatter.width))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the name of a command, or of an option before it."""
        # Nothing more is asked of these than name and help line, and then this process ends.
        self.commands = {name: TyperCommand(name, help=place.help) for name, place in COMMANDS.items()}
        return super().shell_complete(ctx, incomplete)


def _make_command(name: str) -> Any:
    """Import a command and make it. Raises KeyError."""
    place = COMMANDS[name]
    # What is imported here stays until the end. Looking for garbage in it, while it comes and once more as the process
    # ends, would take a quarter of a short command's time.
    gc.disable()
    found = getattr(import_module(f"worker.cli.{place.module}"), place.attribute)
    gc.freeze()
    gc.enable()
    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(name)(found)
    command = typer.main.get_command(app)
    command.name = name
    return command
