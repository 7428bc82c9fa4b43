"""What is known of the pace of a license, in sentences."""

from __future__ import annotations

from worker.observability.counting import write_share
from worker.pace.known_pace import KnownPace
from worker.reports.sentences.outlook import describe_hold


def describe_pace(known: KnownPace, *, tells_hold: bool = True) -> list[str]:
    """Say what is known of a license's pace: the rate, a hold unless that is told elsewhere, whether it adapts, the
    ceiling, the share, and who set what holds now; a line each."""
    lines = [
        f"License {known.license}: " + (f"{known.rate:.1f} requests/s lately." if known.rate else "no request yet.")
    ]
    if known.hold and tells_hold:
        lines.append(describe_hold(known.hold))
    if known.fixed_rate:
        lines.append(f"It stays at {known.fixed_rate:g} requests/s. Let it adapt again with: oathbulk pace --adapt")
    else:
        lines.append("No rate is set: it adapts to what PingOne permits.")
    if known.ceiling and known.found_at:
        found_at = f"{known.found_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"PingOne refuses from about {known.ceiling:.1f} requests/s on (found {found_at}).")
    else:
        lines.append("PingOne has refused none yet, so the limit is not known.")
    if known.share < 1:
        lines.append(f"Ours are {write_share(known.share)} of that; the rest is left to people who sign on.")
    if known.set_by and known.set_at:
        why = f" ({known.ticket})" if known.ticket else ""
        lines.append(f"Set by {known.set_by} on {known.set_at:%Y-%m-%d %H:%M} UTC{why}.")
    return lines
