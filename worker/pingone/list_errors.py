"""Which error an answer stands for that refused a list of tokens: the whole of it, or one token. Pure."""

from __future__ import annotations

import re

from worker.pingone.answer_errors import choose_error
from worker.pingone.envelope import Envelope
from worker.pingone.errors import PingOneError
from worker.pingone.refusals import AlreadyImported, BadToken, InventoryFull, Rejected, TooManyTokens

# What a refusal is about: a place in the list that was sent, a field there, or both, such as `tokens[7].secret`.
_TARGET = re.compile(
    r"token(?:s|Ids)(?:[\[.]([0-9]{1,6})\]?)?(?:\.([A-Za-z][A-Za-z.]{0,60}))?"
    r"|(serialNumber|secret|otpLength|hashAlgorithm|rowNumber|(?:hotp\.)?counter|(?:totp\.)?timeStep)"
)


def choose_list_error(envelope: Envelope, count: int) -> PingOneError:
    """Choose the error for an answer that started no job for a list of so many tokens."""
    error, answer = choose_error(envelope), envelope.answer
    if answer.status == 413:
        # A proxy's says so as well: it takes no request of this length, and passed nothing on.
        return TooManyTokens(answer)
    if not isinstance(error, Rejected):
        return error
    if "LIMIT_EXCEEDED" in envelope.codes:
        return InventoryFull(answer)
    if "UNIQUENESS_VIOLATION" in envelope.codes:
        return AlreadyImported(answer)
    targets = [target for each in envelope.details if isinstance(target := each.get("target"), str)]
    matches = [match for target in targets if (match := _TARGET.fullmatch(target))]
    found = next((match for match in matches if match[1]), matches[0] if matches else None)
    index, field = (found[1], found[2] or found[3]) if found else (None, None)
    if "SIZE_LIMIT_EXCEEDED" in envelope.codes and index is None and field is None:
        return TooManyTokens(answer)
    place = int(index) if index is not None and int(index) < count else None
    return BadToken(answer, place, field) if found else error
