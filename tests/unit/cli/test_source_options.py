"""The options of a shipment's file, written again as a person types them."""

from __future__ import annotations

import io
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from worker.cli.application import app
from worker.cli.source_options import SourceOptions
from worker.intake.formats.format import SecretMissing

FORMATS = Path(__file__).parents[2] / "samples" / "formats"
VALUES: dict[str, Any] = {
    "assign": Path("who.csv"),
    "only_assigned": True,
    "format_name": "pskc",
    "key_file": Path("box.key"),
    "password_file": Path("box.password"),
    "encoding": "hex",
    "otp_type": "totp",
    "digits": 8,
    "time_step": 60,
    "hash_algorithm": "SHA256",
    "may_import": True,
    "may_pair": True,
}


def test_there_is_a_value_for_each_option() -> None:
    assert set(VALUES) == {field.name for field in fields(SourceOptions)}


@pytest.mark.parametrize("name", VALUES)
def test_an_option_is_written_under_the_name_that_the_commands_take(name: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    (parameter,) = [each for each in commands["run"].params if each.name == name]
    word, *value = SourceOptions(**{name: VALUES[name]}).to_words()
    assert word in parameter.opts
    assert value == ([] if VALUES[name] is True else [str(VALUES[name])])


def test_what_was_not_typed_is_not_written() -> None:
    assert SourceOptions().to_words() == []


@pytest.mark.parametrize("stdin", [None, io.StringIO()], ids=["closed", "no terminal"])
def test_where_nobody_can_be_asked_for_a_key_the_option_is_named(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SecretMissing, match="by --key-file"):
        SourceOptions().open(FORMATS / "pskc" / "encrypted_counter.xml")
