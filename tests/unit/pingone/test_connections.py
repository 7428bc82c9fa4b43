from __future__ import annotations

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.pingone.connections import Address, parse_address

ORIGINS = st.sampled_from(
    [
        "http://127.0.0.1:8080",
        "https://api.pingone.eu",
        "https://api.pingone.eu:443",
        "HTTPS://API.PingOne.eu",
        "http://[::1]:80",
        "https://bücher.example",
        "https://name:word@api.pingone.eu",
        "http://api\n.example",
    ]
)
PATHS = st.text(st.sampled_from("abcXYZ019_~-/.%?#&=+ @:é"), max_size=30)


@given(origin=ORIGINS, path=PATHS)
@example("https://api.pingone.eu", "/v1/environments/0a7b0000-5e1f-4c0d-8000-000000000001/users")
@example("https://api.pingone.eu", "/v1/../users")
@example("https://api.pingone.eu", "")
def test_addresses_are_parted_as_httpx_does_it(origin: str, path: str) -> None:
    try:
        parsed = httpx.URL(origin + path)
    except httpx.InvalidURL:
        with pytest.raises(httpx.InvalidURL):
            parse_address(origin + path)
        return
    expected = Address(f"{parsed.scheme}://{parsed.netloc.decode('ascii')}", parsed.raw_path)
    assert parse_address(origin + path) == expected
