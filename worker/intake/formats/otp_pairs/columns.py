"""The names of columns in a header of OTP pairs: what they mean, and which say that they hold a secret."""

from __future__ import annotations

import re

from worker.intake.rows import COLUMNS, Column

# The columns that only this format has.
OTP1 = Column("otp1", ("first otp", "otp"), is_required=True)
OTP2 = Column("otp2", ("second otp", "next otp"))

# Everything that a header may name, in the order in which a missing column is told.
KNOWN = (COLUMNS[0], OTP1, OTP2, *COLUMNS[1:])

# "key", "pin" and "puk" also lie inside harmless words (keyboard, shipping, pingone_id). So they count as a
# word of the name, at its end, and before what vendors put behind them. "otp3" is here: an OTP is a secret.
SECRET_WORDS = {"key", "keys", "pin", "pins", "puk", "puks"}
SECRET_PART = re.compile(
    r"seed|secret(?!ar)|password|passphrase|passcode|privateid"
    r"|(?:key|pin|puk)s?\d*$"
    r"|^(?:key|pin|puk)(?:code|data|hex|b64|base\d+|value|number)"
    r"|(?<![ht])otp\d*$"
)
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# What a serial number, an OTP, a seed or an id looks like, and a column's name does not.
DATA = re.compile(
    r"[A-Za-z]{0,8}\d{4,}"
    r"|[0-9A-Fa-f]{16,}"
    r"|[A-Z2-7]{16,}=*"
    r"|\d[.,]?\d*E\+\d+"
    r"|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)


def normalise(name: str) -> str:
    """Names are matched without regard to case, blanks, `_` and `-`; a stray byte order mark is a blank."""
    return re.sub(r"[\s_\-\ufeff]", "", name).lower()


# Normalised name -> the column that it means.
CANONICAL = {normalise(name): column.name for column in KNOWN for name in (column.name, *column.synonyms)}


def canonical_column(name: str) -> str | None:
    """The column that a name in a header means; None for one of the file's own."""
    return CANONICAL.get(normalise(name))


def names_secret(name: str) -> bool:
    """Whether a column that is none of ours says that it holds a seed, key, PIN, PUK, password or OTP."""
    words = {word.lower() for word in WORD.findall(name)}
    return bool(words & SECRET_WORDS or SECRET_PART.search(normalise(name)))


def looks_like_data(name: str) -> bool:
    return DATA.fullmatch(name.strip()) is not None
