"""Files that were cut off, at each byte: what loads of one is what the whole file has, to the last fact. A last row
without a line break at its end that is whole still loads."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.data.seed_files import NOON, SAMPLES, SECRETS

from worker.intake import Hints, Row, RowError, UnusableFile, open_assignment
from worker.intake.csv_rows import CUT_OFF
from worker.intake.files import HEAD, OpenFile
from worker.intake.formats import FORMATS, choose_format, open_table
from worker.intake.lists import LIST_CUT_OFF

# What opens the encrypted samples.
KEYS = {"key": bytes.fromhex("00112233445566778899aabbccddeeff"), "password": b"made-up-pass"}
# What a person may say beside the file: nothing, or what a row that was cut off does not say any more.
NOTHING_SAID, TOTP_SAID = Hints(**KEYS), Hints(otp_type="totp", time_step=30, **KEYS)
ALL_SAMPLES = sorted(path for root in (SAMPLES, SAMPLES.parent / "otp_pairs") for path in root.glob("*/*"))
# Bytes of a sample that are cut at each of its bytes; of a larger one, so many at its beginning and at its end are.
SMALL, AT_BEGINNING, AT_END = 1200, 64, 512


# Samples of a refused row whose fault stands at its end, and may be cut away; what is left is good.
FAULT_AT_END = {
    "etoken_dat_no_colon.dat",
    "etoken_dat_two_in_a_block.dat",
    "nexus_too_many_fields.txt",
    "oath_csv_counter_too_high.csv",
    "oath_csv_hash_md5.csv",
    "oath_csv_too_many_fields.csv",
    "serial_secret_fields.csv",
    "too_many_fields.csv",
}


def read(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row | RowError]:
    """Read columns and rows; none of a file that is refused."""
    path = Path("tokens")
    try:
        chosen = FORMATS[format_name] if format_name else choose_format(path, content[:HEAD])
        return list(open_table(chosen, OpenFile(path, io.BytesIO(content), hints), NOON)[1])
    except UnusableFile:
        return []


def read_loaded(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row]:
    return [row for row in read(content, hints, format_name) if isinstance(row, Row)]


def choose_lengths(content: bytes) -> list[int]:
    """Choose how many bytes are left of a sample."""
    size = len(content)
    return [left for left in range(size) if size <= SMALL or left < AT_BEGINNING or left >= size - AT_END]


def read_right_rows(content: bytes, hints: Hints, format_name: str | None) -> list[Row]:
    """Read the rows that a file has; of one that is refused as a whole, those of its lines above the fault."""
    if read(content, hints, format_name):
        return read_loaded(content, hints, format_name)
    ends = [place for place, byte in enumerate(content, 1) if byte == ord("\n")]
    return [row for end in ends for row in read_loaded(content[:end], hints, format_name)]


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_that_is_cut_at_any_byte_gives_rows_of_the_whole_file_alone(path: Path) -> None:
    # The rounds of PBKDF2 in some samples take too long to be done hundreds of times.
    content = path.read_bytes().replace(b">20000<", b">1<")
    is_of_seeds = path.parents[1] == SAMPLES and path.suffix not in (".xml", ".json")
    for hints in (NOTHING_SAID, TOTP_SAID) if is_of_seeds else (NOTHING_SAID,):
        for name in {None, path.parent.name} & {None, *FORMATS} if is_of_seeds else {None}:
            right = read_right_rows(content, hints, name)
            refused = {row.row_number for row in read(content, hints, name) if isinstance(row, RowError)} or {1}
            for left in choose_lengths(content):
                wrong = [row for row in read_loaded(content[:left], hints, name) if row not in right]
                if path.name in FAULT_AT_END:
                    wrong = [row for row in wrong if row.row_number not in refused]
                assert not wrong, (left, name, content[:left][-40:])


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("*/*.xml")) + sorted(SAMPLES.glob("*/*.json")), ids=lambda p: p.name
)
def test_a_tree_that_does_not_close_is_refused_as_a_whole(path: Path) -> None:
    content = path.read_bytes().replace(b">20000<", b">1<")
    whole = read(content, NOTHING_SAID)
    for left in range(max(0, len(content) - 100), len(content)) if whole else ():
        assert read(content[:left], NOTHING_SAID) in ([], whole)


SEED1, SEED2, SEED3 = (SECRETS[f"MADE000000{number}"] for number in (1, 2, 3))
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
OATH = f"MADE1,{SEED1},hotp,6,0\n"
PAIRS = "serial,otp1,otp2"
ENTRA = f"serial,secret key,time interval,model\nMADE1,{'A' * 32},30,T100\n"
# The text of a file that is whole, but for the line break at its end; its last row is like the others, or has an end
# that can be seen.
WHOLE = [
    f"MADE1,{SEED1},hotp,6,0",
    f"MADE1,{SEED1},totp,6,30,sha256",
    "MADE1:0vekr/sWOtlfNZP0xvmwW4moEFs=:AA==",
    f"sccAuthenticatorId: MADE1\nsccTokenData: sccKey={SEED1};sccMode=E;sccPwLen=6;",
    f"{OATH}MADE2,{SEED2},hotp,6,0",
    f"{OATH}MADE2,{SEED2},totp,6,30\nMADE3,{SEED3},totp,8,60",
    f"MADE1,{SEED1},0\nMADE2,{SEED2},0",
    f"{OATH}MADE2,{SEED2},hotp,6,0\r",
    f"{PAIRS}\nMADE1,308714,367299",
    f"{PAIRS}\nMADE1,308714,367299\nMADE2,30871488,36729988",
    f"{PAIRS},user_id,device_id\nMADE1,308714,367299,{USER},{DEVICE}",
    f"{PAIRS},email\nMADE1,308714,367299,alice@example.test\nMADE2,308714,367299,bob@example.test",
    f"{PAIRS},shelf\nMADE1,308714,367299,north\nMADE2,308714,367299,north",
    f'{PAIRS},username\nMADE1,308714,367299,ann\nMADE2,308714,367299,"anna"',
    "serial,otp1\nMADE1,308714\nMADE2,367299",
    f"{PAIRS},type,generated_at\nMADE1,308714,367299,totp,2026-03-01T09:30:00Z",
    f"{ENTRA}MADE2,{'B' * 32},30,T100",
    f"HOTP;MADE1;{SEED1};0\nHOTP;MADE2;{SEED2};0",
    f"TOTP;MADE1;SHA1;{SEED1};0;30;8\nTOTP;MADE2;SHA1;{SEED2};0;30;6",
]
# The same of files whose last row may be cut off.
DOUBTFUL = [
    f"MADE1,{SEED1},totp,6,30",
    f"MADE1,{SEED1},hotp,6",
    f"{OATH}MADE2,{SEED2}",
    f"{OATH}MADE2,{SEED2},totp",
    f"{OATH}MADE2,{SEED2},totp,8",
    f"{OATH}MADE2,{SEED2},hotp,6,",
    f"{OATH}MADE2,{SEED2},hotp,6,8",
    f"MADE1,{SEED1},hotp,6,8\nMADE2,{SEED2},hotp,6,8",
    f"{OATH}MADE2,{SEED2},totp,8,60",
    f"MADE1,{SEED1}\nMADE2,{SEED2},hotp,8",
    f"{OATH}MADE2,{SEED2[:20]}",
    f"{PAIRS}\nMADE1,308714,",
    "serial,otp1\nMADE1,308714",
    "serial,otp1\nMADE1,30871488\nMADE2,308714",
    f"{PAIRS},email\nMADE1,308714,367299,alice@example.test\nMADE2,308714,367299,bob@example.tes",
    f"{PAIRS},email\nMADE1,308714,367299,\nMADE2,308714,367299,bob@",
    f"{PAIRS},username\nMADE1,308714,367299,ann\nMADE2,308714,367299,ann",
    f"{PAIRS},username\nMADE1,308714,367299,\nMADE2,308714,367299,",
    f"{PAIRS},shelf\nMADE1,308714,367299,north\nMADE2,308714,367299,no",
    f"{PAIRS},type,generated_at\nMADE1,308714,367299,totp,2026-03-01T09:30:00+05",
    "otp1,otp2,serial\n308714,367299,MADE1\n308714,367299,MADE2",
    f"{ENTRA}MADE2,{'B' * 32},30",
    f"{ENTRA}MADE2,{'B' * 32},30,T",
    "MADE1:0vekr/sWOtlfNZP0xvmwW4moEFs=:AA==\nMADE2:0vekr/sWOtlfNZP0xvmwW4moEFs=:AAAAAAAA",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_last_row_that_is_whole_loads_without_a_line_break(text: str) -> None:
    rows = read(text.encode(), NOTHING_SAID)
    assert rows
    assert all(isinstance(row, Row) for row in rows)
    assert rows == read(text.encode() + b"\n", NOTHING_SAID)


@pytest.mark.parametrize("text", DOUBTFUL)
def test_a_last_row_that_may_be_cut_off_is_refused_until_a_line_break_says_that_it_is_whole(text: str) -> None:
    *others, last = read(text.encode(), TOTP_SAID if ENTRA in text else NOTHING_SAID)
    assert all(isinstance(row, Row) for row in others)
    assert isinstance(last, RowError)
    assert last.reason == CUT_OFF
    assert isinstance(read(text.encode() + b"\n", TOTP_SAID if ENTRA in text else NOTHING_SAID)[-1], Row)


@pytest.mark.parametrize(
    ("text", "loads"),
    [
        ("serial,username\nMADE1,ann\nMADE2,ann", False),
        ("serial,email\nMADE1,ann@example.test\nMADE2,anna@example.test", True),
        ("serial,email\nMADE1,ann@example.test\nMADE2,anna@example.te", False),
        (f"serial,user_id\nMADE1,{USER}\nMADE2,{DEVICE}", True),
        ("email,serial\nann@example.test,MADE1\nanna@example.test,MADE2", False),
        ("serial,username\nMADE1,ann\nMADE2,anna\n", True),
    ],
)
def test_the_last_line_of_a_list_of_who_gets_what_is_refused_as_well(tmp_path: Path, text: str, loads: bool) -> None:
    path = tmp_path / "who.csv"
    path.write_text(text)
    assignment = open_assignment(path)
    assert list(assignment.lines) == ["MADE1", "MADE2"]
    assert assignment.faults == ({} if loads else {"MADE2": LIST_CUT_OFF})
