"""The fleets of the acceptance tests, on servers whose clocks are moved."""

from __future__ import annotations

pytest_plugins = ["acceptance.conftest"]
