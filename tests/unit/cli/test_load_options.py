"""What a person asks for when a shipment is loaded, and the commands that are printed to be pasted."""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.application import app, make_command
from worker.cli.load_options import (
    LoadOptions,
    SourceOptions,
    write_command,
    write_listing_command,
    write_words,
)
from worker.intake import SecretMissing, UnusableFile
from worker.preflight.findings import Question

FORMATS = Path(__file__).parents[2] / "samples" / "formats"
VALUES: dict[str, Any] = {
    "assign": Path("who.csv"),
    "only_assigned": True,
    "only_new": True,
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
    (parameter,) = [each for each in make_command("run").params if each.name == name]
    word, *value = write_words(SourceOptions(**{name: VALUES[name]}))
    assert word in parameter.opts
    assert value == ([] if VALUES[name] is True else [str(VALUES[name])])


def test_what_was_not_typed_is_not_written() -> None:
    assert write_words(LoadOptions()) == []


def test_every_option_is_written_in_the_order_of_the_help() -> None:
    asked = LoadOptions(
        batch="july",
        environment="test",
        canary=5,
        share=0.6,
        window="22:00-05:30",
        zone="Europe/Berlin",
        offline=True,
        accept=[Question.CLOCK, Question.DEVICES_OLD],
        ticket="CHG-7",
        source=SourceOptions(key_file=Path("box key.txt"), may_pair=True),
    )
    assert " ".join(write_words(asked)) == (
        "--batch july --environment test --canary 5 --share 0.6 --window 22:00-05:30 --zone Europe/Berlin --offline"
        " --accept clock --accept devices_old --ticket CHG-7 --key-file box key.txt --pair"
    )


def test_refused_rows_are_listed_by_the_options_that_were_given_and_a_check_takes_no_more_than_it_knows() -> None:
    asked = LoadOptions(batch="july", canary=2, source=SourceOptions(assign=Path("who gets.csv")))
    assert write_listing_command(Path("box.xml"), asked) == "oathbulk check box.xml --assign 'who gets.csv' --json"
    asked = LoadOptions(batch="july", environment="test", offline=True, ticket="CHG-7")
    assert write_listing_command(Path("box.xml"), asked) == "oathbulk check box.xml --environment test --offline --json"


def test_a_file_is_not_taken_for_an_option_nor_for_two() -> None:
    assert write_command("run", Path("-box.csv"), ["--pair"]) == "oathbulk run ./-box.csv --pair"
    assert write_command("run", Path("a box.csv"), []) == "oathbulk run 'a box.csv'"


@pytest.mark.parametrize(
    ("batch", "file", "name"),
    [("wave-04 ", "box.csv", "wave-04"), (" wave 04", "box.csv", "wave 04"), (None, "wave-04 .csv", "wave-04")],
)
def test_blanks_around_a_batch_s_name_are_not_part_of_it(batch: str | None, file: str, name: str) -> None:
    assert LoadOptions(batch=batch).name_batch(Path(file)) == name


def test_hours_that_cannot_be_read_are_refused_at_once() -> None:
    with pytest.raises(typer.BadParameter, match="needs --zone"):
        LoadOptions(window="22:00-05:30")


@pytest.mark.parametrize(
    ("option", "content", "mode", "complaint"),
    [
        ("password_file", b"", 0o600, "is empty"),
        ("password_file", b"\xef\xbb\xbf\r\n", 0o600, "is empty"),
        ("key_file", b" \n", 0o600, "is empty"),
        ("key_file", b"k" * 5000, 0o600, "is too long for a key or a password"),
        ("key_file", b"k" * 16, 0o644, "can be read by every user. Close it: chmod 600 "),
    ],
)
def test_a_file_of_a_key_or_a_password_that_will_not_do_is_named_with_its_own_fault(
    option: str, content: bytes, mode: int, complaint: str
) -> None:
    # A directory that every user may enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "secret")
        path.write_bytes(content)
        path.chmod(mode)
        with pytest.raises(UnusableFile) as caught:
            SourceOptions(**{option: path}).open(FORMATS / "pskc" / "pskc_pbkdf2.xml")
    assert str(caught.value).startswith(f"{path}: {complaint}")


@pytest.mark.parametrize("stdin", [None, io.StringIO()], ids=["closed", "no terminal"])
def test_where_nobody_can_be_asked_for_a_key_the_option_is_named(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SecretMissing, match="by --key-file"):
        SourceOptions().open(FORMATS / "pskc" / "encrypted_counter.xml")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize(
    ("sample", "option", "secret"),
    [
        ("pskc_psk_aes128cbc.xml", "key_file", b"00112233445566778899aabbccddeeff\r\n"),
        ("pskc_pbkdf2.xml", "password_file", b"made-up-pass\r\n"),
    ],
)
def test_a_key_or_password_may_come_from_an_editor_of_windows(
    sample: str, option: str, secret: bytes, mark: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_bytes(mark + secret)
    shipment = SourceOptions(**{option: path}).open(FORMATS / "pskc" / sample)
    assert len(list(shipment.tokens())) == 3


def test_a_key_that_is_not_in_hexadecimal_is_told_how_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text("ABEiM0RVZneImaq7zN3u/w==\n")
    with pytest.raises(UnusableFile, match=r"the key has 25\. .* by --key-file, in hexadecimal or as its bytes alone"):
        SourceOptions(key_file=path).open(FORMATS / "pskc" / "pskc_psk_aes128cbc.xml")


@pytest.mark.parametrize(
    ("typed", "option", "words"),
    [
        ({"digits": 0}, "--digits", "6 or 8"),
        ({"digits": 7}, "--digits", "6 or 8"),
        ({"time_step": 0}, "--time-step", "30 or 60"),
        ({"time_step": 45}, "--time-step", "30 or 60"),
        ({"only_assigned": True}, "--only-assigned", "give --assign too"),
        ({"may_import": True}, "--import", "give --pair too"),
    ],
)
def test_an_option_that_can_lead_to_nothing_is_refused_before_a_file_is_read(
    typed: dict[str, Any], option: str, words: str
) -> None:
    with pytest.raises(typer.BadParameter, match=words) as refused:
        SourceOptions(**typed).open(Path("no such file"))
    assert refused.value.param_hint == option


@pytest.mark.parametrize("name", ["box.csv", "who.csv", "box.key", "box.password"])
def test_a_file_that_is_read_is_not_written_over(name: str, tmp_path: Path) -> None:
    for each in ("box.csv", "who.csv", "box.key", "box.password"):
        (tmp_path / each).write_text("kept")
    source = SourceOptions(
        assign=tmp_path / "who.csv", key_file=tmp_path / "box.key", password_file=tmp_path / "box.password"
    )
    # The same file by another way.
    output = tmp_path / ".." / tmp_path.name / name
    with pytest.raises(typer.BadParameter, match=rf"{name} is read here, and would be lost: give another name"):
        source.refuse_to_replace(tmp_path / "box.csv", output)
    source.refuse_to_replace(tmp_path / "box.csv", tmp_path / "verdicts.csv")


def test_a_check_does_not_write_over_the_shipment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path / "home"))
    box = tmp_path / "box.csv"
    box.write_text(seeds := "MADE0000001,d2f7a4affb163ad95f3593f4c6f9b05b89a8105b,hotp,6,0\n")
    ended = CliRunner().invoke(app, ["check", "-o", str(box), str(box), "--offline"])
    assert ended.exit_code == 2
    assert box.read_text() == seeds
