"""Broken and damaged files: a corpus of one fault each, with what is said of it, of which line or row, and what to do;
samples that are cut off at each byte, of which only rows of the whole file load; and damaged samples and random bytes,
which give rows, row errors or an UnusableFile, and never anything else."""

import base64
import contextlib
import io
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data.seed_files import (
    EVERY_HINTS,
    KEY,
    NOON,
    PASSWORD,
    SAMPLES,
    SECRETS,
    find_quoted,
    read,
    read_messages,
)

from worker.intake.files import CUT_OFF, HEAD, Hints, OpenFile
from worker.intake.formats import FORMATS, choose_format, open_table
from worker.intake.lists import LIST_CUT_OFF, open_assignment
from worker.intake.other_formats import MAX_PART
from worker.intake.rows import Row, RowError, UnusableFile

BROKEN = SAMPLES / "broken"

PSKC_HINTS = Hints(key=KEY, password=PASSWORD)
HINTS = {"serial_secret_no_step.csv": Hints(otp_type="totp")}

# File -> whether the whole file or one row is refused, its line or row, words of the problem, words of the cure.
EXPECTED = {
    "deepnet_xml_encrypted.xml": (
        "file",
        None,
        "has Deepnet's own encryption, which is not",
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
        "add --otp-type hotp or --otp-type totp",
    ),
    "deepnet_xml_seed_twice.xml": ("row", 1, "more than one value in seed", "ask the vendor for the file again"),
    "deepnet_xml_step_45.xml": ("row", 1, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "deepnet_xml_step_twice.xml": (
        "file",
        None,
        "has a header in which a value is repeated",
        "Ask for the file again, and use it as the vendor sent it",
    ),
    "deepnet_xml_two_headers.xml": (
        "file",
        None,
        "has a second header",
        "Make a separate file for each header and its tokens",
    ),
    "entra_base32_with_0.csv": ("row", 2, "the secret is not Base32 (letters and the", "--encoding hex"),
    "entra_column_twice.csv": ("file", 1, "columns 1 and 3 mean the same", "Remove or rename one of the two"),
    "entra_hash_sha384.csv": ("row", 2, "the hash is not SHA-1, SHA-256, or SHA-512,", "leave the token out"),
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
        "the file does not say the token's time step",
        "add --time-step 30 or",
    ),
    "entra_step_45.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "entra_step_word.csv": (
        "row",
        2,
        "the time step is not a whole number",
        "check whether it is swapped with another value",
    ),
    "entra_too_many_fields.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
    ),
    "etoken_dat_endless_block.dat": (
        "file",
        2,
        "a block has more than 100 lines",
        "Check whether it is the right file: a blank line",
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
        "a line of the block is not in the form `key",
        "value`, or the block's sccTokenData line is missing: check whether it was cut off, and ask the",
    ),
    "etoken_dat_no_data.dat": (
        "row",
        2,
        "a line of the block is not in the form `key",
        "value`, or the block's sccTokenData line is missing: check whether it was cut off, and ask the",
    ),
    "etoken_dat_no_key.dat": ("row", 2, "the secret is missing", "ask the vendor for the file again"),
    "etoken_dat_no_length.dat": (
        "row",
        1,
        "the block does not say how many digits an OTP has (sccPwLen)",
        "ask the vendor for the file again, or add --digits",
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
        "is not JSON, or was cut off",
        "Export it again, and use the file as it came",
    ),
    "graph_json_deep.json": (
        "file",
        None,
        "is not JSON in UTF-8, or is nested too deeply",
        "Export it again, and use the file as it came",
    ),
    "graph_json_entry_number.json": ("row", 1, "the entry is not an object with a serialNumber", "leave it out"),
    "graph_json_format_unknown.json": (
        "row",
        1,
        "secretFormat is not hex, base32, base64, or",
        "write one of them",
    ),
    "graph_json_half_character.json": (
        "row",
        1,
        "secretKey has an incomplete character or a NUL",
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
        "is not JSON in UTF-8, or is nested too deeply",
        "Export it again, and use the file as it came",
    ),
    "graph_json_nul.json": ("row", 1, "id has an incomplete character or a NUL", "leave it out, or export it again"),
    "graph_json_secret_empty.json": ("row", 1, "the secret is missing", "ask the vendor for the file again"),
    "graph_json_secret_list.json": (
        "row",
        1,
        "secretKey is neither text nor a whole number",
        "write it as Microsoft Graph does",
    ),
    "graph_json_step_fraction.json": (
        "row",
        1,
        "timeIntervalInSeconds is neither text nor a",
        "write it as Microsoft Graph does",
    ),
    "graph_json_step_word.json": (
        "row",
        1,
        "the time step is not a whole number",
        "check whether it is swapped with another value",
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
        "check whether two lines were joined",
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
        "check whether it is swapped with another value",
    ),
    "oath_csv_counter_too_high.csv": (
        "row",
        2,
        "the counter is not a whole number of 8 bytes",
        "check whether it is swapped with another value",
    ),
    "oath_csv_cut_off.csv": (
        "row",
        2,
        "the secret has fewer than 10 bytes",
        "check whether it was cut off, or swapped",
    ),
    "oath_csv_digits_7.csv": ("row", 2, "the OTPs have neither 6 nor 8 digits, and", "leave the token out"),
    "oath_csv_hash_md5.csv": ("row", 2, "the hash is not SHA-1, SHA-256, or SHA-512,", "leave the token out"),
    "oath_csv_hotp_sha256.csv": (
        "row",
        2,
        "the token is HOTP with a hash other than SHA-1,",
        "leave it out; if this was guessed from the",
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
        "a quotation mark is never closed, or is",
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
    "oath_csv_seed_too_long.csv": ("row", 2, "the secret has more than 100 bytes, the most", "leave the token out"),
    "oath_csv_semicolons.csv": (
        "file",
        None,
        "has semicolons between its values, instead of commas",
        "Replace them with commas in a text editor",
    ),
    "oath_csv_semicolons_version_2.csv": (
        "row",
        2,
        "the row is only one field",
        "check whether the line was cut off, is in",
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
        "serial has characters other than letters and",
        "write it as PingOne's token inventory has it",
    ),
    "oath_csv_step_45.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "oath_csv_short_secret.csv": (
        "row",
        1,
        "the secret has fewer than 10 bytes",
        "check whether it was cut off, or swapped",
    ),
    "oath_csv_too_few_fields.csv": (
        "row",
        2,
        "the row is only one field",
        "check whether the line was cut off, is in",
    ),
    "oath_csv_too_many_fields.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
    ),
    "oath_csv_version_3.csv": (
        "file",
        1,
        "is OATH CSV of an unknown version",
        "Export it again as version 1 or 2",
    ),
    "phenixid_cut_off.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "check whether the line was cut off",
    ),
    "phenixid_digits_missing.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "check whether the line was cut off",
    ),
    "phenixid_epoch.csv": ("row", 2, "the token counts its time from a moment other", "leave it out"),
    "phenixid_ocra.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "phenixid_step_90.csv": ("row", 2, "the time step is neither 30 nor 60 seconds, and", "leave the token out"),
    "pskc_billion_laughs.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "pskc_blank_line_above.xml": ("file", 2, "has something before its XML declaration", "Remove what is before"),
    "pskc_certificate.xml": (
        "file",
        None,
        "is encrypted for a certificate (X.509, RSA)",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_cut_off.xml": (
        "file",
        13,
        "is not well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "pskc_derivation_unknown.xml": (
        "file",
        None,
        "derives its key from a password in a way",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_draft_algorithm_misspelt.xml": (
        "file",
        None,
        "is encrypted with aes128-cbcc, which is not supported",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_draft_empty_digest.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_draft_method_misspelt.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_algorithm.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_algorithm_no_digest.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_draft_no_method.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_mac_key_no_method.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_no_mac_method.xml": (
        "file",
        None,
        "has MACs but does not say which kind (MACMethod)",
        "Ask the vendor for the file again",
    ),
    "pskc_plain_with_mac.xml": (
        "row",
        2,
        "the value is marked as plain",
        "ask the vendor for the file again",
    ),
    "pskc_value_empty_mac.xml": (
        "row",
        2,
        "the encrypted value has no MAC, so nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_value_method_unknown.xml": (
        "row",
        2,
        "the value is encrypted with an unsupported cipher",
        "ask the vendor for the file with AES-128-CBC",
    ),
    "pskc_value_no_method.xml": (
        "row",
        2,
        "the encrypted value does not name its cipher",
        "ask the vendor for the file again",
    ),
    "pskc_secret_in_pieces.xml": ("row", 1, "is not complete, valid Base64", "ask the vendor for the file again"),
    "pskc_value_twice.xml": (
        "row",
        2,
        "the value is marked as plain",
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
        "a PBKDF2 iteration count or a key length out of range (at most 10000000 iterations)",
        "Ask the vendor for the file again",
    ),
    "pskc_every_mac_bad.xml": (
        "file",
        None,
        "does not open with this key: it is the wrong one,",
        "Give the key that the vendor sent separately",
    ),
    "pskc_gcm.xml": (
        "file",
        None,
        "is encrypted with aes128-gcm, which is not supported",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_key_behind.xml": (
        "file",
        None,
        "says how it is encrypted only after the first of",
        "Ask the vendor for the file again",
    ),
    "pskc_legacy_no_digest.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_mac_method_unknown.xml": (
        "file",
        None,
        "has MACs other than HMAC with SHA-1,",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_no_cipher.xml": (
        "file",
        None,
        "has encrypted values but does not name their cipher",
        "Ask the vendor for the file again",
    ),
    "pskc_no_keys.xml": ("file", None, "holds no keys", "Ask the vendor for the file again"),
    "pskc_no_mac.xml": (
        "row",
        1,
        "the encrypted value has no MAC, so nothing",
        "ask the vendor for a file with MACs (RFC 6030,",
    ),
    "pskc_once_utf_16.xml": (
        "file",
        1,
        "does not have the encoding that its first line names",
        "Save it as UTF-8, and write",
    ),
    "pskc_salt_missing.xml": (
        "file",
        None,
        "derives its key from a password in a way",
        "Ask the vendor for the file with a pre-shared",
    ),
    "pskc_signature_around.xml": ("file", None, "is XML, but not PSKC", "Give the vendor's file as it was sent"),
    "pskc_two_documents.xml": (
        "file",
        15,
        "is not well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "pskc_version_2.xml": (
        "file",
        None,
        "is PSKC, but its header cannot be read, or",
        "Ask the vendor for the file again",
    ),
    "rcdevs_hex.csv": ("row", 2, "the secret is not Base64", "--encoding hex"),
    "rcdevs_no_key.csv": ("row", 2, "the secret is missing", "ask the vendor for the file again"),
    "rcdevs_no_length.csv": (
        "row",
        2,
        "the column Data does not say how many digits an OTP has (OTPLength)",
        "ask for the file again, or add --digits",
    ),
    "rcdevs_no_pairs.csv": (
        "row",
        2,
        "the column Data is not made of pairs such as",
        "check whether the row was cut off, and keep the",
    ),
    "rcdevs_not_base64.csv": (
        "row",
        2,
        "the column Data is not made of pairs such as",
        "check whether the row was cut off, and keep the",
    ),
    "rcdevs_not_quoted.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
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
        "check whether it is swapped with another value",
    ),
    "safenet_xml_cut_off.xml": (
        "file",
        9,
        "is not well-formed XML, or was cut off",
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
    "safenet_xml_encoding_unknown.xml": ("file", None, "is XML in an unsupported encoding", "Save it as UTF-8"),
    "safenet_xml_external_entity.xml": (
        "file",
        None,
        "has a document type (DTD) or entities, which",
        "Ask for the file again, and use it as the",
    ),
    "safenet_xml_no_seed.xml": ("row", 1, "the secret is missing", "ask the vendor for the file again"),
    "safenet_xml_no_serial.xml": ("row", 1, "serial is missing", "write the serial number that is printed on the"),
    "safenet_xml_no_tokens.xml": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "safenet_xml_seed_in_pieces.xml": ("row", 1, "more than one value in Seed", "ask the vendor for the file again"),
    "safenet_xml_sha256.xml": (
        "row",
        1,
        "the token is HOTP with a hash other than SHA-1,",
        "leave it out; if this was guessed from the",
    ),
    "safenet_xml_two_seeds.xml": (
        "row",
        1,
        "the token has several seeds",
        "leave out applications that are not for OATH",
    ),
    "safenet_xml_undefined_entity.xml": (
        "file",
        7,
        "is not well-formed XML, or was cut off",
        "Ask for the file again, and use it as the",
    ),
    "serial_secret_blanks.txt": (
        "file",
        None,
        "has blanks between its values, instead of commas",
        "Replace them with commas in a text editor",
    ),
    "serial_secret_ambiguous.csv": (
        "row",
        2,
        "the secret is valid as hexadecimal and as",
        "--encoding hex or --encoding base32",
    ),
    "serial_secret_base64.csv": ("row", 2, "the secret is neither hexadecimal nor Base32", "--encoding base64"),
    "serial_secret_counter_word.csv": (
        "row",
        2,
        "the counter is not a whole number",
        "check whether it is swapped with another value",
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
        "Add --time-step 30 or --time-step 60",
    ),
    "serial_secret_no_type.csv": (
        "file",
        None,
        "does not say whether its tokens are HOTP or TOTP",
        "Add --otp-type hotp, or --otp-type",
    ),
    "serial_secret_nul.csv": ("file", 2, "holds a NUL byte", "The file is damaged or not a text file: export it"),
    "serial_secret_one_field.csv": (
        "row",
        2,
        "the row is only one field",
        "check whether the line was cut off, is in",
    ),
    "serial_secret_tabs.txt": (
        "file",
        None,
        "has tabs between its values, instead of commas",
        "Replace them with commas in a text editor",
    ),
    "two_formats.csv": ("file", None, "might be oath-csv or yubico", "Add the right one, such as --format oath-csv"),
    "yubico_counter_missing.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "check whether the line was cut off",
    ),
    "yubico_cut_off.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "check whether the line was cut off",
    ),
    "yubico_format_cut_off.csv": (
        "row",
        2,
        "the row has too few fields for this format",
        "check whether the line was cut off",
    ),
    "yubico_format_static.csv": ("row", 1, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "yubico_logging_alone.csv": ("file", None, "holds no tokens", "Ask for the file again, with the tokens in it"),
    "yubico_logging_joined.csv": (
        "row",
        2,
        "the line says that the tool was started, followed by a row",
        "put a line break before the row",
    ),
    "yubico_no_public_id.csv": ("row", 1, "serial is missing", "write the serial number that is printed on the"),
    "yubico_semicolons.csv": (
        "file",
        None,
        "has semicolons between its values, instead of commas",
        "Replace them with commas in a text editor",
    ),
    "yubico_seven_digits.csv": ("row", 1, "the OTPs have neither 6 nor 8 digits, and", "leave the token out"),
    "yubico_static_alone.csv": ("row", 1, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "yubico_static.csv": ("row", 2, "the token is neither HOTP nor TOTP, and PingOne", "leave it out"),
    "serial_secret_steps.csv": (
        "file",
        None,
        "has 30 in every row",
        "--otp-type totp --time-step 30, or --otp-type hotp",
    ),
    "oath_csv_secret_shorter.csv": (
        "row",
        2,
        "fewer values and a shorter secret than every other",
        "get the file again",
    ),
    "oath_csv_secret_of_two_bytes.csv": (
        "row",
        1,
        "the secret has fewer than 10 bytes",
        "check whether it was cut off",
    ),
    "oath_csv_zeros.csv": ("row", 2, "the secret is only zeros", "ask the vendor for the file again"),
    "entra_header_joined.csv": ("file", 1, "column 5 has a value instead of a name", "put a line break between them"),
    "entra_header_cut_in_two.csv": (
        "file",
        1,
        "the header continues in the next line",
        "Remove the line break between them",
    ),
    "entra_counter.csv": ("row", 2, "is called HOTP, or has a counter", "ask the vendor for PSKC"),
    "entra_two_persons.csv": ("row", 2, "username is given twice", "correct or remove the wrong one"),
    "entra_secret_in_note.csv": ("row", 2, "another value of the token contains its secret", "remove it"),
    "nexus_base32.txt": ("row", 2, "the secret is not Base64", "--encoding base32"),
    "nexus_padding.txt": ("row", 2, "the secret is not Base64", "check whether it was cut off"),
    "graph_json_next_page.json": (
        "file",
        None,
        "is one page of several, as its @odata.nextLink says",
        "Fetch the next pages too",
    ),
    "graph_json_name_twice.json": ("file", None, "has an object with two values of the same name", "Export it again"),
    "graph_json_two_lists.json": ("file", None, "holds more than one list of tokens", "Put each list into a file"),
    "graph_json_digits_twice.json": (
        "row",
        1,
        "the number of digits is given twice, with different values",
        "ask the vendor for the file again",
    ),
    "yubico_joined.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
    ),
    "yubico_format_joined.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
    ),
    "phenixid_joined.csv": (
        "row",
        2,
        "the row has too many fields for this format",
        "check whether two lines were joined",
    ),
    "rcdevs_key_twice.csv": ("row", 2, "a name appears twice in the column Data", "ask for the file again"),
    "etoken_dat_key_twice.dat": (
        "row",
        1,
        "a parameter appears twice in sccTokenData",
        "ask the vendor for the file again",
    ),
    "pskc_two_serials.xml": ("row", 1, "more than one serial number", "ask the vendor for the file again"),
    "pskc_two_devices.xml": ("row", 1, "more than one serial number", "ask the vendor for the file again"),
    "pskc_serial_in_pieces.xml": (
        "row",
        1,
        "more than one serial number, or its serial number contains other elements",
        "ask the vendor for the file again",
    ),
    "pskc_two_formats.xml": ("row", 1, "more than one ResponseFormat", "ask the vendor for the file again"),
    "pskc_two_suites.xml": ("row", 1, "more than one Suite", "ask the vendor for the file again"),
    "pskc_package_inside.xml": (
        "row",
        1,
        "a package or a key is inside another",
        "ask the vendor for the file again",
    ),
    "pskc_key_alone.xml": ("file", None, "has a key outside a package", "Ask the vendor for the file again"),
    "pskc_full_width_digits.xml": (
        "row",
        1,
        "the key is not written as RFC 6030 says",
        "ask the vendor for the file again",
    ),
    "pskc_counter_in_pieces.xml": (
        "row",
        1,
        "the counter or a time is not a whole number",
        "ask the vendor for the file again",
    ),
    "pskc_head_unknown.xml": (
        "file",
        None,
        "mixes encrypted values with elements that RFC 6030 does not define",
        "Ask the vendor for the file again",
    ),
}


def hints_of(name: str) -> Hints:
    return PSKC_HINTS if name.startswith("pskc") else HINTS.get(name, Hints())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fault_is_said_with_its_place_and_its_cure(name: str) -> None:
    what, number, problem, cure = EXPECTED[name]

    ((refused, place, message),) = read_messages(BROKEN / name, hints_of(name))
    assert (refused, place) == (what, number)
    assert cure in message.partition(problem)[2]


@pytest.mark.parametrize("name", [name for name, expected in EXPECTED.items() if expected[0] == "row"])
def test_a_refused_row_leaves_the_others_and_names_no_seed(name: str) -> None:
    rows = read(BROKEN / name, hints_of(name))
    (refused,) = (row for row in rows if isinstance(row, RowError))
    assert all(isinstance(row, Row) for row in rows if row is not refused)
    assert refused.serial_number is None or len(refused.serial_number) < 16


def test_every_broken_file_is_expected() -> None:
    assert {path.name for path in BROKEN.iterdir()} == set(EXPECTED)


# Files that were cut off. A last row without a line break at its end that is whole still loads.

# What a person may say beside the file: nothing, or what a row that was cut off does not say any more.
NOTHING_SAID, TOTP_SAID = PSKC_HINTS, EVERY_HINTS[0]
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
    "yubico_format_joined.csv",
    "yubico_joined.csv",
}


def read_bytes(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row | RowError]:
    """Read columns and rows; none of a file that is refused."""
    path = Path("tokens")
    try:
        chosen = FORMATS[format_name] if format_name else choose_format(path, content[:HEAD])
        return list(open_table(chosen, OpenFile(path, io.BytesIO(content), hints), NOON)[1])
    except UnusableFile:
        return []


def read_loaded(content: bytes, hints: Hints, format_name: str | None = None) -> list[Row]:
    return [row for row in read_bytes(content, hints, format_name) if isinstance(row, Row)]


def choose_lengths(content: bytes, *, is_tree: bool) -> list[int]:
    """Choose how many bytes are left of a sample. A tree is refused as a whole wherever it is cut, and its end has a
    test of its own, so that every seventh byte tells as much."""
    size = len(content)
    steps = range(0, size, 7 if is_tree else 1)
    return [left for left in steps if size <= SMALL or left < AT_BEGINNING or left >= size - AT_END]


def read_right_rows(content: bytes, hints: Hints, format_name: str | None) -> list[Row]:
    """Read the rows that a file has; of one that is refused as a whole, those of its lines above the fault."""
    if read_bytes(content, hints, format_name):
        return read_loaded(content, hints, format_name)
    ends = [place for place, byte in enumerate(content, 1) if byte == ord("\n")]
    return [row for end in ends for row in read_loaded(content[:end], hints, format_name)]


@pytest.mark.parametrize("path", ALL_SAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_that_is_cut_at_any_byte_gives_rows_of_the_whole_file_alone(path: Path) -> None:
    # The rounds of PBKDF2 in some samples take too long to be done hundreds of times.
    content = path.read_bytes().replace(b">20000<", b">1<")
    is_tree = path.suffix in (".xml", ".json")
    is_of_seeds = path.parents[1] == SAMPLES and not is_tree
    for hints in (NOTHING_SAID, TOTP_SAID) if is_of_seeds else (NOTHING_SAID,):
        for name in {None, path.parent.name} & {None, *FORMATS} if is_of_seeds else {None}:
            right = read_right_rows(content, hints, name)
            refused = {row.row_number for row in read_bytes(content, hints, name) if isinstance(row, RowError)} or {1}
            for left in choose_lengths(content, is_tree=is_tree):
                wrong = [row for row in read_loaded(content[:left], hints, name) if row not in right]
                if path.name in FAULT_AT_END:
                    wrong = [row for row in wrong if row.row_number not in refused]
                assert not wrong, (left, name, content[:left][-40:])


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("*/*.xml")) + sorted(SAMPLES.glob("*/*.json")), ids=lambda p: p.name
)
def test_a_tree_that_does_not_close_is_refused_as_a_whole(path: Path) -> None:
    content = path.read_bytes().replace(b">20000<", b">1<")
    whole = read_bytes(content, NOTHING_SAID)
    for left in range(max(0, len(content) - 100), len(content)) if whole else ():
        assert read_bytes(content[:left], NOTHING_SAID) in ([], whole)


SEED1, SEED2, SEED3 = (SECRETS[f"MADE000000{number}"] for number in (1, 2, 3))
USER, DEVICE = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f", "0f0b7a52-8d3e-4c19-a6b7-5e4d3c2b1a09"
OATH = f"MADE1,{SEED1},hotp,6,0\n"
PAIRS = "serial,otp1,otp2"
ENTRA = f"serial,secret key,time interval,model\nMADE1,{'C' * 32},30,T100\n"
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
    rows = read_bytes(text.encode(), NOTHING_SAID)
    assert {type(row) for row in rows} == {Row}
    assert rows == read_bytes(text.encode() + b"\n", NOTHING_SAID)


@pytest.mark.parametrize("text", DOUBTFUL)
def test_a_last_row_that_may_be_cut_off_is_refused_until_a_line_break_says_that_it_is_whole(text: str) -> None:
    *others, last = read_bytes(text.encode(), TOTP_SAID if ENTRA in text else NOTHING_SAID)
    assert all(isinstance(row, Row) for row in others)
    assert last.reason == CUT_OFF
    assert isinstance(read_bytes(text.encode() + b"\n", TOTP_SAID if ENTRA in text else NOTHING_SAID)[-1], Row)


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
    assert [line.serial_number for line in assignment.lines.values()] == ["MADE1", "MADE2"]
    assert {fault.serial_number: fault.reason for fault in assignment.faults.values()} == (
        {} if loads else {"MADE2": LIST_CUT_OFF}
    )


TOTP_ROW, SHORT = f"MADE1, {SEED1}, totp, 8, 60", f"MADE2, {SEED2[:24]}"


@pytest.mark.parametrize(
    ("lines", "loaded", "named"),
    [
        # A line that was wrapped inside of its secret, once or twice: what follows may be the rest of the secret.
        ((TOTP_ROW, SHORT, f"{SEED2[24:]}, totp, 8, 60"), ["MADE1"], ["MADE2", None]),
        ((SHORT, f"{SEED2[24:]}, totp, 8, 60", TOTP_ROW), ["MADE1"], ["MADE2", None]),
        ((TOTP_ROW, SHORT, SEED2[24:30], f"{SEED2[30:]}, totp, 8, 60"), ["MADE1"], ["MADE2", None, None]),
        # The rest of it was lost.
        ((SHORT, TOTP_ROW), ["MADE1"], ["MADE2"]),
        # A line that was wrapped inside of its serial number or its person.
        (("MA", f"DE2, {SEED2}, hotp, 6, 0", TOTP_ROW), ["MADE1"], [None, None]),
        (("# version: 2", "ali", f"ce, r1, r2, {TOTP_ROW}"), [], [None, None]),
        (("serial,otp1,username", "MADE1,308714,ali", "ce"), [], ["MADE1", None]),
        # A counter goes on; a heading that is no beginning of a row does no harm, nor does a row of its own.
        ((f"MADE1, {SEED1}, hotp, 6, 1", "7"), [], ["MADE1", None]),
        (("Tokens of the spring", TOTP_ROW), ["MADE1"], [None]),
        ((TOTP_ROW, "MADE2", f"MADE3, {SEED3}, totp, 8, 60"), ["MADE1", "MADE3"], [None]),
        ((f"MADE1, {SEED1}, hotp, 6, 1", "MADE2", f"MADE3, {SEED3}, hotp, 6, 0"), ["MADE1", "MADE3"], [None]),
        ((f"MADE1, {SEED1}", f"MA-2, {SEED2}, hotp, 6, 0"), ["MADE1"], [None]),
        # Two short rows that are alike may be of another type.
        ((TOTP_ROW, SHORT, f"MADE3, {SEED3[:24]}"), ["MADE1", "MADE2", "MADE3"], []),
    ],
)
def test_a_piece_of_a_line_makes_no_token_and_the_rest_of_it_is_not_named(
    lines: tuple[str, ...], loaded: list[str], named: list[str | None]
) -> None:
    rows = read_bytes("".join(f"{line}\n" for line in lines).encode(), NOTHING_SAID)
    assert [row.serial_number for row in rows if isinstance(row, Row)] == loaded
    assert [row.serial_number for row in rows if isinstance(row, RowError)] == named


@pytest.mark.parametrize(
    ("hints", "step", "counter"), [(Hints(otp_type="hotp"), None, 30), (Hints(otp_type="totp", time_step=30), 30, 0)]
)
def test_a_number_that_may_be_a_step_or_a_counter_is_what_a_person_says(
    hints: Hints, step: int | None, counter: int
) -> None:
    rows = read(BROKEN / "serial_secret_steps.csv", hints)
    assert [(row.otps.time_step, row.otps.counter) for row in rows] == [(step, counter)] * 2


# Files in which a line break was put anywhere, or lost, or a whole line was lost.

# Broken files of each kind.
BROKEN_LINES = 20
# What stands above all lines of a file, what one line is, and what stands below them. `write_values` has the values.
KINDS = {
    "oath-csv": ("", "%(serial)s,%(hex)s%(parameters)s", ""),
    "oath-csv 2": ("# version: 2\n", "%(person)s, r1, r2, %(serial)s, %(hex)s, totp, 8, 60, sha256", ""),
    "serial-secret": ("", "%(serial)s,%(hex)s,%(counter)s", ""),
    "entra": (
        "upn,serial number,secret key,time interval,manufacturer,model\n",
        "%(person)s,%(serial)s,%(base32)s,60,MadeUp,%(model)s",
        "",
    ),
    "entra with hash": (
        "serialNumber;secretKey;timeInterval;model;upn;hashFunction\n",
        "%(serial)s;%(base32)s;30;;%(person)s;%(hash)s",
        "",
    ),
    "yubico": (
        "LOGGING START,12/11/2019 11:10\n",
        "OATH-HOTP,12/11/2019 11:10,1,%(serial)s,,%(hex)s,,,0,0,0,%(digits)s,%(counter)s,0,0,0,0,0",
        "",
    ),
    "yubico format": ("", "%(serial)s,,%(counter)s,%(hex)s,,2019-12-12T08:41:07,", ""),
    "phenixid": ("", "HOTP;%(serial)s;%(hex)s;%(counter)s", ""),
    "phenixid of TOTP": ("", "TOTP;%(serial)s;SHA256;%(hex)s;0;60;%(digits)s", ""),
    "nexus": ("", "%(serial)s:%(base64)s:Aho=", ""),
    "rcdevs": (
        "Type, Reference, Description, Data\n",
        '"OTP Token","%(serial)s","Made Up","TokenKey=%(base64)s,TokenType=VE9UUA==,OTPLength=OA==,TOTPTimeStep=NjA="',
        "",
    ),
    "etoken-dat": (
        "",
        "dn: sccAuthenticatorId=%(serial)s\nsccAuthenticatorId: %(serial)s\n"
        "sccTokenData: sccKey=%(hex)s;sccMode=E;sccPwLen=%(digits)s;sccVer=6.20;\n",
        "",
    ),
    "graph-json": (
        '{"value": [\n',
        '{"serialNumber": "%(serial)s",\n"secretKey": "%(base32)s", "timeIntervalInSeconds": 60},',
        '{"serialNumber": "", "secretKey": ""}]}\n',
    ),
    "safenet-xml": (
        "<Tokens>\n",
        '<Token serial="%(serial)s"><Application><Seed>%(hex)s</Seed>\n'
        "<MovingFactor>%(counter)s</MovingFactor></Application></Token>",
        "</Tokens>\n",
    ),
    "deepnet-xml": (
        "<data><header><manufacturerCode>DN</manufacturerCode><encode>HEX</encode><productCode>ST</productCode>\n"
        "<digits>8</digits><timeWindow>60</timeWindow><crypto>SHA256</crypto></header><tokens>\n",
        "<token><serial>%(serial)s</serial>\n<seed>%(hex)s</seed></token>",
        "</tokens></data>\n",
    ),
    "pskc": (
        "<KeyContainer>\n",
        '<KeyPackage><DeviceInfo><SerialNo>%(serial)s</SerialNo></DeviceInfo>\n<Key Algorithm="urn:pskc:hotp">'
        '<AlgorithmParameters><ResponseFormat Length="%(digits)s"/></AlgorithmParameters>\n'
        "<Data><Secret><PlainValue>%(base64)s</PlainValue></Secret>"
        "<Counter><PlainValue>%(counter)s</PlainValue></Counter></Data></Key></KeyPackage>",
        "</KeyContainer>\n",
    ),
    "otp-pairs": (
        "serial,otp1,otp2,otp_type,generated_at,username\n",
        "%(serial)s,308714,%(otp2)s,%(type)s,2026-03-01T09:30:00Z,%(person)s",
        "",
    ),
    "otp-pairs by mail": ("email;serial;otp1;note;not_before\n", "%(person)s;%(serial)s;308714;;%(date)s", ""),
}
FACTS = ("serial_number", "otps", "otp_type", "user_id", "device_id", "username", "email", "external_id", "not_before")
Facts = list[tuple[object, ...]]


def write_values(chance: random.Random, serial: str, secret: bytes) -> dict[str, object]:
    """Write what a line may say of a token."""
    name = "".join(chance.choices("abcdefghij", k=chance.randint(3, 12)))
    parameters = ("", ",hotp", ",hotp,6,17", ",hotp,8,1234,sha1", ",totp,8,60", ",totp,6,30,sha256")
    return {
        "serial": serial,
        "hex": secret.hex(),
        "base32": base64.b32encode(secret).decode().rstrip("="),
        "base64": base64.b64encode(secret).decode(),
        "parameters": chance.choice(parameters),
        "person": chance.choice((name, f"{name}@example.test", f"{name}.{name[::-1]}@x.test")),
        "counter": chance.choice(("0", "1", "17", "1234")),
        "digits": chance.choice((6, 8)),
        "model": chance.choice(("T1", "T20")),
        "hash": chance.choice(("", "hmacsha256")),
        "otp2": chance.choice(("", "367299")),
        "type": chance.choice(("hotp", "totp")),
        "date": chance.choice(("", "2026-12-01")),
    }


def write_file(chance: random.Random, kind: str) -> str:
    """Write a file of this kind, of several tokens."""
    above, line, below = KINDS[kind]
    prefix, zeros = chance.choice(("", "MADE", "X")), chance.choice((1, 7, 10))
    sizes = chance.choice(((20,), (32,), (10, 20, 32)))
    first = chance.randrange(1, 2000)
    tokens = ((f"{prefix}{number:0{zeros}}", chance.choice(sizes)) for number in range(first, first + 5))
    lines = [line % write_values(chance, serial, chance.randbytes(size)) for serial, size in tokens]
    return "".join(f"{each}\n" for each in (above[:-1], *lines[: chance.randint(1, 5)], below[:-1]) if each)


def break_lines(chance: random.Random, text: str, *, is_tree: bool) -> str:
    """Put a line break anywhere, or take one or a whole line away; a line that is an element may be missing from a tree
    without a trace."""
    lines = text.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    how = chance.choice(("cut", "cut", "join", "join" if is_tree else "lose"))
    if how == "lose":
        return "".join(lines[:place] + lines[place + 1 :])
    if how == "join":
        return "".join([*lines[:place], lines[place].rstrip("\n"), *lines[place + 1 :]])
    cut = chance.randrange(len(text) + 1)
    return text[:cut] + chance.choice(("\n", "\r\n")) + text[cut:]


def list_facts(text: str, format_name: str | None = None) -> Facts:
    rows = read_loaded(text.encode(), NOTHING_SAID, format_name)
    return [tuple(getattr(row, name) for name in FACTS) for row in rows]


def find_wrong_facts(chance: random.Random, kind: str) -> tuple[Facts, str]:
    """Break the lines of a file, and find tokens that load and are none of the whole file; with the broken file."""
    text, right = "", Facts()
    while not right:
        # Some files need a hint.
        right = list_facts(text := write_file(chance, kind))
    above, _, below = KINDS[kind]
    # A row may be refused for what the others are.
    for line in text.splitlines():
        right += list_facts(f"{above}{line}\n{below}", kind.partition(" ")[0])
    broken = break_lines(chance, text, is_tree=kind.endswith(("xml", "json", "pskc")))
    return [facts for facts in list_facts(broken) if facts not in right], broken


@pytest.mark.parametrize("kind", KINDS)
def test_no_line_break_makes_another_token(kind: str) -> None:
    chance = random.Random(kind)
    for _ in range(BROKEN_LINES):
        wrong, broken = find_wrong_facts(chance, kind)
        assert not wrong, broken


# Damaged samples and random bytes.

FORMAT_NAMES = [name for name in FORMATS if name != "otp-pairs"]
# The samples of each format; the rounds of PBKDF2 in one of PSKC's take too long to be done hundreds of times.
CONTENTS = {
    name: [path.read_bytes().replace(b">20000<", b">1<") for path in sorted((SAMPLES / name).iterdir())]
    for name in FORMAT_NAMES
}

fuzzed = settings(
    max_examples=80,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_only_foreseen_things_happen(path: Path, content: bytes, format_name: str) -> None:
    path.write_bytes(content)
    rows: list[Row | RowError] = []
    try:
        rows = read(path, TOTP_SAID, format_name)
        messages = [row.reason for row in rows if isinstance(row, RowError)]
    except UnusableFile as error:
        messages = [str(error).replace(str(path), "")]
    assert all(isinstance(row, Row | RowError) for row in rows)
    assert not [message for message in messages if find_quoted(message)]
    numbers = [row.row_number for row in rows]
    assert numbers == sorted(set(numbers))


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What damages a file: pieces cut out, doubled, put elsewhere or replaced by others; or values replaced by others,
    which leaves XML well-formed."""
    seed = draw(st.integers(0, 2**32))
    is_of_values = draw(st.booleans())
    pieces = draw(st.lists(st.sampled_from(VALUES) if is_of_values else PIECE, min_size=1, max_size=6))

    def damage(content: bytes) -> bytes:
        chance = random.Random(seed)
        for piece in pieces:
            if is_of_values:
                places = [match.span() for match in VALUE.finditer(content)]
                begin, end = chance.choice(places or [(0, 0)])
                put = piece
            else:
                begin = chance.randrange(len(content) + 1)
                end = min(len(content), begin + chance.choice((0, 1, 2, 8, 40, 200)))
                put = chance.choice((piece, b"", content[begin:end] * 2, piece * 20))
            content = content[:begin] + put + content[end:]
        return content

    return damage


# A value between two tags, in an attribute, or between two separators.
VALUE = re.compile(rb'(?<=>)[^<>\n]+(?=<)|(?<==")[^"\n]*(?=")|(?<=[,;:=\n])[^,;:=\n<>"]+')
# What a value is replaced by.
VALUES = (
    *(b"", b"-1", b"0", b"7", b"9" * 30, b"1" * 5000, b"x", b"true", b"maybe", b"=", b"AAAA", b"A" * 5000, b"QUFB"),
    *("é".encode(), "\u0663".encode(), b"1E+12", b"HEXADECIMAL", b"2036", b"0001-01-01T00:00:00-23:59", b"99/99/9999"),
    *(b"none", b"SECRET", b"COUNTER", b"NAME", b"#kw-aes128", b"#aes256-cbc", b"#tripledes-cbc", b"hmac-sha512"),
    *(b"hmac-shake_128", b"hmac-md5", b"#pbkdf2", b"hotp", b"totp", b"ocra", b"9999-12-31T23:59:59+23:59"),
)
PIECES = (
    *(
        b'"',
        b",",
        b";",
        b":",
        b"=",
        b"#",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"<",
        b">",
        b"/>",
        b"&#0;",
        b"&x;",
        b"]]>",
        b"{",
        b"[",
    ),
    *(
        b"\xff",
        b"\xef\xbb\xbf",
        "é".encode(),
        "\u0663".encode(),
        b"-1",
        b"0",
        b"9" * 30,
        b"1E+12",
        b"NaN",
        b"null",
        b"true",
    ),
    *(b"<Key>", b"</Key>", b"<Data>", b'<Data Name="X">', b"<Secret/>", b"<Value>A</Value>", b"<ValueMAC>A</ValueMAC>"),
    *(b"<EncryptedValue/>", b"<EncryptionKey/>", b"<ExpiryDate>x</ExpiryDate>", b"<MACMethod/>", b"<IterationCount>0"),
    *(
        b"hotp",
        b"totp",
        b"# version: 2",
        b"OATH-HOTP",
        b"LOGGING START",
        b"sccMode=T;",
        b"<!DOCTYPE x>",
        b"<!-- ",
        b"<?x",
    ),
)


PIECE = st.sampled_from(PIECES) | st.binary(max_size=6)


@pytest.mark.parametrize("name", FORMAT_NAMES)
@fuzzed
@given(which=st.integers(0, 99), damage=damages())
def test_a_damaged_sample_gives_only_what_is_foreseen(
    tmp_path: Path, name: str, which: int, damage: Callable[[bytes], bytes]
) -> None:
    contents = CONTENTS[name]
    assert_only_foreseen_things_happen(tmp_path / "file", damage(contents[which % len(contents)]), name)


@pytest.mark.parametrize("name", FORMAT_NAMES)
@fuzzed
@given(content=st.binary(max_size=500) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_any_bytes_give_only_what_is_foreseen(tmp_path: Path, name: str, content: bytes) -> None:
    assert_only_foreseen_things_happen(tmp_path / "file", content, name)


@fuzzed
@given(head=st.binary(max_size=500) | st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_any_head_is_asked_about_without_an_error(head: bytes) -> None:
    assert all(each.is_format_of(head) in (True, False) for each in FORMATS.values())


STARTS = {"pskc": b"<KeyContainer>", "safenet-xml": b"<Tokens>", "deepnet-xml": b"<data><header></header>"}
# What a file repeats that is one endless line, element or comment, or has no rows; a format and a piece.
ENDLESS = [
    *((name, piece) for name in FORMAT_NAMES if name not in STARTS for piece in (b"a", b'"', b"[")),
    *((name, piece) for name in STARTS for piece in (b"a", b"<a>", b"<!--x-->")),
    ("etoken-dat", b"a:b\n"),
]
# What a file repeats that has many small rows.
MANY = [
    *((name, b"MADE1,\n") for name in ("oath-csv", "serial-secret", "yubico")),
    ("phenixid", b"HOTP;M;\n"),
    ("nexus", b"M:A:A\n"),
    ("etoken-dat", b"a:b\n\n"),
    ("pskc", b"<KeyPackage/>"),
    ("pskc", b"<KeyPackage><Key/></KeyPackage>"),
    ("safenet-xml", b"<Token/>"),
    ("deepnet-xml", b"<token/>"),
    *((name, b"<a/>") for name in STARTS),
]
MONSTERS = [*((name, piece, 3 * MAX_PART // 2) for name, piece in ENDLESS), *((*each, MAX_PART // 16) for each in MANY)]


@pytest.mark.faults
@pytest.mark.parametrize(("name", "piece", "size"), MONSTERS)
def test_a_monstrous_file_is_read_or_refused_in_bounded_memory(
    tmp_path: Path, name: str, piece: bytes, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(STARTS.get(name, b"") + piece * (size // len(piece)))
    tracemalloc.start()
    try:
        with path.open("rb") as stream, contextlib.suppress(UnusableFile):
            for _ in open_table(FORMATS[name], OpenFile(path, stream, TOTP_SAID), NOON)[1]:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A file of many rows is not held in memory; JSON is, up to a limit of its own.
    assert peak < (100 if name == "graph-json" else 8 if size > MAX_PART else 1) * MAX_PART
