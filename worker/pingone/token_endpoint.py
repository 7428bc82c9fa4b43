"""The wire format of the token endpoint: builds the request for an access token, and reads its answer. Pure, but
for the time and id of a client assertion."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote_plus, urlencode

from worker.config.environment import Environment
from worker.pingone.client_assertion import ASSERTION_TYPE, sign_assertion
from worker.pingone.envelope import open_envelope
from worker.pingone.errors import CredentialsRefused, NotDelivered
from worker.pingone.wire import Request

# Seconds that an access token is taken to live where the token endpoint does not say: it is renewed often.
DEFAULT_EXPIRES_IN = 300.0


# Seconds that an access token is taken to live at the most.
LONGEST_EXPIRES_IN = 86_400.0


# All that may stand after "Bearer" (RFC 6750, section 2.1). Anything else could smuggle a header into our requests.
_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def build_access_token_request(environment: Environment) -> Request:
    """Build the request for an access token.
    https://developer.pingidentity.com/pingone-api/workflow-library/application-management/configure-a-non-interactive-worker-application/step-3-get-a-token.html"""
    client_id = environment.client_id
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    form = {"grant_type": "client_credentials"}
    if environment.client_auth in ("secret_jwt", "private_key_jwt"):
        form |= {"client_id": client_id, "client_assertion_type": ASSERTION_TYPE}
        form |= {"client_assertion": sign_assertion(environment)}
    elif environment.client_auth == "basic":
        # Both are form-encoded before they are joined (RFC 6749, section 2.3.1): a secret may contain a colon or a %.
        pair = f"{quote_plus(client_id)}:{quote_plus(environment.secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form |= {"client_id": client_id, "client_secret": environment.secret}
    return Request("POST", environment.token_url, headers, urlencode(form).encode())


def parse_access_token(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, float]:
    """Read the access token and the seconds that it lives. Asking again does no harm, so no outcome is unknown here:
    what is not a refusal was not delivered. Any 4xx refuses: waiting does not mend a wrong path or method either."""
    envelope = open_envelope(status, headers, body)
    fields = envelope.fields or {}
    access_token = fields.get("access_token")
    if 200 <= status < 300 and isinstance(access_token, str) and _B64TOKEN.fullmatch(access_token):
        return access_token, _parse_lifetime(fields.get("expires_in"))
    if 400 <= status < 500 and status not in (408, 425, 429):
        raise CredentialsRefused(envelope.answer)
    answer = replace(envelope.answer, message=envelope.answer.message or "no access token in the answer")
    raise NotDelivered(answer, envelope.retry_after)


def _parse_lifetime(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, int | float | str) and value is not True else math.nan
    except (ValueError, OverflowError):
        seconds = math.nan
    return min(seconds, LONGEST_EXPIRES_IN) if seconds > 0 else DEFAULT_EXPIRES_IN
