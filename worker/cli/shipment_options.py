"""Options for commands that load a shipment, check it, or mend a batch with it, including how its file is read. The
commands share them, and can print them again as they were typed."""

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from worker.cli.options import (
    EnvironmentName,
    Hours,
    Offline,
    Share,
    Ticket,
    Zone,
    parse_hours,
    parse_zone,
)
from worker.config.environment import DEFAULT_ENVIRONMENT
from worker.config.settings import ConfigError
from worker.config.trusted_files import refuse_open_secrets
from worker.intake.files import BYTE_ORDER_MARK, Encoding, Hints
from worker.intake.lists import open_assignment
from worker.intake.rows import SecretMissing, UnusableFile
from worker.intake.shipment import Shipment, Switches, open_shipment
from worker.intake.tokens import DIGITS, TIME_STEPS
from worker.preflight.findings import Question
from worker.rules.hours import DailyHours
from worker.vault.otps import HashAlgorithm, OtpType

# A key or a password in a file longer than this, in bytes, is refused.
LONGEST_SECRET = 4096

# Defined here, not with the other options: its values come from the preflight, which only a few commands import.
Accept = Annotated[
    list[Question] | None,
    typer.Option("--accept", metavar="NAME", help="Continue despite this finding; repeatable."),
]


def takes_option_sets(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of each parameter that is a dataclass of options; the command gets the dataclass."""
    declared = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def with_options(**values: Any) -> None:
        command(**{name: _take(name, each.annotation, values) for name, each in declared.items()})

    parameters = [
        parameter
        for name, each in declared.items()
        for parameter in _make_parameters(name, each.annotation, each.default)
    ]
    # Typer reads the options of a command from its signature.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options


def _make_parameters(name: str, kind: Any, default: Any) -> list[inspect.Parameter]:
    """Make the parameter with this name; for a dataclass, one for each field."""
    if not is_dataclass(kind):
        return [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)]
    hints = get_type_hints(kind, include_extras=True)
    return [
        parameter for each in fields(kind) for parameter in _make_parameters(each.name, hints[each.name], each.default)
    ]


def _take(name: str, kind: Any, values: dict[str, Any]) -> Any:
    """Take the value with this name; make a dataclass from the values of its fields."""
    if not isinstance(kind, type) or not is_dataclass(kind):
        return values[name]
    hints = get_type_hints(kind)
    return kind(**{each.name: _take(each.name, hints[each.name], values) for each in fields(kind)})


def write_words(options: Any) -> list[str]:
    """Write a set of options as typed, without those that have their defaults."""
    hints, words = get_type_hints(type(options), include_extras=True), list[str]()
    for each in fields(options):
        value = getattr(options, each.name)
        if is_dataclass(value):
            words += write_words(value)
        elif value != each.default:
            (option,) = hints[each.name].__metadata__
            # Typer keeps the first name of an option in an annotation as its default.
            named = option.default if isinstance(option.default, str) else f"--{each.name.replace('_', '-')}"
            for one in value if isinstance(value, list) else [value]:
                words += [named] if one is True else [named, str(one)]
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What a person says about a shipment's file. Each field is an option of the commands."""

    assign: Annotated[
        Path | None, typer.Option("--assign", metavar="FILE", help="CSV of who gets which token: serial, and a person.")
    ] = None
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Skip tokens that another batch made active, instead of refusing.")
    ] = False
    format_name: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="Read the file as this format: see `oathbulk formats`."),
    ] = None
    key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The key that the vendor sent separately: hexadecimal or raw bytes."),
    ] = None
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The password that the vendor sent separately.")
    ] = None
    encoding: Annotated[Encoding | None, typer.Option(help="The encoding of secrets, if it is ambiguous.")] = None
    otp_type: Annotated[OtpType | None, typer.Option(help="The type of the tokens, if the file does not say.")] = None
    digits: Annotated[int | None, typer.Option(help="Digits of an OTP, 6 or 8, if the file does not say.")] = None
    time_step: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="TOTP's time step, 30 or 60, if the file does not say.")
    ] = None
    hash_algorithm: Annotated[
        HashAlgorithm | None, typer.Option("--hash", help="TOTP's hash, if the file does not say.")
    ] = None
    zone: Zone = None
    may_import: Annotated[
        bool, typer.Option("--import", help="Create tokens that PingOne's inventory lacks. Needs --pair.")
    ] = False
    may_pair: Annotated[
        bool, typer.Option("--pair", help="Pair tokens with their people, which creates the missing devices.")
    ] = False

    def open(
        self,
        file: Path,
        is_loaded: Callable[[Shipment], bool] = lambda _: False,
        *,
        only_assigned: bool = False,
        gives_out: bool = False,
        mends: bool = False,
    ) -> Shipment:
        """Open a shipment's file; in a terminal, ask for the key or the password that it needs. If `is_loaded` returns
        True for a shipment, it needs neither, and is returned without its rows. `only_assigned`: skip tokens that the
        list gives to nobody; `gives_out`: take them without a person; `mends`: the rows belong to a loaded batch.
        Raises UnusableFile, typer.BadParameter."""
        self._refuse_unfit()
        zone = parse_zone(self.zone)
        options: dict[str, Any] = {
            "format_name": self.format_name,
            "assignment": open_assignment(self.assign, zone) if self.assign else None,
            "only_assigned": only_assigned,
            "only_new": self.only_new,
            "gives_out": gives_out,
            "switches": Switches(self.may_import, self.may_pair),
        }
        hints = Hints(
            encoding=self.encoding,
            otp_type=self.otp_type,
            digits=self.digits,
            time_step=self.time_step,
            hash_algorithm=self.hash_algorithm,
            zone=zone,
            key=_read_key(self.key_file) if self.key_file else None,
            password=_read_password(self.password_file) if self.password_file else None,
            mends=mends,
        )
        while True:
            try:
                return open_shipment(file, hints=hints, **options)
            except SecretMissing as missing:
                if is_loaded(unread := open_shipment(file, hints=hints, must_read=False, **options)):
                    return unread
                # None: standard input is closed.
                if sys.stdin is None or not sys.stdin.isatty():
                    raise
                hints = _ask_for(missing.kind, hints)

    def _refuse_unfit(self) -> None:
        """Refuse options that cannot work. Raises typer.BadParameter."""
        lacks_pair = self.may_import and not self.may_pair
        has_other_digits = self.digits not in (None, *DIGITS)
        has_other_step = self.time_step not in (None, *TIME_STEPS)
        _refuse_where(lacks_pair, "--import", "an imported token has no device yet: add --pair")
        _refuse_where(has_other_digits, "--digits", "must be 6 or 8: PingOne accepts no other number of digits")
        _refuse_where(has_other_step, "--time-step", "PingOne takes only 30 or 60 seconds")

    def refuse_to_replace(self, file: Path, output: Path) -> None:
        """Refuse to overwrite the shipment's file, or another input. Raises typer.BadParameter."""
        read = [each for each in (file, self.assign, self.key_file, self.password_file) if each is not None]
        if output.exists() and any(each.exists() and each.samefile(output) for each in read):
            raise typer.BadParameter(f"{output} is an input of this command, and would be lost: give another name")


def _refuse_where(is_unfit: bool, option: str, problem: str) -> None:
    """Refuse an option that is unfit. Raises typer.BadParameter."""
    if is_unfit:
        raise typer.BadParameter(problem, param_hint=option)


def _ask_for(kind: Literal["key", "password"], hints: Hints) -> Hints:
    """Ask for a key or a password, without showing it. Raises typer.Abort at Ctrl-C."""
    if kind == "key":
        return replace(hints, key=_decode_key(typer.prompt("Key of the file (hexadecimal)", hide_input=True, err=True)))
    return replace(hints, password=typer.prompt("Password of the file", hide_input=True, err=True).encode())


def _read_key(path: Path) -> bytes:
    """Read a key: hexadecimal, with or without blanks, or raw bytes. Raises UnusableFile."""
    raw = _read_secret(path)
    try:
        return _decode_key(raw.removeprefix(BYTE_ORDER_MARK).decode("ascii"))
    except (UnicodeDecodeError, typer.BadParameter):
        return raw


def _read_password(path: Path) -> bytes:
    """Read a password, without the byte order mark and line ends that an editor may add. Raises UnusableFile."""
    return _read_secret(path).removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")


def _decode_key(text: str) -> bytes:
    """Read a key that is written in hexadecimal. Raises typer.BadParameter, which does not quote it."""
    try:
        return bytes.fromhex("".join(text.split()))
    except ValueError:
        raise typer.BadParameter("the key is not hexadecimal", param_hint="--key-file") from None


def _read_secret(path: Path) -> bytes:
    """Read a key or password file, which must be small and not readable by every user. Raises UnusableFile."""
    try:
        refuse_open_secrets(path)
        with path.open("rb") as file:
            secret = file.read(LONGEST_SECRET + 1)
    except OSError as error:
        raise UnusableFile(path, f"cannot be read ({error.strerror})", "Check its path and its mode") from error
    except ConfigError as error:
        raise UnusableFile(path, "can be read by every user", f"Make it private: chmod 600 {path}") from error
    if not secret.removeprefix(BYTE_ORDER_MARK).strip():
        raise UnusableFile(path, "is empty", "Write the key or the password into it, or give another file")
    if len(secret) > LONGEST_SECRET:
        raise UnusableFile(path, "is too long for a key or a password", "Give a file that holds nothing else")
    return secret


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The options that a person gives with a shipment, as typed: each field is an option of `load`, `run`, and `check`.
    `share` is a part of the ceiling, above 0 and up to 1; `canary` is the number of records after which the batch
    pauses; `source` says how the file is read."""

    batch: Annotated[
        str | None, typer.Option("--batch", metavar="NAME", help="The batch's name. Default: the file's name.")
    ] = None
    environment: EnvironmentName = DEFAULT_ENVIRONMENT
    canary: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pause after the first N records, so that you can check them."),
    ] = None
    share: Share = None
    window: Hours = None
    offline: Offline = False
    accept: Accept = None
    ticket: Ticket = None
    only_assigned: Annotated[
        bool, typer.Option("--only-assigned", help="Skip tokens without a person instead of refusing them.")
    ] = False
    gives_out: Annotated[
        bool, typer.Option("--give-out", help="Also load tokens without a person, to give out later.")
    ] = False
    source: SourceOptions = field(default_factory=SourceOptions)

    def __post_init__(self) -> None:
        """Refuse hours that cannot be read before anything is done. Raises typer.BadParameter."""
        _ = self.hours

    @property
    def hours(self) -> DailyHours | None:
        """When the batch may run; None: at all times."""
        return parse_hours(self.window, self.source.zone) if self.window else None

    def open(self, file: Path, is_loaded: Callable[[Shipment], bool] = lambda _: False) -> Shipment:
        """Open the shipment's file as `SourceOptions.open` does. Raises UnusableFile, typer.BadParameter."""
        lacks_list = self.only_assigned and not self.source.assign
        is_kept = self.gives_out and self.only_assigned
        gives_unpaired = self.gives_out and not self.source.may_pair
        _refuse_where(lacks_list, "--only-assigned", "no list says who gets what: add --assign")
        _refuse_where(is_kept, "--give-out", "it loads what --only-assigned skips: use only one of these two options")
        _refuse_where(gives_unpaired, "--give-out", "a token to give out has no device yet: add --pair")
        return self.source.open(file, is_loaded, only_assigned=self.only_assigned, gives_out=self.gives_out)

    def name_batch(self, file: Path) -> str:
        """Choose the batch's name. Nobody sees the blanks around it, and nobody would type them again."""
        return (self.batch or file.stem).strip()

    @property
    def accepted(self) -> frozenset[str]:
        """Findings of the preflight that do not keep the shipment from being loaded."""
        return frozenset(map(str, self.accept or ()))


def write_command(command: str, file: Path, words: Sequence[str]) -> str:
    """Write the `oathbulk` command line that runs this command on a file with these options, quoted for a shell."""
    # A name that begins with - would be taken for an option.
    named = f"./{file}" if str(file).startswith("-") else str(file)
    return shlex.join(["oathbulk", command, named, *words])


def write_listing_command(file: Path, asked: LoadOptions) -> str:
    """Write the command that lists every refused row of this file."""
    telling = replace(asked, batch=None, canary=None, share=None, window=None, accept=None, ticket=None)
    return write_command("check", file, [*write_words(telling), "--json"])
