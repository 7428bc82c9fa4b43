"""What a person asks for when a shipment is loaded; the commands that are printed to be pasted; what is said of rows
that are refused; and files that are read, and not written over."""

import io
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from models.row_fault import RowFault
from worker.cli.application import app, make_command
from worker.cli.check import SHOWN, print_refused_rows
from worker.cli.desk import list_own_names
from worker.cli.export import describe_way_back
from worker.cli.output_files import refuse_unfit
from worker.cli.rehearse import running_simulator
from worker.cli.run import describe_interruption
from worker.cli.shipment_options import (
    LoadOptions,
    SourceOptions,
    takes_option_sets,
    write_command,
    write_listing_command,
    write_words,
)
from worker.embedded.home import EmbeddedError
from worker.installation.installation import Installation
from worker.intake.rows import KEPT, RowError, RowErrors, SecretMissing, UnusableFile
from worker.preflight.findings import Question

PSKC = Path(__file__).parents[2] / "samples" / "formats" / "pskc"
VALUES: dict[str, Any] = {
    "assign": Path("who.csv"),
    "only_assigned": True,
    "only_new": True,
    "gives_out": True,
    "format_name": "pskc",
    "key_file": Path("box.key"),
    "password_file": Path("box.password"),
    "encoding": "hex",
    "otp_type": "totp",
    "digits": 8,
    "time_step": 60,
    "hash_algorithm": "SHA256",
    "zone": "Europe/Berlin",
    "may_import": True,
    "may_pair": True,
}


@dataclass(frozen=True, kw_only=True)
class InnerOptions:
    lot: Annotated[str | None, typer.Option("--of-lot", "-l")] = None
    is_late: Annotated[bool, typer.Option("--late")] = False


@dataclass(frozen=True, kw_only=True)
class OuterOptions:
    number: Annotated[int, typer.Option(min=1)] = 1
    inner: InnerOptions = field(default_factory=InnerOptions)


def test_typer_takes_the_options_of_a_set_and_they_are_written_as_typer_names_them() -> None:
    """Typer reads them from the signature of a function, and keeps the first name of an option that stands in an
    annotation as its default: this fails where a version of Typer does otherwise."""
    taken = list[tuple[str, OuterOptions]]()

    @takes_option_sets
    def command(file: Annotated[str, typer.Argument()], asked: OuterOptions) -> None:
        taken.append((file, asked))

    app = typer.Typer()
    app.command()(command)
    asked = OuterOptions(number=2, inner=InnerOptions(lot="L-1", is_late=True))
    assert write_words(asked) == ["--number", "2", "--of-lot", "L-1", "--late"]
    for words, options in ((write_words(asked), asked), ([], OuterOptions())):
        ended = CliRunner().invoke(app, ["box.csv", *words])
        assert (ended.exit_code, taken.pop()) == (0, ("box.csv", options)), ended.output
    assert CliRunner().invoke(app, ["box.csv", "--number", "0"]).exit_code == 2


@pytest.mark.parametrize("name", VALUES)
def test_an_option_is_written_under_the_name_that_the_commands_take(name: str) -> None:
    (parameter,) = [each for each in make_command("run").params if each.name == name]
    options = SourceOptions if name in {field.name for field in fields(SourceOptions)} else LoadOptions
    word, *value = write_words(options(**{name: VALUES[name]}))
    assert (word in parameter.opts, value) == (True, [] if VALUES[name] is True else [str(VALUES[name])])


def test_every_option_is_written_in_the_order_of_the_help_and_what_was_not_typed_is_not() -> None:
    asked = LoadOptions(
        batch="july",
        environment="test",
        canary=5,
        share=0.6,
        window="22:00-05:30",
        offline=True,
        accept=[Question.CLOCK, Question.DEVICES_OLD],
        ticket="CHG-7",
        source=SourceOptions(key_file=Path("box key.txt"), zone="Europe/Berlin", may_pair=True),
    )
    assert " ".join(write_words(asked)) == (
        "--batch july --environment test --canary 5 --share 0.6 --window 22:00-05:30 --offline --accept clock"
        " --accept devices_old --ticket CHG-7 --key-file box key.txt --zone Europe/Berlin --pair"
    )
    assert write_words(LoadOptions()) == []


@pytest.mark.parametrize(
    ("written", "command"),
    [
        (write_command("run", Path("-box.csv"), ["--pair"]), "oathbulk run ./-box.csv --pair"),
        (write_command("run", Path("a box.csv"), []), "oathbulk run 'a box.csv'"),
        # A check takes no more than it knows.
        (
            write_listing_command(
                Path("box.xml"), LoadOptions(batch="july", canary=2, source=SourceOptions(assign=Path("who gets.csv")))
            ),
            "oathbulk check box.xml --assign 'who gets.csv' --json",
        ),
        (
            write_listing_command(
                Path("box.xml"), LoadOptions(batch="july", environment="test", offline=True, ticket="CHG-7")
            ),
            "oathbulk check box.xml --environment test --offline --json",
        ),
        (
            describe_interruption("Continue with: oathbulk run july"),
            "Interrupted: everything in hand is settled or handed back. Continue with: oathbulk run july",
        ),
        (describe_interruption(None), "Interrupted after the batch was finished: nothing is left to do."),
    ],
)
def test_a_command_can_be_pasted_and_one_that_goes_on_is_named(written: str, command: str) -> None:
    assert written == command


def test_an_export_goes_back_into_its_batch_and_that_of_a_rehearsal_is_practised_elsewhere(tmp_path: Path) -> None:
    installation = Installation({"OATHBULK_HOME": str(tmp_path)})
    said, of_refused = describe_way_back(installation, "july 1", Path("left.csv"), 2, 2)
    assert said.endswith("then: oathbulk mend 'july 1' left.csv")
    assert of_refused.startswith("Of the 2 rows that were not loaded, only the serial number is kept: ")
    # An export has no seeds, so a file with nothing else is of no use to a mend.
    (only_list,) = describe_way_back(installation, "july", Path("left.csv"), 2, 2, "box.xml")
    assert only_list.endswith(": oathbulk mend july box.xml --assign LIST")
    rehearsal = Installation({"OATHBULK_HOME": str(tmp_path / "oathbulk-rehearsals" / "rehearsal")})
    assert [*describe_way_back(rehearsal, "rehearsal", Path("failed.csv"), 1)] == [
        "The PingOne of this rehearsal ended with it. To practice how tokens come back: "
        "oathbulk simulator --tokens 12 --pairs pairs.csv --troubles 1"
    ]


@pytest.mark.parametrize(
    ("batch", "file", "name"),
    [("wave-04 ", "box.csv", "wave-04"), (" wave 04", "box.csv", "wave 04"), (None, "wave-04 .csv", "wave-04")],
)
def test_blanks_around_a_batch_s_name_are_not_part_of_it(batch: str | None, file: str, name: str) -> None:
    assert LoadOptions(batch=batch).name_batch(Path(file)) == name


@pytest.mark.parametrize(
    ("typed", "option", "words"),
    [
        ({"digits": 0}, "--digits", "6 or 8"),
        ({"digits": 7}, "--digits", "6 or 8"),
        ({"time_step": 0}, "--time-step", "30 or 60"),
        ({"time_step": 45}, "--time-step", "30 or 60"),
        ({"may_import": True}, "--import", "add --pair"),
    ],
)
def test_an_option_that_can_lead_to_nothing_is_refused_before_a_file_is_read(
    typed: dict[str, Any], option: str, words: str
) -> None:
    with pytest.raises(typer.BadParameter, match=words) as refused:
        SourceOptions(**typed).open(Path("no such file"))
    assert refused.value.param_hint == option


@pytest.mark.parametrize(
    ("typed", "source", "option", "words"),
    [
        ({"only_assigned": True}, {}, "--only-assigned", "add --assign"),
        ({"gives_out": True}, {}, "--give-out", "add --pair"),
        (
            {"gives_out": True, "only_assigned": True},
            {"may_pair": True, "assign": Path("who.csv")},
            "--give-out",
            "only one of these two",
        ),
    ],
)
def test_an_option_of_a_load_that_can_lead_to_nothing_is_refused_before_a_file_is_read(
    typed: dict[str, Any], source: dict[str, Any], option: str, words: str
) -> None:
    with pytest.raises(typer.BadParameter, match=words) as refused:
        LoadOptions(**typed, source=SourceOptions(**source)).open(Path("no such file"))
    assert refused.value.param_hint == option


def test_a_mend_takes_no_option_that_says_which_tokens_a_batch_gets() -> None:
    taken = {each.name for each in make_command("mend").params}
    assert not taken & {"only_assigned", "gives_out"}
    assert {field.name for field in fields(SourceOptions)} < taken


# Keys and passwords.


@pytest.mark.parametrize(
    ("option", "content", "mode", "complaint"),
    [
        ("password_file", b"", 0o600, "is empty"),
        ("password_file", b"\xef\xbb\xbf\r\n", 0o600, "is empty"),
        ("key_file", b" \n", 0o600, "is empty"),
        ("key_file", b"k" * 5000, 0o600, "is too long for a key or a password"),
        ("key_file", b"k" * 16, 0o644, "can be read by every user. Make it private: chmod 600 "),
    ],
)
def test_a_file_of_a_key_or_a_password_that_will_not_do_is_named_with_its_own_fault(
    option: str, content: bytes, mode: int, complaint: str
) -> None:
    # A directory that every user may enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        path = write_secret(Path(directory), content, mode)
        with pytest.raises(UnusableFile) as caught:
            SourceOptions(**{option: path}).open(PSKC / "pskc_pbkdf2.xml")
    assert str(caught.value).startswith(f"{path}: {complaint}")


def write_secret(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("stdin", [None, io.StringIO()], ids=["closed", "no terminal"])
def test_where_nobody_can_be_asked_for_a_key_the_option_is_named(
    stdin: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SecretMissing, match="with --key-file"):
        SourceOptions().open(PSKC / "encrypted_counter.xml")


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
    source = SourceOptions(**{option: write_secret(tmp_path, mark + secret)})
    assert len(list(source.open(PSKC / sample).tokens())) == 3


def test_a_key_that_is_not_in_hexadecimal_is_told_how_it_is_written(tmp_path: Path) -> None:
    path = write_secret(tmp_path, b"ABEiM0RVZneImaq7zN3u/w==\n")
    with pytest.raises(UnusableFile, match=r"the key has 25\. .* with --key-file, in hexadecimal or as raw bytes"):
        SourceOptions(key_file=path).open(PSKC / "pskc_psk_aes128cbc.xml")


# Files that are not written over.


@pytest.mark.parametrize("name", ["box.csv", "who.csv", "box.key", "box.password"])
def test_a_file_that_is_read_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("kept")
    named = {"assign": "who.csv", "key_file": "box.key", "password_file": "box.password"}
    source = SourceOptions(**{option: tmp_path / each for option, each in named.items()})  # type: ignore[arg-type]
    # The same file by another way.
    output = tmp_path / ".." / tmp_path.name / name
    with pytest.raises(
        typer.BadParameter,
        match=rf"{name} is an input of this command, and would be lost: give "
        rf"another name",
    ):
        source.refuse_to_replace(tmp_path / "box.csv", output)
    source.refuse_to_replace(tmp_path / "box.csv", tmp_path / "verdicts.csv")


def test_a_check_does_not_write_over_the_shipment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path / "home"))
    (box := tmp_path / "box.csv").write_text(seeds := "MADE0000001,d2f7a4affb163ad95f3593f4c6f9b05b89a8105b,hotp,6,0\n")
    ended = CliRunner().invoke(app, ["check", "-o", str(box), str(box), "--offline", "--overwrite"])
    assert (ended.exit_code, box.read_text()) == (2, seeds)


@pytest.mark.parametrize("content", ["", "serial,otp1,otp2\nA1,755224,287082\n", "a page"])
def test_a_file_that_exists_is_replaced_with_overwrite_alone_whatever_is_in_it(content: str, tmp_path: Path) -> None:
    refuse_unfit(file := tmp_path / "failed.csv", overwrite=False)
    file.write_text(content)
    with pytest.raises(typer.BadParameter) as refused:
        refuse_unfit(file, overwrite=False)
    assert str(refused.value) == f"{file} exists: give another name, or --overwrite to replace it"
    refuse_unfit(file, overwrite=True)


@pytest.mark.parametrize("name", ["oathbulk.db", "oathbulk.db-wal", "encryption.key", "audit.heads", "oathbulk.toml"])
def test_no_file_of_the_installation_is_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OATHBULK_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for output in (tmp_path / name, Path(name)):
        with pytest.raises(typer.BadParameter, match="belongs to the installation itself: give another name"):
            refuse_unfit(output, overwrite=True)
    refuse_unfit(tmp_path / "july.csv", overwrite=False)
    (tmp_path / "copies").mkdir()
    refuse_unfit(tmp_path / "copies" / name, overwrite=False)


# Refused rows, as they are printed.


EACH = "Every row: oathbulk export july --status refused -o july-refused.csv"
SAME = dict.fromkeys([3, 8, 9, 10, 11, 12, 40], "otp1 is empty")
# What differs is the row that another batch has of each token.
IN_PROGRESS = {number: f"it is in progress in batch 'june' (row {number + 5}): wait" for number in (2, 3)}
SCATTERED = dict.fromkeys(range(0, 2 * SHOWN + 2, 2), "otp1 is empty")
PRINTED: dict[str, tuple[dict[int, str], str | None, list[str]]] = {
    "none": ({}, None, []),
    "a row alone": ({7: "otp1 is empty"}, "MADE7", ["row 7 (MADE7): otp1 is empty"]),
    "without a token": ({7: "serial is empty"}, None, ["row 7: serial is empty"]),
    "the same fault": (
        SAME | {41: "otp2 is empty"},
        "MADE7",
        ["7 rows (3, 8-12, 40): otp1 is empty", "row 41 (MADE7): otp2 is empty", EACH],
    ),
    "other rows of another batch": (
        IN_PROGRESS,
        None,
        ["2 rows (2-3): it is in progress in batch 'june': wait", EACH],
    ),
    "one of them": ({2: IN_PROGRESS[2]}, None, [f"row 2: {IN_PROGRESS[2]}"]),
    "more faults than are shown": (
        {number: f"fault {number}" for number in range(SHOWN + 3)},
        None,
        [*(f"row {number}: fault {number}" for number in range(SHOWN)), f"… and 3 more. {EACH}"],
    ),
    "more places than are shown": (
        SCATTERED,
        None,
        [
            f"{len(SCATTERED)} rows ({', '.join(map(str, [*SCATTERED][:SHOWN]))} and 1 more place): otp1 is empty",
            EACH,
        ],
    ),
    "more than are kept": (
        dict.fromkeys(range(KEPT + 5), "otp1 is empty"),
        None,
        [f"{KEPT} rows (0-{KEPT - 1}): otp1 is empty", f"… and 5 more. {EACH}"],
    ),
}


def collect(errors: Iterable[RowError]) -> RowErrors:
    collected = RowErrors()
    for error in errors:
        collected.add(error)
    return collected


@pytest.mark.parametrize(("reasons", "serial", "lines"), PRINTED.values(), ids=PRINTED)
def test_rows_with_the_same_fault_are_one_line_and_a_command_lists_each(
    reasons: dict[int, str], serial: str | None, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    refused = [RowError(number, reason, serial, RowFault.OTPS_UNFIT) for number, reason in reasons.items()]
    print_refused_rows(collect(refused), EACH.partition(": ")[2])
    assert capsys.readouterr().err.splitlines() == lines


def test_a_fault_of_the_list_names_its_lines_and_not_the_rows_of_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "the list's not_before is not a date"
    faults = [RowError(row, reason, "MADE7", RowFault.DATE_UNFIT, line) for row, line in ((1, 9), (2, 8), (7, 3))]
    print_refused_rows(collect(faults), "oathbulk check")
    print_refused_rows(collect(faults[:1]), "oathbulk check")
    printed = capsys.readouterr().err.splitlines()
    assert printed[::2] == [f"3 lines of the list (3, 8-9): {reason}", f"line 9 of the list (MADE7): {reason}"]


# Servers of commands.


def test_a_simulator_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text('{"no such": 1}')
    with (
        pytest.raises(EmbeddedError, match=r"the simulator does not start: .*no such"),
        running_simulator(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "names"),
    [
        (("127.0.0.1", 8765), ["127.0.0.1:8765", "localhost:8765"]),
        (("0.0.0.0", 8765), ["0.0.0.0:8765", "localhost:8765", "127.0.0.1:8765"]),
        (("::1", 8765, 0, 0), ["[::1]:8765", "localhost:8765", "127.0.0.1:8765"]),
        (("127.0.0.1", 80), ["127.0.0.1", "localhost"]),
    ],
    ids=["loopback", "all addresses", "IPv6", "the port that browsers leave out"],
)
def test_the_desk_answers_to_what_a_browser_writes_for_its_socket(address: tuple[str, int], names: list[str]) -> None:
    assert list_own_names(address) == names
