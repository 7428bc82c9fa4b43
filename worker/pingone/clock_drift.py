"""How far our clock is from PingOne's. Every answer carries a `Date`, whatever else it says."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from worker.config.environment import Environment
from worker.pingone.errors import Answer, OutcomeUnknown
from worker.pingone.transport import Transport
from worker.pingone.wire import Request


def measure_drift(environment: Environment, *, deadline: float) -> float:
    """Ask PingOne for its time; return the seconds that our clock is ahead of it, to the second. Raises NotDelivered,
    OutcomeUnknown."""
    url = f"{environment.api_url}/environments/{environment.environment_id}"
    transport = Transport(url, deadline=deadline)
    try:
        # Sent without an access token: a refusal tells the time as well.
        _, headers, _ = transport.exchange(Request("GET", url, {}, b""))
    finally:
        transport.close()
    dates = [value for name, value in headers.items() if name.lower() == "date"]
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(dates[0])).total_seconds()
    except (IndexError, TypeError, ValueError, OverflowError) as error:
        raise OutcomeUnknown(Answer(message="the answer carries no date")) from error
