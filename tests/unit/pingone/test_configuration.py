"""Policies, MFA settings and capabilities: what is missing is PingOne's default where it has one, else not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.data.recorded_answers import names_of, recorded
from support.data.refused_reads import REFUSED_READS

from worker.config.environment import Environment
from worker.pace.rate_groups import RateGroup
from worker.pingone.errors import OutcomeUnknown, PingOneError
from worker.pingone.reads import (
    Capabilities,
    MfaSettings,
    Policy,
    build_capabilities_url,
    build_mfa_settings_url,
    build_policies_url,
    parse_capabilities,
    parse_mfa_settings,
    parse_policies,
)

FIRST, SECOND = (f"8a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (1, 2))
DEFAULT = Policy(
    id=FIRST,
    name="Default MFA Policy",
    is_default=True,
    is_oath_enabled=True,
    is_pairing_disabled=False,
    failure_count=3,
    cool_down=120,
    new_device_notification="NONE",
)
NEW = Policy(
    id=SECOND,
    name="New",
    is_default=False,
    is_oath_enabled=False,
    is_pairing_disabled=True,
    failure_count=5,
    cool_down=30,
)
UNKNOWN = Policy(FIRST, "Default MFA Policy", True, failure_count=3, new_device_notification="PIGEON")
POLICIES = {
    "two": (DEFAULT, NEW),
    "hal": (DEFAULT,),
    "ids_alone": (Policy(FIRST),),
    "unknown_words": (UNKNOWN,),
    "wrong_types": (Policy(FIRST),),
    "none": (),
}
MFA_SETTINGS = {
    "all": MfaSettings(10, True, 6, 900, True),
    "without_lockout": MfaSettings(5, False, None, None, False),
    "lockout_without_an_end": MfaSettings(5, True, 6, None, None),
    "links_alone": MfaSettings(5, False),
    "wrong_types": MfaSettings(None, True),
}
CAPABILITIES = {
    "filled": Capabilities(True, {RateGroup.MFA: 100, RateGroup.DIRECTORY: 200, RateGroup.CONFIGURATION: 10}),
    "without_quantities": Capabilities(False),
    "empty": Capabilities(),
    "wrong_types": Capabilities(),
}


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def test_each_has_an_address(environment: Environment) -> None:
    base = f"https://api.pingone.eu/v1/environments/{environment.environment_id}"
    assert build_policies_url(environment) == f"{base}/deviceAuthenticationPolicies"
    assert build_mfa_settings_url(environment) == f"{base}/mfaSettings"
    assert build_capabilities_url(environment) == f"{base}/capabilities"


@pytest.mark.parametrize(("name", "policies"), POLICIES.items())
def test_every_recorded_page_of_policies_is_read(
    environment: Environment, name: str, policies: tuple[Policy, ...]
) -> None:
    assert parse_policies(*recorded(f"policies/{name}"), environment=environment).items == policies


@pytest.mark.parametrize(("name", "settings"), MFA_SETTINGS.items())
def test_all_recorded_settings_are_read(name: str, settings: MfaSettings) -> None:
    assert parse_mfa_settings(*recorded(f"mfa_settings/{name}")) == settings


@pytest.mark.parametrize(("name", "capabilities"), CAPABILITIES.items())
def test_all_recorded_capabilities_are_read(name: str, capabilities: Capabilities) -> None:
    assert parse_capabilities(*recorded(f"capabilities/{name}")) == capabilities


def test_no_recorded_answer_is_left_out() -> None:
    assert names_of("policies") == {*POLICIES}
    assert names_of("mfa_settings") == {*MFA_SETTINGS}
    assert names_of("capabilities") == {*CAPABILITIES}


@pytest.mark.parametrize(("name", "error"), (REFUSED_READS | {"users/error_in_a_200": OutcomeUnknown}).items())
@pytest.mark.parametrize("parse", [parse_policies, parse_mfa_settings, parse_capabilities])
def test_every_recorded_refusal_becomes_its_error(
    environment: Environment, parse: Callable[..., Any], name: str, error: type[PingOneError]
) -> None:
    options = {"environment": environment} if parse is parse_policies else {}
    with pytest.raises(PingOneError) as caught:
        parse(*recorded(name), **options)
    assert type(caught.value) is error
