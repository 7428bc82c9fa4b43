"""Damaged samples and random bytes: every format gives rows, row errors or an UnusableFile, never anything else, and
holds little in memory."""

from __future__ import annotations

import contextlib
import random
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data.seed_files import EVERY_HINTS, NOON, SAMPLES, find_quoted, read

from worker.intake import Row, RowError, UnusableFile
from worker.intake.files import OpenFile
from worker.intake.formats import FORMATS, open_table
from worker.intake.other_formats import MAX_PART

HINTS = EVERY_HINTS[0]
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
    messages: list[str] = []
    try:
        rows += read(path, HINTS, format_name)
    except UnusableFile as error:
        messages.append(str(error).replace(str(path), ""))
    assert all(isinstance(row, Row | RowError) for row in rows)
    messages += (row.reason for row in rows if isinstance(row, RowError))
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


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_cut_off_anywhere_gives_only_what_is_foreseen(tmp_path: Path, name: str) -> None:
    for content in CONTENTS[name]:
        for length in range(0, len(content), max(1, len(content) // 40)):
            assert_only_foreseen_things_happen(tmp_path / "file", content[:length], name)


XML_FORMATS = ("pskc", "safenet-xml", "deepnet-xml")


@pytest.mark.parametrize("name", XML_FORMATS)
def test_xml_that_is_cut_off_is_refused_as_a_whole(tmp_path: Path, name: str) -> None:
    for content in CONTENTS[name]:
        for length in range(1, len(content.rstrip()), 97):
            path = tmp_path / "file"
            path.write_bytes(content[:length])
            with pytest.raises(UnusableFile):
                read(path, HINTS, name)


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
MONSTERS = [*((name, piece, 3 * MAX_PART // 2) for name, piece in ENDLESS), *((*each, MAX_PART // 4) for each in MANY)]


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
            for _ in open_table(FORMATS[name], OpenFile(path, stream, HINTS), NOON)[1]:
                pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A file of many rows is not held in memory; JSON is, up to a limit of its own.
    assert peak < (100 if name == "graph-json" else 8 if size > MAX_PART else 2) * MAX_PART
