"""Each format's samples: the tokens that they hold, and the OTPs that these tokens show; of PSKC, what RFC 6030 and
RFC 4226 say, and keys, passwords and elements that are wrong or missing; and that no message quotes a secret."""

import contextlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pskc import PSKC
from support.data import seed_files
from support.data.seed_files import (
    EVERY_HINTS,
    NOON,
    SAMPLES,
    SECRETS,
    check,
    find_quoted,
    find_secrets,
    hotp,
    list_samples,
    read,
    read_messages,
    spell,
    totp,
)

from models.row_fault import RowFault
from worker.intake import formats
from worker.intake.files import Hints, OpenFile
from worker.intake.formats import FORMATS, CsvFormat, Layout, OtherFormat, choose_format, open_table
from worker.intake.rows import Row, RowError, UnusableFile
from worker.intake.shipment import open_shipment
from worker.intake.tokens import Token
from worker.vault.otps import Secret, Seed

PAGE = (SAMPLES.parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
RECIPE = (SAMPLES.parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOTP = Hints(otp_type="hotp")
TOTP_30 = Hints(otp_type="totp", time_step=30)
KEY, AES_256 = Hints(key=seed_files.KEY), Hints(key=seed_files.AES_256_KEY)
RFC_KEY, RFC_PASSWORD = Hints(key=seed_files.RFC_KEY), Hints(password=seed_files.RFC_PASSWORD)
# What three of the PSKC files hold.
MADE = {"manufacturer": "oath.MADE"}
THREE = [
    hotp("MADE0000001", row_number=1, extra=MADE),
    hotp("MADE0000002", row_number=2, extra=MADE),
    totp("MADE0000003", 30, row_number=3, extra=MADE),
]

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
    "entra/algorithm_and_digits.csv": (
        Hints(),
        [totp("MADE0000003", 30, digits=8, hash_algorithm="sha256"), totp("MADE0000004", 30, row_number=3)],
    ),
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
    "graph-json/otp_length.json": (Hints(), [totp("MADE0000003", 30, digits=8, hash_algorithm="sha256")]),
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
    "pskc/pskc_plain.xml": (Hints(), THREE),
    "pskc/pskc_psk_aes128cbc.xml": (KEY, THREE),
    "pskc/pskc_pbkdf2.xml": (Hints(password=b"made-up-pass"), THREE),
    "pskc/salt_with_namespace.xml": (Hints(password=b"made-up-pass"), THREE),
    "pskc/rfc6030_figure2.xml": (Hints(), ["fewer than 10 bytes"]),
    "pskc/rfc6030_figure5.xml": (Hints(), [hotp("987654321", digits=8), "neither HOTP nor TOTP"]),
    "pskc/rfc6030_figure6.xml": (RFC_KEY, [hotp("987654321", digits=8)]),
    "pskc/rfc6030_figure7.xml": (RFC_PASSWORD, [hotp("987654321", digits=8)]),
    "pskc/rfc6030_figure10.xml": (Hints(), ["expired", "expired"]),
    "pskc/default_namespace.xml": (Hints(), [hotp("MADE0000001")]),
    "pskc/wrong_namespace.xml": (Hints(), [hotp("MADE0000001")]),
    "pskc/no_namespace.xml": (Hints(), [hotp("MADE0000001")]),
    "pskc/suites.xml": (
        Hints(),
        [
            totp("MADE0000003", 60, digits=8, hash_algorithm="sha256"),
            totp("MADE0000003", 30, hash_algorithm="sha256"),
            totp("MADE0000003", 30, hash_algorithm="sha1"),
        ],
    ),
    "pskc/base64_in_lines.xml": (Hints(), [hotp("MADE0000001", 2)]),
    "pskc/id_with_slot.xml": (Hints(), [hotp("9900001")]),
    "pskc/serial_missing.xml": (Hints(), [hotp("MADE0000001")]),
    "pskc/several_keys.xml": (
        Hints(),
        [
            hotp("MADE0000001"),
            "key 2 of the file: the token is neither HOTP nor TOTP",
            "key 3 of the file: the token is neither HOTP nor TOTP",
            hotp("MADE0000002", row_number=4),
        ],
    ),
    "pskc/serial_with_hyphen.xml": (Hints(), ["characters other than letters and digits", hotp("MADE0000002")]),
    "pskc/expired.xml": (Hints(), ["expired", hotp("MADE0000002")]),
    "pskc/signed.xml": (Hints(), [hotp("MADE0000001")]),
    "pskc/encrypted_counter.xml": (KEY, [hotp("MADE0000001", 2), totp("MADE0000003", 60)]),
    "pskc/no_mac_key.xml": (KEY, [hotp("MADE0000001")]),
    "pskc/aes256_hmac_sha256.xml": (AES_256, [hotp("MADE0000001")]),
    "pskc/key_wrap.xml": (KEY, [hotp("MADE0000005")]),
    "pskc/one_bad_mac.xml": (KEY, [hotp("MADE0000001"), "does not match its MAC"]),
    "pskc/privacyidea_export.xml": (
        KEY,
        [totp("MADE0000009", 60, hash_algorithm="sha256"), hotp("MADE0000001", 2, extra={"manufacturer": "made up"})],
    ),
    "pskc/draft_plain.xml": (Hints(), [hotp("MADE0000001", 2), totp("MADE0000003", 30)]),
    "pskc/draft_global_iv.xml": (KEY, [hotp("MADE0000001", 1)]),
    "pskc/draft_in_small_letters.xml": (KEY, [hotp("MADE0000001", 1)]),
    "pskc/draft_no_encryption.xml": (Hints(), [hotp("MADE0000001", 2)]),
    "pskc/names_in_other_case.xml": (KEY, [hotp("MADE0000001"), hotp("MADE0000002")]),
}


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_sample_gives_its_tokens(sample: str) -> None:
    hints, expected = EXPECTED[sample]
    rows = read(SAMPLES / sample, hints)
    for row, each in zip(rows, expected, strict=True):
        check(row, each)
    # A repr shows no secret; a serial number of the RFC's begins like its key.
    shown = re.sub("|".join(str(row.serial_number) for row in rows), "", repr(rows))
    assert find_quoted(shown) == set()
    # A file may be named by its format, and gives the same.
    assert read(SAMPLES / sample, hints, sample.partition("/")[0]) == rows
    if sample.startswith("pskc/"):
        assert [row.row_number for row in rows] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize("sample", EXPECTED)
def test_a_sample_is_told_by_its_content_by_one_format_alone(sample: str) -> None:
    head = (SAMPLES / sample).read_bytes()
    found = [each.name for each in FORMATS.values() if each.name != "otp-pairs" and each.is_format_of(head)]
    assert found == [sample.partition("/")[0]]


def test_every_sample_is_expected_and_every_format_has_some_and_a_line_in_its_page() -> None:
    found = {f"{path.parent.name}/{path.name}" for path in SAMPLES.glob("*/*.*") if path.parent.name != "broken"}
    assert found == set(EXPECTED)
    assert {name for name in FORMATS if name != "otp-pairs"} == {path.name for path in SAMPLES.iterdir()} - {"broken"}
    assert [name for name in FORMATS if f"| `{name}` |" not in PAGE] == []


@pytest.mark.parametrize("sample", ["nexus_hex.txt", "rcdevs_hex.csv"])
def test_hexadecimal_in_the_place_of_base64_is_read_if_that_is_said(sample: str) -> None:
    row = read(SAMPLES / "broken" / sample, Hints(encoding="hex"))[-1]
    assert row.otps.secret == Secret(bytes.fromhex(SECRETS[row.serial_number]))


@pytest.mark.parametrize("size", [10, 15, 20])
def test_hexadecimal_in_the_place_of_base64_is_refused_whatever_its_length(tmp_path: Path, size: int) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(f"MADE0000001:{SECRETS['MADE0000001'][: 2 * size]}:AA==\n")
    (row,) = read(path)
    assert "--encoding hex" in row.reason


def test_the_cells_of_a_static_password_are_not_named() -> None:
    assert read(SAMPLES / "yubico" / "static_first.csv")[0].serial_number is None


def test_the_title_and_the_name_of_each_format_are_its_own() -> None:
    assert len({each.title for each in FORMATS.values()}) == len(FORMATS)
    assert all(name == name.lower() and each.name == name for name, each in FORMATS.items())


def test_the_columns_are_those_that_hold_no_secret() -> None:
    shipment = open_shipment(SAMPLES / "entra" / "semicolons_and_blanks.csv")
    assert shipment.columns == ["upn", "serial number", "time interval", "manufacturer", "model"]
    # It has no ids, so a shipment refuses its rows.
    assert [type(row) for row in shipment.rows()] == [RowError]


# Which format a file has.

GRAPH_LIKE = (
    '{"value": []}',
    '{"value": [{"serial": "MADE0000001", "seed": "%s"}]}',
    '{"serialNumber": "MADE0000001", "seed": "%s"}\n' * 2,
    '{"inventory": {"value": "secretKey", "of": "serialNumber"}}',
)


@pytest.mark.parametrize(
    ("text", "format_name"),
    [
        # A vendor's header says more than the words in the third column below it.
        ("serial number,secret key,manufacturer\nMADE0000003,NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3,MadeUp\n", "entra"),
        # Text that begins like a line of Yubico's is none.
        ("Notes\nConfiguration of the tokens\nStatic password, see below\n", "otp-pairs"),
        # With and without what may be missing in a line of PhenixID.
        *(
            (f"HOTP;MADE0000001;d2f7a4affb163ad95f3593f4c6f9b05b89a8105b;{counter}\n", "phenixid")
            for counter in ("", "0", ";;;0;;")
        ),
        # A CSV with our header is one of OTP pairs whatever else is in it.
        ("otp_type;serial;otp1;otp2\nHOTP;MADE0000001;308714;367299\n", "otp-pairs"),
        ("serial,otp1,secret key\nMADE0000001,308714,2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3\n", "otp-pairs"),
        (
            "Serial Number,note,lot,First OTP\nMADE0000001,d2f7a4affb163ad95f3593f4c6f9b05b89a8105b,hotp,308714\n",
            "otp-pairs",
        ),
        # Pairs and exports may have a header that begins with a hash.
        ("#No,serial,otp1,otp2,user_id\n1,MADE0000001\n", "otp-pairs"),
        ("#,serial,file_row\n1,MADE0000001\n", "otp-pairs"),
        ("no format at all\n", "otp-pairs"),
        ("", "otp-pairs"),
        # What may be two, or is JSON without the names of a token of Graph, is refused.
        (
            "MADE0000001, d2f7a4affb163ad95f3593f4c6f9b05b89a8105b, hotp\nYubico OTP,12/11/2019 11:11,1\n",
            "might be oath-csv or yubico.*--format oath-csv",
        ),
        (
            "# columns:,serial number,secret key\nMADE0000001,d2f7a4affb163ad95f3593f4c6f9b05b89a8105b,hotp,6,0\n",
            r"might be oath-csv or entra\. Add the right one, such as --format oath-csv",
        ),
        *((text, "is JSON, but not a known vendor's file") for text in GRAPH_LIKE),
    ],
)
def test_a_format_is_told_by_its_content_or_asked_for(text: str, format_name: str) -> None:
    if format_name in FORMATS:
        assert choose_format(Path("shipment.csv"), text.encode()).name == format_name
        return
    with pytest.raises(UnusableFile, match=format_name):
        choose_format(Path("tokens.csv"), text.encode())
    assert not FORMATS["graph-json"].is_format_of(text.encode())


def test_separators_that_a_spreadsheet_adds_to_a_version_are_not_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text(f"# version: 2;;;;\nalice;ldap1;realm1;MADE0000001;{SECRETS['MADE0000001']};hotp;6;0\n")
    (row,) = read(path)
    assert "a separator other than this format's" in row.reason


def test_a_file_that_is_said_to_be_graph_s_and_holds_nothing_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"value": []}')
    with pytest.raises(UnusableFile, match="holds no tokens"):
        read(path, format_name="graph-json")


def test_an_unknown_format_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(UnusableFile, match="Name one of otp-pairs, pskc, oath-csv"):
        open_shipment(SAMPLES / "nexus" / "nexus_colon.txt", format_name="none")


def test_a_column_that_nothing_completes_means_a_field_of_a_token() -> None:
    known = {each.name for each in fields(Token)}
    rows = [each for each in FORMATS.values() if isinstance(each, CsvFormat) and each.complete == CsvFormat.complete]
    meant = {name for each in rows for name in each.header.values()}
    meant |= {name for each in rows if isinstance(each.layout, Layout) for name in each.layout.cells if name}
    assert meant <= known


def take_code_from_page(shown: int) -> str:
    return textwrap.dedent(RECIPE.split("```python\n")[shown + 1].split("   ```\n")[0])


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("# Acme 2\nFob;Kind;Seed32;Len\nMADE0000001;event;2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3;6\n", hotp("MADE0000001")),
        ("Fob,Kind,Seed32\nMADE0000001,event,2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3\n", "add --digits"),
        ("Fob,Kind,Seed32,Len\nMADE0000001,push,2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3,6\n", "neither HOTP nor TOTP"),
    ],
)
def test_a_format_with_a_header_reads_its_rows_as_the_page_shows(tmp_path: Path, text: str, read: Seed | str) -> None:
    exec(take_code_from_page(1), names := {**vars(formats)})
    told = eval(f"dict({', '.join(re.findall(r'`((?:header|told_by)=[^`]*)`', RECIPE))})")
    acme = CsvFormat(name="acme", title="Acme", encoding="base32", complete=names["complete_acme"], **told)
    path = tmp_path / "acme.txt"
    path.write_text(text)
    assert acme.is_format_of(path.read_bytes())
    with path.open("rb") as stream:
        _, (row,) = open_table(acme, OpenFile(path, stream), NOON)
    if isinstance(read, str):
        assert isinstance(row, RowError)
        assert read in row.reason
    else:
        check(row, read)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (0, "MADE0000001|2L32JL73CY5NSXZVSP2MN6NQLOE2QEC3\n"),
        (2, f'{{"acmeSerial": "MADE0000001", "acmeSeed": "{SECRETS["MADE0000001"]}", "ctr": 0}}\n'),
    ],
)
def test_the_formats_that_the_page_shows_how_to_add_read_their_files(tmp_path: Path, shown: int, text: str) -> None:
    code = take_code_from_page(shown)
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


# PSKC.

PSKC_SAMPLES = SAMPLES / "pskc"


def test_the_password_of_the_rfc_makes_the_key_of_the_rfc() -> None:
    derivation = PSKC(str(PSKC_SAMPLES / "rfc6030_figure7.xml")).encryption.derivation
    assert derivation.derive("qwerty").hex() == "651e63cd57008476af1ff6422cd02e41"


@pytest.mark.parametrize("sample", ["rfc6030_figure5.xml", "rfc6030_figure6.xml", "rfc6030_figure7.xml"])
def test_the_seed_of_the_rfc_makes_the_otps_of_rfc_4226(sample: str) -> None:
    seed = read(PSKC_SAMPLES / sample, EXPECTED[f"pskc/{sample}"][0])[0].otps
    # RFC 4226, appendix D: 1284755224, 1094287082, 137359152.
    assert [seed.mint(counter).reveal() for counter in range(3)] == ["84755224", "94287082", "37359152"]


@pytest.mark.parametrize(
    ("sample", "hints", "problem", "cure"),
    [
        ("pskc_psk_aes128cbc.xml", Hints(), "encrypted with a pre-shared key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(password=b"x"), "encrypted with a pre-shared key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(key=b"k" * 16), "does not open with this key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(key=b"k" * 32), "needs a key of 16 bytes, and the key has 32", "--key-file"),
        ("pskc_pbkdf2.xml", Hints(), "encrypted with a password", "--password-file"),
        ("pskc_pbkdf2.xml", KEY, "encrypted with a password", "--password-file"),
        ("pskc_pbkdf2.xml", Hints(password=b"wrong"), "does not open with this password", "--password-file"),
        ("key_wrap.xml", Hints(key=b"k" * 16), "does not open with this key", "--key-file"),
        ("no_mac_key.xml", Hints(key=b"k" * 16), "does not open with this key", "--key-file"),
        ("draft_global_iv.xml", Hints(), "encrypted with a pre-shared key", "--key-file"),
        ("draft_global_iv.xml", Hints(key=b"k" * 16), "does not open with this key", "--key-file"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_said(sample: str, hints: Hints, problem: str, cure: str) -> None:
    with pytest.raises(UnusableFile) as caught:
        read(PSKC_SAMPLES / sample, hints)
    assert (problem in caught.value.problem, cure in caught.value.cure) == (True, True), caught.value


def test_no_wrong_key_is_believed_even_where_its_padding_looks_right() -> None:
    # One wrong key in 256 decrypts the key of the MACs to something whose padding looks right.
    for guess in range(600):
        with pytest.raises(UnusableFile, match="does not open with this key"):
            read(PSKC_SAMPLES / "pskc_psk_aes128cbc.xml", Hints(key=bytes(divmod(guess, 10)) * 8))


def spoil(content: bytes) -> Iterator[bytes]:
    """Spoil a document in every way in which one element or attribute is missing, or has another name."""
    places = len(list(ElementTree.fromstring(content).iter()))
    for place in range(places):
        for attribute in (None, *list(ElementTree.fromstring(content).iter())[place].attrib):
            for new in (None, "misspelt"):
                root = ElementTree.fromstring(content)
                element = list(root.iter())[place]
                parent = next((each for each in root.iter() if element in list(each)), None)
                if attribute is not None:
                    value = element.attrib.pop(attribute)
                    element.attrib |= {new: value} if new else {}
                elif new:
                    element.tag = new
                elif parent is not None:
                    parent.remove(element)
                yield ElementTree.tostring(root)


KNOWN = [Secret(bytes.fromhex(secret)) for secret in SECRETS.values()]
ENCRYPTED = [each for each, (hints, _) in EXPECTED.items() if each.startswith("pskc/") and hints != Hints()]


@pytest.mark.parametrize("sample", ENCRYPTED)
def test_no_ciphertext_is_taken_for_a_secret_whatever_name_is_missing_or_misspelt(tmp_path: Path, sample: str) -> None:
    hints, _ = EXPECTED[sample]
    content = (SAMPLES / sample).read_bytes().replace(b">20000<", b">1<")
    path = tmp_path / "keys.xml"
    for spoilt in spoil(content):
        path.write_bytes(spoilt)
        for said in (hints, Hints()):
            with contextlib.suppress(UnusableFile):
                seeds = [row.otps for row in read(path, said, "pskc") if isinstance(row, Row)]
                assert all(isinstance(seed, Seed) and seed.secret in KNOWN for seed in seeds), spoilt


def test_a_key_that_a_plain_file_does_not_need_is_left_alone() -> None:
    assert read(PSKC_SAMPLES / "pskc_plain.xml", KEY) == read(PSKC_SAMPLES / "pskc_plain.xml")


PLAIN = (PSKC_SAMPLES / "default_namespace.xml").read_text()
OF_HOTP = 'Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp"'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('Encoding="DECIMAL"', 'Encoding="HEXADECIMAL"', "characters other than digits"),
        ('Encoding="DECIMAL"', 'Encoding="DECIMAL" CheckDigits="true"', "check digit"),
        ('Length="6"', 'Length="7"', "neither 6 nor 8 digits"),
        ('Length="6"', 'Length="six"', "not written as RFC 6030 says"),
        ("</Policy>", "<KeyUsage>CR</KeyUsage></Policy>", "not for one-time passwords"),
        ("</Policy>", '<PINPolicy PINUsageMode="Algorithmic"/></Policy>', "the token combines a PIN with its OTPs"),
        ("2036-01-01T00:00:00Z", "next year", "not a date"),
        ("2036-01-01T00:00:00Z", "02/05/2026", "not a date"),
        ("2036-01-01T00:00:00Z", "01/02/2026", "expired"),
        ("2036-01-01T00:00:00Z", "2026-03-01T12:30:00+01:00", "expired"),
        (OF_HOTP, OF_HOTP.replace("hotp", "totp"), "does not say the token's time step"),
        (OF_HOTP, "", "HOTP or TOTP"),
        ("<ResponseFormat", "<Suite>HMAC-SHA256</Suite><ResponseFormat", "a hash other than SHA-1"),
        ("<ResponseFormat", "<Suite>MD5</Suite><ResponseFormat", "not SHA-1"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>none<", "not a whole number"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>99999999999999999999<", "not a whole number"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>9999999999999999999<", "not a whole number"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "", "secret is missing"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "0vekr/sW!OtlfNZP0xvmwW4moEFs=", "not complete, valid Base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "0vekr/sWOtlfNZP0xvmwW4moEF==", "not complete, valid Base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b", "not complete, valid Base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "QuFB" * 34, "more than 100 bytes"),
        ("<SerialNo>MADE0000001<", "<SerialNo>" + "M" * 51 + "<", "more than 50 characters"),
    ],
)
def test_a_key_that_pingone_would_not_take_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in PLAIN
    path = tmp_path / "keys.xml"
    path.write_text(PLAIN.replace(old, new))
    (row,) = read(path)
    assert (reason in row.reason, row.reason.startswith("key 1 of the file: ")) == (True, True), row.reason


def test_a_package_without_a_key_is_a_row_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.xml"
    path.write_text(
        "<KeyContainer><KeyPackage><DeviceInfo><SerialNo>MADE1</SerialNo></DeviceInfo></KeyPackage></KeyContainer>"
    )
    (row,) = read(path)
    reason = "key 1 of the file: the package has no key: ask the vendor for the file again"
    assert row == RowError(1, reason, "MADE1", RowFault.SEED_UNFIT)


# What is said about a file quotes no secret of it: looked for in every message about every sample, good and broken.

# A word of a file that may be a secret, or a part of one: no word of our language has a digit inside.
WORD = re.compile(r"[A-Za-z0-9+/.]{8,}")


def name(path: Path) -> str:
    return str(path.relative_to(SAMPLES))


@pytest.mark.parametrize("path", list_samples(), ids=name)
def test_no_message_quotes_a_secret(path: Path) -> None:
    # Secrets that no reading brings stand in the file itself.
    words = {word.lower() for word in WORD.findall(path.read_text("utf-8", "replace")) if re.search(r"\d", word)}
    for hints in (Hints(), *EVERY_HINTS):
        for _, _, message in read_messages(path, hints):
            assert find_quoted(message) == set()
            assert not [word for word in words if word in message.lower()]


# Secret, serial number and a number in a sample of each format without columns, each behind what stands before it.
WITHOUT_COLUMNS = {
    "pskc/default_namespace.xml": ("<PlainValue>|0vekr/sWOtlfNZP0xvmwW4moEFs=", "<SerialNo>|MADE0000001", 'Length="|6'),
    "safenet-xml/safenet_aladdin.xml": (
        "<Seed>|d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
        'serial="|MADE0000001',
        "Factor>|1",
    ),
    "deepnet-xml/dualshield.xml": (
        "<seed>|6b1f85dfcd2763697c6e3d6af46643520fda2d9b",
        "<serial>|MADE0000003",
        "<digits>|6",
    ),
    "graph-json/graph_one_assigned.json": (
        'Key": "|NMPYLX6NE5RWS7DOHVVPIZSDKIH5ULM3',
        'Number": "|MADE0000003',
        'Seconds": |30',
    ),
    "etoken-dat/without_blank_lines.dat": (
        "sccKey=|d2f7a4affb163ad95f3593f4c6f9b05b89a8105b",
        "Id: |MADE0000001",
        "PwLen=|6",
    ),
}
SPOILT = ("", "1.00013E+12", "'1000", "A", "x" * 60, "MZXW6YTBOI", "abcdefgh!abcdefghabc", "a" * 21, "Q" * 250, "-1")


@pytest.mark.parametrize("sample", WITHOUT_COLUMNS)
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_cure_speaks_of_columns_and_excel_only_where_there_are_some(tmp_path: Path, sample: str, spoilt: str) -> None:
    text = (SAMPLES / sample).read_text()
    for before, value in (each.split("|") for each in WITHOUT_COLUMNS[sample]):
        assert before + value in text
        path = tmp_path / "file"
        path.write_text(text.replace(before + value, before + spoilt))
        for _, _, message in read_messages(path, EVERY_HINTS[0]):
            assert not re.search(r"\b(Excel|columns?|cells?|CSV|row)\b", message), message


@pytest.mark.parametrize("path", [path for path in list_samples() if path.parent.name != "broken"], ids=name)
def test_every_sample_that_is_not_broken_is_read_and_its_secrets_are_looked_for(path: Path) -> None:
    read_by = [hints for hints in EVERY_HINTS if not any(what == "file" for what, *_ in read_messages(path, hints))]
    assert read_by, "add its key or password to EVERY_HINTS"
    for secret in find_secrets(path):
        assert all(
            find_quoted(f"cell {spelling.swapcase()} is wrong") for spelling in spell(secret) if len(spelling) > 7
        )
