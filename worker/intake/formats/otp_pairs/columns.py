"""The columns of OTP pairs: what a name in a header means, whether it says that the column holds a secret, and whether
an export added the column."""

from __future__ import annotations

import re

from worker.intake.results import FILE_ROW, RESULT_COLUMNS
from worker.intake.rows import COLUMNS, Column

# The columns that only this format has.
OTP1 = Column("otp1", ("first otp", "otp"), is_required=True)
OTP2 = Column("otp2", ("second otp", "next otp"))

# All columns that a header may name, in the order in which missing ones are named.
KNOWN = (COLUMNS[0], OTP1, OTP2, *COLUMNS[1:], Column(FILE_ROW))

# Words that say that a column holds a secret. "key", "pin" and "puk" also stand inside harmless words (keyboard,
# shipping, pingone_id). So they count only where they are a word of the name.
SECRET_WORDS = {"key", "keys", "pin", "pins", "puk", "puks"}
# Parts of a normalised name that say the same: "key", "pin" and "puk" at its end, or before what vendors put behind
# them; and a further OTP, such as "otp3", which is a secret too.
SECRET_PART = re.compile(
    r"seed|secret(?!ar)|password|passphrase|passcode|privateid"
    r"|(?:key|pin|puk)s?\d*$"
    r"|^(?:key|pin|puk)(?:code|data|hex|b64|base\d+|value|number)"
    r"|(?<![ht])otp\d*$"
)
# A word of a name: `serialKey_PIN` has serial, Key and PIN.
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
    """Bring the name of a column into the form in which names are compared: without case, blanks, `_`, `-`, and without
    a stray byte order mark."""
    return re.sub(r"[\s_\-\ufeff]", "", name).lower()


# The column that each normalised name means.
CANONICAL = {normalise(name): column.name for column in KNOWN for name in (column.name, *column.synonyms)}


def canonical_column(name: str) -> str | None:
    """Find the column of ours that a name in a header means; None if it is a column of the file's own."""
    return CANONICAL.get(normalise(name))


# The columns that an export adds, by their normalised names.
_RESULTS = frozenset(map(normalise, RESULT_COLUMNS))


def is_result(name: str) -> bool:
    """Whether a column of this name is one that an export adds, and so none of the file's own."""
    return normalise(name) in _RESULTS


def is_own(name: str) -> bool:
    """Whether a column that is none of ours is kept: it has a name, no secret, and no result of an earlier export."""
    return bool(name) and not is_result(name) and not names_secret(name)


def names_secret(name: str) -> bool:
    """Whether the name of a column that is none of ours says that it holds a seed, key, PIN, PUK, password or OTP."""
    words = {word.lower() for word in WORD.findall(name)}
    return bool(words & SECRET_WORDS or SECRET_PART.search(normalise(name)))


def looks_like_data(name: str) -> bool:
    """Whether what stands in the place of a name is the value of a cell: then the file has no header."""
    return DATA.fullmatch(name.strip()) is not None
