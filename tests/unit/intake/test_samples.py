"""Each format's samples: the tokens that they hold, and the OTPs that these tokens show."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.data.seed_files import NOON, SAMPLES, SECRETS, check, find_quoted, hotp, read, totp

from worker.intake import Hints, Row, RowError, UnusableFile, formats, open_shipment
from worker.intake.files import OpenFile
from worker.intake.formats import FORMATS, OtherFormat, choose_format, open_table
from worker.vault.otps import Secret, Seed

HOTP = Hints(otp_type="hotp")
TOTP_30 = Hints(otp_type="totp", time_step=30)


# Sample -> hints, and its tokens; a text stands for a row that is refused, and is part of its reason.
EXPECTED: dict[str, tuple[Hints, list[dict[str, Any] | str]]] = {
    "oath-csv/oath_csv_privacyidea_v1.csv": (
        Hints(),
        [hotp("MADE0000001", row_number=2), hotp("MADE0000002"), totp("MADE0000003", 30, row_number=4)],
    ),
    "oath-csv/oath_csv_privacyidea_v2.csv": (
        Hints(),
        [
            hotp("MADE0000001", row_number=2, username="alice", extra={"resolver": "ldap1", "realm": "realm1"}),
            totp("MADE0000003", 60, username=None, extra={}),
        ],
    ),
    "oath-csv/version_2_after_excel.csv": (
        Hints(),
        [hotp("MADE0000001", row_number=3, username="alice", extra={"resolver": "ldap1", "realm": "realm1"})],
    ),
    "oath-csv/oath_csv_linotp.csv": (
        Hints(),
        [hotp("MADE0000001"), totp("MADE0000009", 60, digits=8, hash_algorithm="sha256")],
    ),
    "serial-secret/pingid_console_hotp.csv": (Hints(), [hotp("MADE0000001"), hotp("MADE0000002", row_number=2)]),
    "serial-secret/pingid_console_totp30.csv": (TOTP_30, [totp("MADE0000003", 30)]),
    "serial-secret/empty_columns_of_excel.csv": (Hints(), [hotp("MADE0000001"), hotp("MADE0000002", 1)]),
    "serial-secret/ibm_base32.csv": (HOTP, [hotp("MADE0000001"), hotp("MADE0000002")]),
    "entra/entra_upload.csv": (
        Hints(),
        [
            totp(
                "MADE0000003",
                30,
                row_number=2,
                username="alice@example.test",
                extra={"manufacturer": "MadeUp", "model": "T100"},
            )
        ],
    ),
    "entra/deepnet_entra_no_upn.csv": (Hints(), [totp("MADE0000003", 60, username=None)]),
    "entra/script_with_hash_function.csv": (Hints(), [totp("MADE0000003", 60, hash_algorithm="sha256")]),
    "entra/semicolons_and_blanks.csv": (
        Hints(),
        [totp("MADE0000003", 30, extra={"manufacturer": "MadeUp", "model": "T100"})],
    ),
    "entra/number_column.csv": (Hints(), [totp("MADE0000003", 30, extra={"#": "1"})]),
    "entra/header_that_begins_with_hash.csv": (
        Hints(),
        [
            totp("MADE0000003", 30, row_number=3, extra={"#No": "1"}),
            totp("MADE0000003", 30, row_number=5, extra={"#No": "#2"}),
        ],
    ),
    "graph-json/entra_graph_inventory.json": (
        Hints(),
        [totp("MADE0000003", 30, row_number=1, extra={"manufacturer": "MadeUp", "model": "T100"})],
    ),
    "graph-json/graph_one_assigned.json": (
        Hints(),
        [totp("MADE0000003", 30, external_id="6F1D3C1E-0c52-4b8e-9d1f-2a7b6c5d4e3f")],
    ),
    "graph-json/uniquk_inventory.json": (
        Hints(),
        [totp("MADE0000003", 30), totp("MADE0000004", 60, hash_algorithm="sha256", row_number=2)],
    ),
    "safenet-xml/safenet_aladdin.xml": (Hints(), [hotp("MADE0000001", 1, extra={"model": "Made Up Token"})]),
    "deepnet-xml/dualshield.xml": (Hints(), [totp("MADE0000003", 60)]),
    "yubico/yubico_traditional.csv": (Hints(), [hotp("cccccccccccb", row_number=2), "neither HOTP nor TOTP"]),
    "yubico/yubico_format.csv": (Hints(), [hotp("9900001"), "neither HOTP nor TOTP"]),
    "yubico/moving_factor_traditional.csv": (
        Hints(),
        [hotp("cccccccccccb", 4096, row_number=2, digits=8), "neither HOTP nor TOTP", "neither HOTP nor TOTP"],
    ),
    "yubico/access_code_and_moving_factor.csv": (Hints(), [hotp("9900001", row_number=1), hotp("9900001", 4096)]),
    "yubico/static_first.csv": (Hints(), ["neither HOTP nor TOTP", hotp("cccccccccccb")]),
    "etoken-dat/etoken.dat": (Hints(), [hotp("MADE0000001", row_number=2), "counts its time from 2000-01-01"]),
    "etoken-dat/without_blank_lines.dat": (
        Hints(),
        [hotp("MADE0000001", row_number=2), hotp("MADE0000002", row_number=6)],
    ),
    "phenixid/phenixid.csv": (Hints(), [hotp("MADE0000001"), hotp("MADE0000002"), totp("MADE0000003", 30)]),
    "nexus/nexus_colon.txt": (Hints(), [hotp("MADE0000001")]),
    "rcdevs/rcdevs_as_exported.csv": (
        Hints(),
        [
            totp("MADE0000003", 30, row_number=5, extra={"Description": "MadeUp T100"}),
            hotp("MADE0000001", 2, row_number=6, extra={"Description": "MadeUp H100"}),
        ],
    ),
    "rcdevs/header_that_begins_with_hash.csv": (Hints(), [totp("MADE0000003", 30, row_number=3)]),
    "rcdevs/rcdevs_inventory.csv": (
        Hints(),
        [totp("MADE0000003", 30, row_number=2, extra={"Description": "MadeUp T100"})],
    ),
}


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_sample_gives_its_tokens(sample: str) -> None:
    hints, expected = EXPECTED[sample]

    rows = read(SAMPLES / sample, hints)

    assert len(rows) == len(expected)
    for row, each in zip(rows, expected, strict=True):
        check(row, each)


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_sample_is_told_by_its_content_by_one_format_alone(sample: str) -> None:
    head = (SAMPLES / sample).read_bytes()
    found = [each.name for each in FORMATS.values() if each.name != "otp-pairs" and each.is_format_of(head)]
    assert found == [sample.partition("/")[0]]


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_file_may_be_named_by_its_format_and_gives_the_same(sample: str) -> None:
    hints, _ = EXPECTED[sample]
    assert read(SAMPLES / sample, hints, sample.partition("/")[0]) == read(SAMPLES / sample, hints)


@pytest.mark.parametrize("sample", ["nexus_hex.txt", "rcdevs_hex.csv"])
def test_hexadecimal_in_the_place_of_base64_is_read_if_that_is_said(sample: str) -> None:
    row = read(SAMPLES / "broken" / sample, Hints(encoding="hex"))[-1]
    assert isinstance(row, Row)
    assert isinstance(row.otps, Seed)
    assert row.otps.secret == Secret(bytes.fromhex(SECRETS[row.serial_number]))


@pytest.mark.parametrize("size", [10, 15, 20])
def test_hexadecimal_in_the_place_of_base64_is_refused_whatever_its_length(tmp_path: Path, size: int) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(f"MADE0000001:{SECRETS['MADE0000001'][: 2 * size]}:AA==\n")
    (row,) = read(path)
    assert isinstance(row, RowError)
    assert "--encoding hex" in row.reason


def test_the_cells_of_a_static_password_are_not_named() -> None:
    refused = read(SAMPLES / "yubico" / "static_first.csv")[0]
    assert isinstance(refused, RowError)
    assert refused.serial_number is None


def test_every_sample_is_expected() -> None:
    found = {
        f"{path.parent.name}/{path.name}"
        for path in SAMPLES.glob("*/*.*")
        if path.parent.name not in ("broken", "pskc")
    }
    assert found == set(EXPECTED)


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_repr_shows_no_secret(sample: str) -> None:
    hints, _ = EXPECTED[sample]
    assert find_quoted(repr(read(SAMPLES / sample, hints))) == set()


def test_the_title_and_the_name_of_each_format_are_its_own() -> None:
    assert len({each.title for each in FORMATS.values()}) == len(FORMATS)
    assert all(name == name.lower() and each.name == name for name, each in FORMATS.items())


def test_the_columns_are_those_that_hold_no_secret() -> None:
    path = SAMPLES / "entra" / "semicolons_and_blanks.csv"
    assert open_shipment(path).columns == ["upn", "serial number", "time interval", "manufacturer", "model"]


def test_a_vendor_s_file_has_no_ids_so_a_shipment_refuses_its_rows() -> None:
    rows = list(open_shipment(SAMPLES / "oath-csv" / "oath_csv_linotp.csv").rows())
    assert [type(row) for row in rows] == [RowError, RowError]


def test_a_vendor_s_header_says_more_than_the_words_in_the_third_column_below_it() -> None:
    head = b"serial number,secret key,manufacturer\nMADE0000003,NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3,MadeUp\n"
    assert choose_format(Path("shipment.csv"), head).name == "entra"


def test_a_line_of_text_that_begins_like_one_of_yubico_s_is_none() -> None:
    head = b"Notes\nConfiguration of the tokens\nStatic password, see below\n"
    assert choose_format(Path("shipment.csv"), head).name == "otp-pairs"


def test_separators_that_a_spreadsheet_adds_to_a_version_are_not_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text(f"# version: 2;;;;\nalice;ldap1;realm1;MADE0000001;{SECRETS['MADE0000001']};hotp;6;0\n")
    (row,) = read(path)
    assert isinstance(row, RowError)
    assert "another separator between its values" in row.reason


@pytest.mark.parametrize("counter", ["", "0", ";;;0;;"])
def test_a_line_of_phenixid_is_told_with_and_without_what_may_be_missing(counter: str) -> None:
    head = f"HOTP;MADE0000001;d2f7a4affb163ad95f3593f4c6f9b05b89a8105b;{counter}\n".encode()
    assert choose_format(Path("shipment.csv"), head).name == "phenixid"


@pytest.mark.parametrize(
    "text",
    [
        '{"value": []}',
        '{"value": [{"serial": "MADE0000001", "seed": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"}]}',
        '{"serialNumber": "MADE0000001", "seed": "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b"}\n' * 2,
        '{"inventory": {"value": "secretKey", "of": "serialNumber"}}',
    ],
)
def test_json_without_the_names_of_a_token_of_graph_is_none_of_graph_s(text: str) -> None:
    assert not FORMATS["graph-json"].is_format_of(text.encode())
    with pytest.raises(UnusableFile, match="is JSON, but none of the vendors' files"):
        choose_format(Path("tokens.json"), text.encode())


def test_a_file_that_is_said_to_be_graph_s_and_holds_nothing_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"value": []}')
    with pytest.raises(UnusableFile, match="holds no tokens"):
        read(path, format_name="graph-json")


def test_an_unknown_format_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(UnusableFile, match="Name one of otp-pairs, pskc, oath-csv"):
        open_shipment(SAMPLES / "nexus" / "nexus_colon.txt", format_name="none")


def test_a_file_that_looks_like_two_formats_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    text = "MADE0000001, d2f7a4affb163ad95f3593f4c6f9b05b89a8105b, hotp\nYubico OTP,12/11/2019 11:11,1\n"
    path.write_text(text)
    with pytest.raises(UnusableFile, match=r"may be oath-csv or yubico.*--format oath-csv"):
        open_shipment(path)


@pytest.mark.parametrize(
    "text",
    [
        "otp_type;serial;otp1;otp2\nHOTP;MADE0000001;308714;367299\n",
        "serial,otp1,secret key\nMADE0000001,308714,2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3\n",
        "Serial Number,note,lot,First OTP\nMADE0000001,d2f7a4affb163ad95f3593f4c6f9b05b89a8105b,hotp,308714\n",
        "no format at all\n",
        "",
    ],
)
def test_a_csv_with_our_header_is_one_of_otp_pairs_whatever_else_is_in_it(text: str) -> None:
    assert choose_format(Path("shipment.csv"), text.encode()).name == "otp-pairs"


def test_every_format_has_samples_and_a_line_in_its_page() -> None:
    page = (SAMPLES.parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
    assert [name for name in FORMATS if f"| `{name}` |" not in page] == []
    assert {name for name in FORMATS if name != "otp-pairs"} == {path.name for path in SAMPLES.iterdir()} - {"broken"}


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (0, "MADE0000001|2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3\n"),
        (1, f'{{"acmeSerial": "MADE0000001", "acmeSeed": "{SECRETS["MADE0000001"]}"}}\n'),
    ],
)
def test_the_formats_that_the_page_shows_how_to_add_read_their_files(tmp_path: Path, shown: int, text: str) -> None:
    page = (SAMPLES.parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
    code = textwrap.dedent(page.split("```python\n")[shown + 1].split("   ```\n")[0])
    if shown == 0:
        acme = eval(code, {**vars(formats)})
    else:
        # The imports are on the page too.
        exec(code, names := dict[str, Any]())
        acme = OtherFormat("acme", "Acme", names["is_acme_lines"], names["read_acme_lines"])
    path = tmp_path / "acme.txt"
    path.write_text(text)
    assert acme.is_format_of(path.read_bytes())
    with path.open("rb") as stream:
        columns, (row,) = open_table(acme, OpenFile(path, stream), NOON)
    assert columns == ["serial", "otp_type"]
    check(row, hotp("MADE0000001"))
