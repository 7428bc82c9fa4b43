"""Decides how long a notice waits for its next try. Values in, values out."""

from __future__ import annotations

# Seconds until the second try where the webhook could not be reached, or failed; each time twice as long.
FIRST_DELAY = 5.0
# Seconds at most, so that a webhook that is back is told soon.
LONGEST_DELAY = 300.0
# Seconds until the second try where the webhook refuses the notice: a person has to mend its URL or its receiver first.
FIRST_DELAY_REFUSED = 300.0
# Seconds at most where it refuses.
LONGEST_DELAY_REFUSED = 3600.0
# Seconds after which a notice that was not delivered is given up.
GIVEN_UP_AFTER = 86_400.0
# Refusals that pass by themselves: Request Timeout and Too Many Requests.
_PASSING = (408, 429)


def choose_delay(tries: int, status: int | None, retry_after: float | None) -> float:
    """Seconds until the next try, after so many tries. `status`: of HTTP, None without an answer; `retry_after`:
    seconds for which the webhook asked."""
    first, longest = (
        (FIRST_DELAY_REFUSED, LONGEST_DELAY_REFUSED) if is_refusal(status) else (FIRST_DELAY, LONGEST_DELAY)
    )
    # No further doubling is needed for the longest delay, and a huge number of tries is no number of seconds.
    doublings = min(max(tries - 1, 0), 20)
    return max(min(first * float(2**doublings), longest), retry_after or 0.0)


def is_refusal(status: int | None) -> bool:
    """Whether this status says that the same notice is not taken later either: a redirect, which is not followed, or
    a refusal such as 401, 404 or 410."""
    return status is not None and 300 <= status < 500 and status not in _PASSING
