"""A corpus of broken files, one fault each: what is said of it, of which line or row, and what to do."""

from __future__ import annotations

import pytest
from support.data.seed_files import KEY, PASSWORD, SAMPLES, read, read_messages

from worker.intake import Hints, Row, RowError

BROKEN = SAMPLES / "broken"

PSKC_HINTS = Hints(key=KEY, password=PASSWORD)
HINTS = {"serial_secret_no_step.csv": Hints(otp_type="totp")}

# File -> whether the whole file or one row is refused, its line or row, words of the problem, words of the cure.
EXPECTED = {
    "deepnet_xml_encrypted.xml": (
        "file",
        None,
        "is encrypted in Deepnet's own way, which is not",
        "Export it without encryption (encrypt NONE), or",
    ),
    "deepnet_xml_header_behind.xml": (
        "file",
        None,
        "has no header before its tokens",
        "Export it again from DualShield",
    ),
    "deepnet_xml_no_tokens.xml": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "deepnet_xml_product_unknown.xml": (
        "row",
        1,
        "the file does not say whether the token is HOTP",
        "say it, by --otp-type hotp or --otp-type totp",
    ),
    "deepnet_xml_step_45.xml": ("row", 1, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "deepnet_xml_two_headers.xml": ("file", None, "has a second header", "Make a file of each header and its tokens"),
    "entra_base32_with_0.csv": ("row", 2, "the secret is not Base32 (letters and the", "--encoding hex"),
    "entra_column_twice.csv": ("file", 1, "columns 1 and 3 mean the same", "Remove or rename one of the two"),
    "entra_hash_sha384.csv": ("row", 2, "the hash is none of SHA-1, SHA-256 and SHA-512,", "leave the token out"),
    "entra_header_alone.csv": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "entra_hex.csv": ("row", 2, "the secret is not Base32 (letters and the", "--encoding hex"),
    "entra_no_serial_column.csv": (
        "file",
        1,
        "the header has no column for the serial",
        "Use the file as the vendor sent it",
    ),
    "entra_no_step.csv": (
        "row",
        2,
        "the file does not say the time step of the token",
        "say it in seconds, by --time-step 30 or",
    ),
    "entra_step_45.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "entra_step_word.csv": (
        "row",
        2,
        "the time step is not a whole number",
        "see whether it is interchanged with another value",
    ),
    "entra_too_many_fields.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "see whether two lines were joined",
    ),
    "etoken_dat_endless_block.dat": (
        "file",
        2,
        "a block has more than 100 lines",
        "See whether it is the right file: a blank line",
    ),
    "etoken_dat_mode.dat": (
        "row",
        2,
        "sccMode is neither E (event) nor T (time)",
        "PingOne takes no other tokens, so leave it out",
    ),
    "etoken_dat_no_colon.dat": (
        "row",
        2,
        "the block is not made of lines `key",
        "value`: see whether it was cut off, and ask the",
    ),
    "etoken_dat_no_data.dat": (
        "row",
        2,
        "the block is not made of lines `key",
        "value`: see whether it was cut off, and ask the",
    ),
    "etoken_dat_no_key.dat": ("row", 2, "the secret is missing", "ask the vendor for the file again"),
    "etoken_dat_no_length.dat": (
        "row",
        1,
        "the block does not say how many digits an OTP has (sccPwLen)",
        "ask the vendor for the file again, or say it, by --digits",
    ),
    "etoken_dat_time.dat": (
        "row",
        2,
        "the token is time-based and counts its time",
        "every OTP would be wrong, so leave the token out",
    ),
    "etoken_dat_two_in_a_block.dat": (
        "row",
        1,
        "the block holds more than one token",
        "put a blank line between them",
    ),
    "graph_json_cut_off.json": (
        "file",
        6,
        "is no JSON, or was cut off",
        "Export it again, and use the file as it came",
    ),
    "graph_json_deep.json": (
        "file",
        None,
        "is no JSON in UTF-8, or has lists in lists",
        "Export it again, and use the file as it came",
    ),
    "graph_json_entry_number.json": ("row", 1, "the entry is not an object with a serialNumber", "leave it out"),
    "graph_json_format_unknown.json": (
        "row",
        1,
        "secretFormat is none of hex, base32, base64 and",
        "write one of them",
    ),
    "graph_json_half_character.json": (
        "row",
        1,
        "secretKey has half a character or a NUL",
        "leave it out, or export it again",
    ),
    "graph_json_no_list.json": (
        "file",
        None,
        "holds no list of tokens",
        "Export it again, and use the file as it came",
    ),
    "graph_json_not_utf8.json": (
        "file",
        None,
        "is no JSON in UTF-8, or has lists in lists",
        "Export it again, and use the file as it came",
    ),
    "graph_json_nul.json": ("row", 1, "id has half a character or a NUL", "leave it out, or export it again"),
    "graph_json_secret_empty.json": ("row", 1, "the secret is missing", "ask the vendor for the file again"),
    "graph_json_secret_list.json": (
        "row",
        1,
        "secretKey is neither a text nor a whole number",
        "write it as Microsoft Graph does",
    ),
    "graph_json_step_fraction.json": (
        "row",
        1,
        "timeIntervalInSeconds is neither a text nor a",
        "write it as Microsoft Graph does",
    ),
    "graph_json_step_word.json": (
        "row",
        1,
        "the time step is not a whole number",
        "see whether it is interchanged with another value",
    ),
    "nexus_counter.txt": ("row", 2, "the counter is not Base64 of at most 8 bytes", "it is written like AA== for 0"),
    "nexus_counter_too_long.txt": (
        "row",
        2,
        "the counter is not Base64 of at most 8 bytes",
        "it is written like AA== for 0",
    ),
    "nexus_hex.txt": ("row", 2, "the secret is not Base64", "--encoding hex"),
    "nexus_too_many_fields.txt": (
        "row",
        2,
        "the row has too many fields for this format",
        "see whether two lines were joined",
    ),
    "oath_csv_columns_interchanged.csv": (
        "row",
        2,
        "the secret is not hexadecimal (digits and A to",
        "--encoding base32",
    ),
    "oath_csv_counter_negative.csv": (
        "row",
        2,
        "the counter is not a whole number",
        "see whether it is interchanged with another value",
    ),
    "oath_csv_counter_too_high.csv": (
        "row",
        2,
        "the counter is not a whole number of 8 bytes",
        "see whether it is interchanged with another value",
    ),
    "oath_csv_cut_off.csv": (
        "row",
        2,
        "the secret has fewer than 10 bytes",
        "see whether it was cut off, or interchanged",
    ),
    "oath_csv_digits_7.csv": ("row", 2, "the OTPs have neither 6 nor 8 digits, and", "leave the token out"),
    "oath_csv_hash_md5.csv": ("row", 2, "the hash is none of SHA-1, SHA-256 and SHA-512,", "leave the token out"),
    "oath_csv_hotp_sha256.csv": (
        "row",
        2,
        "the token is HOTP with another hash than SHA-1,",
        "leave it out; if that was guessed from the",
    ),
    "oath_csv_no_rows.csv": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "oath_csv_not_utf8.csv": (
        "file",
        2,
        "is not UTF-8 (byte 14 of the line)",
        "Save it as UTF-8; in Excel: File > Save As >",
    ),
    "oath_csv_ocra.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "oath_csv_quotation_mark.csv": (
        "row",
        2,
        "a quotation mark is never closed, or stands",
        "remove it, or double it there",
    ),
    "oath_csv_seed_in_excel.csv": (
        "row",
        2,
        "the secret was turned into a number (as in",
        "use the file as the vendor sent it, not as",
    ),
    "oath_csv_seed_missing.csv": ("row", 2, "the secret is missing", "ask the vendor for the file again"),
    "oath_csv_seed_odd.csv": ("row", 2, "the secret is not hexadecimal (digits and A to", "--encoding base32"),
    "oath_csv_seed_too_long.csv": ("row", 2, "the secret has more than 100 bytes, and PingOne", "leave the token out"),
    "oath_csv_semicolons.csv": (
        "file",
        None,
        "has semicolons between its values, where this kind of file of seeds has commas",
        "Put commas in their place, with a text editor",
    ),
    "oath_csv_semicolons_version_2.csv": (
        "row",
        2,
        "the row is one field alone",
        "see whether the line was cut off, stands in",
    ),
    "oath_csv_serial_in_excel.csv": (
        "row",
        2,
        "the serial was turned into a number (as in",
        "use the file as the vendor sent it, not as",
    ),
    "oath_csv_serial_missing.csv": ("row", 2, "serial is missing", "write the serial number that is printed on the"),
    "oath_csv_serial_too_long.csv": (
        "row",
        2,
        "serial has more than 50 characters, which",
        "write it as PingOne's token inventory has it",
    ),
    "oath_csv_serial_with_hyphen.csv": (
        "row",
        2,
        "serial has other characters than letters and",
        "write it as PingOne's token inventory has it",
    ),
    "oath_csv_step_45.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "oath_csv_short_secret.csv": (
        "row",
        1,
        "the secret has fewer than 10 bytes",
        "see whether it was cut off, or interchanged",
    ),
    "oath_csv_too_few_fields.csv": (
        "row",
        2,
        "the row is one field alone",
        "see whether the line was cut off, stands in",
    ),
    "oath_csv_too_many_fields.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "see whether two lines were joined",
    ),
    "oath_csv_version_3.csv": (
        "file",
        1,
        "is OATH CSV of a version that is not known here",
        "Export it again as version 1 or 2",
    ),
    "phenixid_cut_off.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "see whether the line was cut off",
    ),
    "phenixid_digits_missing.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "see whether the line was cut off",
    ),
    "phenixid_epoch.csv": ("row", 2, "the token counts its time from another moment", "leave it out"),
    "phenixid_ocra.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "phenixid_step_90.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "pskc_billion_laughs.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "pskc_blank_line_above.xml": ("file", 2, "has something before its XML declaration", "Remove what stands before"),
    "pskc_certificate.xml": (
        "file",
        None,
        "is encrypted for a certificate (X.509, RSA)",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_cut_off.xml": (
        "file",
        13,
        "is no well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "pskc_derivation_unknown.xml": (
        "file",
        None,
        "derives its key from a password in another way",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_draft_algorithm_misspelt.xml": (
        "file",
        None,
        "is encrypted with aes128-cbcc, which is not read",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_draft_empty_digest.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so that nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_draft_method_misspelt.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_algorithm.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_algorithm_no_digest.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_method.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_mac_key_no_method.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_no_mac_method.xml": (
        "file",
        None,
        "has MACs and does not say of which kind (MACMethod)",
        "Ask the vendor for the file again",
    ),
    "pskc_plain_with_mac.xml": (
        "row",
        2,
        "the value is plain, says its element, and encrypted",
        "ask the vendor for the file again",
    ),
    "pskc_value_empty_mac.xml": (
        "row",
        2,
        "the encrypted value has no MAC, so that nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_value_method_unknown.xml": (
        "row",
        2,
        "the value is encrypted with a cipher that is not read",
        "ask the vendor for the file with AES-128-CBC",
    ),
    "pskc_value_no_method.xml": (
        "row",
        2,
        "the encrypted value does not say with which cipher",
        "ask the vendor for the file again",
    ),
    "pskc_value_twice.xml": (
        "row",
        2,
        "the value is plain, says its element, and encrypted",
        "ask the vendor for the file again",
    ),
    "pskc_dtd.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "pskc_endless_pbkdf2.xml": (
        "file",
        None,
        "asks for more than 10000000 rounds of PBKDF2,",
        "Ask the vendor for the file again",
    ),
    "pskc_every_mac_bad.xml": (
        "file",
        None,
        "is not opened by this key: it is the wrong one,",
        "Give the key that the vendor sent apart from",
    ),
    "pskc_gcm.xml": (
        "file",
        None,
        "is encrypted with aes128-gcm, which is not read",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_key_behind.xml": (
        "file",
        None,
        "says how it is encrypted behind the first of",
        "Ask the vendor for the file again",
    ),
    "pskc_legacy_no_digest.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so that nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_mac_method_unknown.xml": (
        "file",
        None,
        "has MACs of another kind than HMAC with SHA-1,",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_no_cipher.xml": (
        "file",
        None,
        "has encrypted values and does not say with which cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_no_keys.xml": ("file", None, "holds no keys", "Ask the vendor for the file again"),
    "pskc_no_mac.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so that nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_once_utf_16.xml": (
        "file",
        1,
        "names an encoding in its first line that it does not have",
        "Save it as UTF-8, and write",
    ),
    "pskc_salt_missing.xml": (
        "file",
        None,
        "derives its key from a password in another way",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_signature_around.xml": ("file", None, "is XML, but no PSKC", "Give the vendor's file as it was sent"),
    "pskc_two_documents.xml": (
        "file",
        15,
        "is no well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "pskc_version_2.xml": (
        "file",
        None,
        "is PSKC with a head that cannot be read, or of",
        "Ask the vendor for the file again",
    ),
    "rcdevs_hex.csv": ("row", 2, "the secret is not Base64", "--encoding hex"),
    "rcdevs_no_key.csv": ("row", 2, "the secret is missing", "ask the vendor for the file again"),
    "rcdevs_no_length.csv": (
        "row",
        2,
        "the column Data does not say how many digits an OTP has (OTPLength)",
        "ask for the file again, or say it, by --digits",
    ),
    "rcdevs_no_pairs.csv": (
        "row",
        2,
        "the column Data is not made of pairs such as",
        "see whether the row was cut off, and keep the",
    ),
    "rcdevs_not_base64.csv": (
        "row",
        2,
        "the column Data is not made of pairs such as",
        "see whether the row was cut off, and keep the",
    ),
    "rcdevs_not_quoted.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "see whether two lines were joined",
    ),
    "rcdevs_ocra.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "safenet_xml_billion_laughs.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_counter_word.xml": (
        "row",
        1,
        "the counter is not a whole number",
        "see whether it is interchanged with another value",
    ),
    "safenet_xml_cut_off.xml": (
        "file",
        9,
        "is no well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_deep.xml": (
        "file",
        None,
        "has elements more than 64 deep",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_dtd.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_encoding_unknown.xml": ("file", None, "is XML in an encoding that is not read", "Save it as UTF-8"),
    "safenet_xml_external_entity.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_no_seed.xml": ("row", 1, "the secret is missing", "ask the vendor for the file again"),
    "safenet_xml_no_serial.xml": ("row", 1, "serial is missing", "write the serial number that is printed on the"),
    "safenet_xml_no_tokens.xml": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "safenet_xml_sha256.xml": (
        "row",
        1,
        "the token is HOTP with another hash than SHA-1,",
        "leave it out; if that was guessed from the",
    ),
    "safenet_xml_two_seeds.xml": (
        "row",
        1,
        "the token has several seeds",
        "leave the applications out that are not for OATH",
    ),
    "safenet_xml_undefined_entity.xml": (
        "file",
        7,
        "is no well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "serial_secret_blanks.txt": (
        "file",
        None,
        "has blanks between its values, where this kind of file of seeds has commas",
        "Put commas in their place, with a text editor",
    ),
    "serial_secret_ambiguous.csv": (
        "row",
        2,
        "the secret can be read as hexadecimal and as",
        "--encoding hex or --encoding base32",
    ),
    "serial_secret_base64.csv": ("row", 2, "the secret is neither hexadecimal nor Base32", "--encoding base64"),
    "serial_secret_counter_word.csv": (
        "row",
        2,
        "the counter is not a whole number",
        "see whether it is interchanged with another value",
    ),
    "serial_secret_fields.csv": (
        "file",
        1,
        "the first line is a row of data, the header is",
        "Put a header above the rows, separated by",
    ),
    "serial_secret_no_step.csv": (
        "file",
        None,
        "does not say the time step of its tokens",
        "Say it by --time-step 30 or --time-step 60",
    ),
    "serial_secret_no_type.csv": (
        "file",
        None,
        "does not say whether its tokens are HOTP or TOTP",
        "Say it by --otp-type hotp, or by --otp-type",
    ),
    "serial_secret_nul.csv": ("file", 2, "holds a NUL byte", "The file is damaged or no text file: export it"),
    "serial_secret_one_field.csv": (
        "row",
        2,
        "the row is one field alone",
        "see whether the line was cut off, stands in",
    ),
    "serial_secret_tabs.txt": (
        "file",
        None,
        "has tabs between its values, where this kind of file of seeds has commas",
        "Put commas in their place, with a text editor",
    ),
    "two_formats.csv": ("file", None, "may be oath-csv or yubico", "Say which it is, by --format oath-csv"),
    "yubico_counter_missing.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "see whether the line was cut off",
    ),
    "yubico_cut_off.csv": ("row", 2, "the row has too few fields for this format", "see whether the line was cut off"),
    "yubico_format_cut_off.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "see whether the line was cut off",
    ),
    "yubico_format_static.csv": ("row", 1, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "yubico_logging_alone.csv": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "yubico_logging_joined.csv": (
        "row",
        2,
        "the line says that the tool was started, and a row follows on it",
        "put a line break before the row",
    ),
    "yubico_no_public_id.csv": ("row", 1, "serial is missing", "write the serial number that is printed on the"),
    "yubico_semicolons.csv": (
        "file",
        None,
        "has semicolons between its values, where this kind of file of seeds has commas",
        "Put commas in their place, with a text editor",
    ),
    "yubico_seven_digits.csv": ("row", 1, "the OTPs have neither 6 nor 8 digits, and", "leave the token out"),
    "yubico_static_alone.csv": ("row", 1, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "yubico_static.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
}


def hints_of(name: str) -> Hints:
    return PSKC_HINTS if name.startswith("pskc") else HINTS.get(name, Hints())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_is_said_with_its_place_and_its_cure(name: str) -> None:
    what, number, problem, cure = EXPECTED[name]

    ((refused, place, message),) = read_messages(BROKEN / name, hints_of(name))

    assert (refused, place) == (what, number)
    assert problem in message
    assert cure in message.partition(problem)[2]


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected[0] == "row"])
def test_a_refused_row_leaves_the_others_and_names_no_seed(name: str) -> None:
    rows = read(BROKEN / name, hints_of(name))
    (refused,) = (row for row in rows if isinstance(row, RowError))
    assert all(isinstance(row, Row) for row in rows if row is not refused)
    assert refused.serial_number is None or len(refused.serial_number) < 16


def test_every_broken_file_is_expected() -> None:
    assert {path.name for path in BROKEN.iterdir()} == set(EXPECTED)
    assert len(EXPECTED) >= 60
