"""PingOne's recorded answers (tests/samples/pingone/): what each of them is read as, and the error that it stands for.

What is missing in an answer is PingOne's default where it has one, else not known. Whatever a server answers is read as
something or a PingOneError, and never a crash."""

import copy
import json
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.data.recorded_answers import SAMPLES, names_of, opened
from unit.pingone.conftest import make_environment

from worker.pace.search import RateGroup, SlotTooFar
from worker.pingone import errors
from worker.pingone.auth import parse_access_token
from worker.pingone.configuration import (
    Capabilities,
    MfaSettings,
    Policy,
    parse_capabilities,
    parse_mfa_settings,
    parse_policies,
)
from worker.pingone.devices import (
    User,
    UserAttribute,
    UserDevice,
    parse_activation,
    parse_device,
    parse_pairing,
    parse_unpaired,
    parse_user_devices,
    parse_users,
)
from worker.pingone.errors import (
    AccountNotUsable,
    AlreadyImported,
    AlreadyPaired,
    Answer,
    BadToken,
    CredentialsRefused,
    ExpandRefused,
    Forbidden,
    ForeignLink,
    InvalidOtp,
    InventoryFull,
    LicenseExceeded,
    MethodOff,
    NotDelivered,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    ResyncRequired,
    StatusRefused,
    TokenNotInInventory,
    TooManyDevices,
    TooManyTerms,
    TooManyTokens,
    Unauthorized,
)
from worker.pingone.inventory import (
    InventoryToken,
    JobStatus,
    parse_job,
    parse_started_job,
    parse_token,
    parse_tokens,
)
from worker.pingone.wire import LONGEST_RETRY_AFTER, Page, open_envelope
from worker.vault.otps import MASK

ENVIRONMENT = make_environment()
USER_ID, OTHER_USER = (f"6f1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (2, 3))
DEVICE_ID, OTHER_DEVICE = (f"0f0b7a52-1c5e-4d0e-8c55-9a0b4d1f7e2{number}" for number in (1, 2))
HOTP_ID, TOTP_ID = (f"7a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (8, 9))
POLICY_ID, OTHER_POLICY = (f"8a1d3c1e-2b7a-4f55-9d0c-3e8a1b6c5d4{number}" for number in (1, 2))
JOB_ID = "c1d7a2f0-5b9e-4a63-8f24-7e0d9b1c3a58"
SERIAL_NUMBER = "2308734700388"
IDS = {"user_id": USER_ID, "device_id": DEVICE_ID}

# By what was asked for: reads the answer. Of what comes back, what has no envelope in it.
READERS: dict[str, Callable[..., object]] = {
    "activation": lambda envelope: parse_activation(envelope, **IDS).status,
    "device": lambda envelope: _parts(parse_device(envelope, **IDS), "status", "is_active", "is_locked", "is_blocked"),
    "pairing": lambda envelope: _parts(
        parse_pairing(envelope, serial_number=SERIAL_NUMBER, user_id=USER_ID), "id", "status", "is_active"
    ),
    "unpaired": parse_unpaired,
    "started_job": partial(parse_started_job, count=500),
    "job": lambda envelope: _parts(
        parse_job(envelope, job_id=JOB_ID), "id", "state", "created", "duplicates", "revoked", "reason"
    ),
    "access_token": parse_access_token,
    "users": partial(parse_users, environment=ENVIRONMENT),
    "policies": partial(parse_policies, environment=ENVIRONMENT),
    "mfa_settings": parse_mfa_settings,
    "capabilities": parse_capabilities,
    "user_devices": partial(parse_user_devices, environment=ENVIRONMENT),
    "inventory": partial(parse_tokens, environment=ENVIRONMENT),
    "inventory with a filter and expand": partial(parse_tokens, environment=ENVIRONMENT, is_filtered_with_devices=True),
    "a token": partial(parse_token, token_id=TOTP_ID),
    "another token": partial(parse_token, token_id=HOTP_ID),
}


def _parts(read: object, *names: str) -> tuple[object, ...]:
    return tuple(getattr(read, name) for name in names)


ADA = User(USER_ID, "a.lovelace", "a.lovelace@example.com", "E-1815", True, True, False)
DEFAULT = Policy(POLICY_ID, "Default MFA Policy", True, True, failure_count=3, new_device_notification="NONE")
NEW = Policy(OTHER_POLICY, "New", False, False, failure_count=5)
PIGEON = Policy(POLICY_ID, "Default MFA Policy", True, failure_count=3, new_device_notification="PIGEON")
HOTP = InventoryToken(HOTP_ID, SERIAL_NUMBER, "HOTP", 6, "sha1")
TOTP = InventoryToken(TOTP_ID, "2308734700389", "TOTP", 8, "sha256", time_step=60)
PAIRED = (replace(HOTP, device_id=DEVICE_ID, user_id=USER_ID), TOTP)
WAITING = UserDevice(DEVICE_ID, "OATH_TOKEN", "ACTIVATION_REQUIRED", SERIAL_NUMBER)
MADE = (DEVICE_ID, "ACTIVATION_REQUIRED", False)
RUNNING = (JOB_ID, JobStatus.RUNNING, None, (), None, None)
ASLEEP = ("ACTIVATION_REQUIRED", False, False, False)

# By reader: what the samples tell; of a page, its items.
READ: dict[str, dict[str, object]] = {
    "activation": {"activation/activated": "ACTIVE"},
    "device": {
        "device/active": ("ACTIVE", True, False, False),
        "device/waiting": ASLEEP,
        "device/locked": ("ACTIVATION_REQUIRED", False, True, False),
        "device/blocked": ("ACTIVE", True, False, True),
        "device/of_unknown_status": ("ASLEEP", False, False, False),
        "device/in_small_letters": ("ACTIVE", True, False, False),
        "device/wrong_types": ("ACTIVE", True, False, False),
    },
    "pairing": {
        "pairing/waiting": MADE,
        "pairing/active": (DEVICE_ID, "ACTIVE", True),
        "pairing/serial_number_inside": MADE,
        "pairing/id_alone": (DEVICE_ID, None, False),
        "pairing/of_unknown_status": (DEVICE_ID, "PENDING", False),
        "pairing/wrong_types": (DEVICE_ID, None, False),
    },
    "unpaired": {
        "unpaired/no_content": True,
        "unpaired/no_content_without_headers": True,
        "unpaired/the_device": True,
        "unpaired/accepted": True,
        "activation/empty_200": True,
        "unpaired/gone_already": False,
        "activation/not_found_without_a_body": False,
    },
    "started_job": dict.fromkeys(
        (
            "started_job/created",
            "started_job/accepted",
            "started_job/location_alone",
            "started_job/location_of_jobs",
            "started_job/id_empty_with_location",
        ),
        JOB_ID,
    ),
    # What an answer shows of a duplicate's secret is not kept. A reason is printable, and shows no secret.
    "job": {
        "job/done": (JOB_ID, JobStatus.DONE, 6, ("2308734700412",), None, None),
        "job/done_in_hal": (JOB_ID, JobStatus.DONE, 7, (), None, None),
        "job/done_without_duplicates": (JOB_ID, JobStatus.DONE, 7, (), None, None),
        "job/done_without_result": (JOB_ID, JobStatus.DONE, None, (), None, None),
        "job/revoked": (JOB_ID, JobStatus.DONE, None, (), 4, None),
        "job/failed": (
            *(JOB_ID, JobStatus.FAILED, None, (), None),
            f"Row 8: the secret [2J {MASK} is not valid",
        ),
        "job/failure": (JOB_ID, JobStatus.FAILED, None, (), None, "INTERNAL"),
        "job/in_progress": RUNNING,
        "job/of_unknown_status": RUNNING,
        "job/without_status": RUNNING,
        "job/status_is_prose": RUNNING,
        "job/without_id": (JOB_ID, JobStatus.DONE, 1, (), None, None),
        "job/wrong_types": RUNNING,
        "job/wrong_types_in_duplicates": (JOB_ID, JobStatus.DONE, None, ("2308734700413",), None, None),
    },
    "users": {
        "users/one": (ADA,),
        "users/first_page": (ADA,),
        "users/hal": (ADA,),
        "users/two_with_one_email": (ADA, replace(ADA, id=OTHER_USER, username="ada", external_id=None)),
        "users/locked_and_disabled": (
            replace(ADA, can_authenticate=False, is_locked=True),
            replace(ADA, id=OTHER_USER, is_enabled=False),
        ),
        "users/unknown_words": (replace(ADA, is_enabled=None, can_authenticate=None, is_locked=None),),
        # Names come as they are, unless no database would take them.
        "users/control_characters": (replace(ADA, username=None, email=None, external_id=None),),
        "users/digits_as_names": (replace(ADA, username="12345678"),),
        "users/next_null": (ADA,),
        "users/next_without_host": (ADA,),
        "users/ids_alone": (User(USER_ID),),
        "users/wrong_types": (User(USER_ID),),
        "users/none": (),
        "users/none_embedded_empty": (),
        "users/none_not_embedded": (),
        "users/none_without_links": (),
        "users/none_as_null": (),
    },
    "policies": {
        "policies/two": (DEFAULT, NEW),
        "policies/hal": (DEFAULT,),
        "policies/ids_alone": (Policy(POLICY_ID),),
        "policies/unknown_words": (PIGEON,),
        "policies/wrong_types": (Policy(POLICY_ID),),
        "policies/none": (),
    },
    "mfa_settings": {
        "mfa_settings/all": MfaSettings(10, True, 6, 900),
        "mfa_settings/without_lockout": MfaSettings(5, False, None, None),
        "mfa_settings/lockout_without_an_end": MfaSettings(5, True, 6, None),
        "mfa_settings/links_alone": MfaSettings(5, False),
        "mfa_settings/wrong_types": MfaSettings(None, True),
    },
    "capabilities": {
        "capabilities/filled": Capabilities(
            True, {RateGroup.MFA: 100, RateGroup.DIRECTORY: 200, RateGroup.CONFIGURATION: 10}
        ),
        "capabilities/without_quantities": Capabilities(False),
        "capabilities/empty": Capabilities(),
        "capabilities/wrong_types": Capabilities(),
    },
    "user_devices": {
        "user_devices/two": (WAITING, UserDevice(OTHER_DEVICE, "SMS", "ACTIVE")),
        "user_devices/serial_number_inside": (WAITING,),
        "user_devices/wrong_types": (UserDevice(DEVICE_ID),),
        "user_devices/none": (),
    },
    "inventory": {
        "inventory/one": (HOTP,),
        "inventory/first_page": (HOTP,),
        "inventory/paired": PAIRED,
        "inventory/paired_embedded": PAIRED,
        "inventory/paired_with_user_id": PAIRED,
        "inventory/under_another_name": (HOTP,),
        "inventory/ids_alone": (InventoryToken(HOTP_ID),),
        "inventory/unknown_words": (replace(HOTP, type="OCRA", hash_name="HmacSHA3"),),
        "inventory/wrong_types": (InventoryToken(HOTP_ID),),
        "inventory/none": (),
    },
    "a token": {"inventory/token": replace(TOTP, device_id=DEVICE_ID, user_id=USER_ID)},
}
# Of pages that lead on: the address of the next one, below the environment.
NEXT = dict.fromkeys(("users/first_page", "users/next_without_host"), "users?cursor=RjE6dXNlcnM6MTAw&limit=200") | {
    "inventory/first_page": "oathTokens?expand=devices&cursor=Mg"
}

# An error, and what it says: the names of attributes, and their values.
Refusal = type[PingOneError] | tuple[type[PingOneError], dict[str, object]]


def bad_token(index: int | None, field: str | None) -> Refusal:
    return BadToken, {"index": index, "field": field}


def after(seconds: float | None, kind: type[PingOneError] = RateLimited, **more: object) -> Refusal:
    return kind, {"retry_after": seconds} | more


def over(is_over: bool) -> Refusal:
    return OutcomeUnknown, {"is_over": is_over}


RESET = {"quota_reset_at": datetime(2026, 3, 3, 10, tzinfo=UTC)}
CORRELATION_ID = "3f0c8a52-6b1e-4f6d-9a34-0d1f5a7c2b91"
# What an activation may be answered with; any other call too, where it is named in ANYWHERE.
ACTIVATIONS: dict[str, Refusal] = {
    # Only a complete answer of PingOne's own says that it is done.
    "still_waiting": over(True),
    "without_status": over(True),
    "no_content": over(True),
    "captive_portal": over(False),
    "accepted": over(False),
    "unexpected_error": over(False),
    "another_device": (
        OtherDevice,
        {
            "is_over": False,
            "answer.status": 200,
            "answer.message": "the answer is about another device",
            "answer.correlation_id": CORRELATION_ID,
        },
    ),
    "another_device_without_status": (OtherDevice, {"is_over": False}),
    "another_user": OtherDevice,
    "status_of_a_wrong_type": OutcomeUnknown,
    "extra_otp_required": (
        ResyncRequired,
        {
            "answer.status": 400,
            "answer.code": "INVALID_DATA",
            "answer.detail_code": "EXTRA_OTP_REQUIRED",
            "answer.error_id": "b8ee5b23-6a3c-4f0b-8f2e-3c1d5a9e7f10",
            "answer.correlation_id": CORRELATION_ID,
            "answer.message": "An extra OTP is required",
        },
    ),
    # The deciding detail is told wherever it stands.
    "extra_otp_required_among_others": (ResyncRequired, {"answer.detail_code": "EXTRA_OTP_REQUIRED"}),
    "extra_otp_required_under_another_status": ResyncRequired,
    "wrong_types_in_details": (InvalidOtp, {"answer.detail_code": "INVALID_OTP"}),
    "invalid_otp": InvalidOtp,
    "invalid_otp_echoed": InvalidOtp,
    "account_not_usable": (Rejected, {"answer.detail_code": "ACCOUNT_NOT_USABLE"}),
    "device_limit": Rejected,
    "unknown_code": Rejected,
    "unknown_envelope": Rejected,
    "wrong_types": (
        Rejected,
        dict.fromkeys(("answer.code", "answer.detail_code", "answer.error_id", "answer.message")),
    ),
    "lone_surrogates_and_nul": Rejected,
    "secrets_in_message": Rejected,
    "invalid_access_token": Unauthorized,
    "unauthorized_by_gateway": Unauthorized,
    "invalid_access_token_as_403": Unauthorized,
    "insufficient_permissions": Forbidden,
    "license_exceeded": Forbidden,
    "forbidden_without_correlation_id": Forbidden,
    "access_failed_as_400": Forbidden,
    "forbidden_by_proxy": OutcomeUnknown,
    "forbidden_by_gateway": OutcomeUnknown,
    "not_found": NotFound,
    "not_found_without_correlation_id": NotFound,
    "not_found_without_a_body": NotFound,
    "not_found_with_an_id_alone": NotFound,
    "not_found_as_410": NotFound,
    "not_found_by_proxy": OutcomeUnknown,
    "not_found_by_gateway": OutcomeUnknown,
    "not_found_in_a_list": OutcomeUnknown,
    "wrong_method": ProtocolFault,
    "wrong_media_type": ProtocolFault,
    "rate_limited_for_seconds": after(3),
    "rate_limited_until_a_date": after(90),
    "rate_limited_until_a_past_date": after(0),
    "rate_limited_for_ages": after(LONGEST_RETRY_AFTER),
    "rate_limited_for_nonsense": after(None),
    "rate_limited_by_proxy": after(None),
    "rate_limited_as_400": RateLimited,
    "quota_exceeded": after(3600, **RESET),
    "quota_exceeded_in_milliseconds": after(3600, **RESET),
    "quota_exceeded_at_nonsense": after(7),
    "quota_exceeded_for_ages": after(LONGEST_RETRY_AFTER),
    "quota_exceeded_until_a_past_time": after(0),
    # Whoever comes back sooner is refused again.
    "quota_exceeded_with_a_short_retry": after(3600),
    "unavailable": after(120, OutcomeUnknown),
    "rate_limited_as_503": after(9, OutcomeUnknown),
    "redirect": after(None, OutcomeUnknown),
    "request_timeout": OutcomeUnknown,
    "bad_gateway": OutcomeUnknown,
    "active_in_a_500": OutcomeUnknown,
    "empty_200": OutcomeUnknown,
    "empty_400": OutcomeUnknown,
    "half_a_body": OutcomeUnknown,
    "not_utf8": OutcomeUnknown,
    "deep_json": OutcomeUnknown,
    "a_list": OutcomeUnknown,
    "endless_number": OutcomeUnknown,
}
# Those that any call may get in place of its result.
ANYWHERE = {
    f"activation/{name}": ACTIVATIONS[name]
    for name in (
        *("insufficient_permissions", "license_exceeded", "access_failed_as_400", "forbidden_without_correlation_id"),
        *("forbidden_by_proxy", "invalid_access_token", "not_found", "not_found_without_a_body", "not_found_by_proxy"),
        *("wrong_method", "rate_limited_for_seconds", "rate_limited_by_proxy", "rate_limited_as_400", "quota_exceeded"),
        *("unexpected_error", "bad_gateway", "unavailable", "redirect", "captive_portal", "half_a_body", "not_utf8"),
        *("no_content", "empty_200", "deep_json", "a_list"),
    )
}
# To a DELETE these say that it was done, or that there was nothing to remove.
GONE = ("no_content", "empty_200", "a_list", "deep_json", "not_found", "not_found_without_a_body")
NO_TOKENS = dict.fromkeys(("inventory/without_id", "inventory/two_lists"), OutcomeUnknown)
FILTERS = ("inventory/filter_and_expand_refused", "inventory/invalid_filter")

# By reader: the samples that stand for an error.
REFUSED: dict[str, Mapping[str, Refusal]] = {
    "activation": {f"activation/{name}": refusal for name, refusal in ACTIVATIONS.items()},
    "device": ANYWHERE
    | {
        "device/without_status": OutcomeUnknown,
        "device/status_is_prose": OutcomeUnknown,
        "device/not_found": NotFound,
        "device/not_found_by_proxy": OutcomeUnknown,
        "device/forbidden_by_proxy": OutcomeUnknown,
        "device/another_device": OtherDevice,
        "device/another_user": OtherDevice,
        "device/unavailable": OutcomeUnknown,
    },
    "pairing": ANYWHERE
    | {
        "activation/license_exceeded": LicenseExceeded,
        "pairing/without_id": OutcomeUnknown,
        "pairing/half_a_body": OutcomeUnknown,
        "pairing/id_empty": OutcomeUnknown,
        "pairing/id_of_a_wrong_type": OutcomeUnknown,
        "pairing/id_leads_elsewhere": OutcomeUnknown,
        "pairing/id_is_a_dot": OutcomeUnknown,
        "pairing/another_token": OtherDevice,
        "pairing/another_token_inside": OtherDevice,
        "pairing/another_user": OtherDevice,
        "pairing/another_type": OtherDevice,
        "pairing/not_in_inventory": TokenNotInInventory,
        "pairing/not_in_inventory_inside": TokenNotInInventory,
        "pairing/not_in_inventory_as_404": TokenNotInInventory,
        "pairing/no_such_user": NotFound,
        "pairing/already_paired": AlreadyPaired,
        "pairing/already_paired_as_400": AlreadyPaired,
        "pairing/already_paired_as_409_alone": AlreadyPaired,
        "pairing/conflict_by_proxy": OutcomeUnknown,
        "pairing/method_off": MethodOff,
        "pairing/method_off_as_403": MethodOff,
        "pairing/too_many_devices": TooManyDevices,
        "pairing/too_many_waiting": TooManyDevices,
        "pairing/too_many_of_a_wrong_type": TooManyDevices,
        "pairing/account_not_usable": AccountNotUsable,
        "pairing/license_exceeded": LicenseExceeded,
        "pairing/license_exceeded_as_400": LicenseExceeded,
        "pairing/status_refused": StatusRefused,
        "pairing/status_refused_among_others": StatusRefused,
        "pairing/another_refusal": Rejected,
        "pairing/wrong_types_in_details": Rejected,
    },
    "unpaired": {name: refusal for name, refusal in ANYWHERE.items() if name.partition("/")[2] not in GONE}
    | {"unpaired/success_by_proxy": OutcomeUnknown},
    "started_job": ANYWHERE
    | {
        "started_job/bad_secret": bad_token(7, "secret"),
        "started_job/bad_short_secret": bad_token(0, "secret"),
        "started_job/bad_time_step": bad_token(12, "totp.timeStep"),
        "started_job/bad_token_without_field": bad_token(3, None),
        "started_job/bad_field_without_index": bad_token(None, "otpLength"),
        "started_job/bad_index": bad_token(None, "serialNumber"),
        "started_job/bad_list": bad_token(None, None),
        "started_job/secret_too_long": bad_token(2, "secret"),
        "started_job/token_is_paired": bad_token(1, None),
        "started_job/list_too_long": TooManyTokens,
        "started_job/request_too_long": TooManyTokens,
        "started_job/content_too_large": TooManyTokens,
        "started_job/content_too_large_by_proxy": TooManyTokens,
        "started_job/bad_type": Rejected,
        "started_job/inventory_full": InventoryFull,
        "started_job/already_imported": AlreadyImported,
        "started_job/target_of_a_wrong_type": Rejected,
        "started_job/id_empty": OutcomeUnknown,
        "started_job/id_of_a_wrong_type": OutcomeUnknown,
        "started_job/id_leads_elsewhere": OutcomeUnknown,
        "started_job/id_is_a_dot": OutcomeUnknown,
        "started_job/id_too_long": OutcomeUnknown,
        "started_job/half_a_body": OutcomeUnknown,
        "started_job/location_without_an_id": OutcomeUnknown,
        "started_job/location_of_the_list": OutcomeUnknown,
        "started_job/location_of_a_sign_on_page": OutcomeUnknown,
        "started_job/location_encoded": OutcomeUnknown,
        "started_job/location_is_no_address": OutcomeUnknown,
    },
    "job": ANYWHERE
    | {
        "job/another_job": OtherDevice,
        "job/neither_id_nor_status": OutcomeUnknown,
        "job/half_a_body": OutcomeUnknown,
        "job/cleaned_up": NotFound,
    },
    "users": ANYWHERE
    | {
        "users/without_id": OutcomeUnknown,
        "users/not_objects": OutcomeUnknown,
        "users/embedded_is_a_list": OutcomeUnknown,
        "users/users_are_an_object": OutcomeUnknown,
        "users/count_without_users": OutcomeUnknown,
        "users/empty_object": OutcomeUnknown,
        "users/error_in_a_200": OutcomeUnknown,
        "users/next_without_href": OutcomeUnknown,
        "users/next_at_another_host": ForeignLink,
        "users/next_at_another_host_without_scheme": ForeignLink,
        "users/next_at_another_environment": ForeignLink,
        "users/next_at_no_tls": ForeignLink,
        "users/invalid_filter": TooManyTerms,
        "users/invalid_filter_as_code": TooManyTerms,
        "users/uri_too_long": TooManyTerms,
        "users/headers_too_large": TooManyTerms,
        "users/headers_too_large_by_proxy": TooManyTerms,
        "users/invalid_parameter": Rejected,
    },
    **dict.fromkeys(("policies", "mfa_settings", "capabilities"), ANYWHERE | {"users/error_in_a_200": OutcomeUnknown}),
    "user_devices": ANYWHERE,
    "inventory": ANYWHERE | NO_TOKENS | dict.fromkeys(FILTERS, Rejected),
    "inventory with a filter and expand": ANYWHERE | NO_TOKENS | dict.fromkeys(FILTERS, ExpandRefused),
    "a token": ANYWHERE | {"inventory/none": OutcomeUnknown},
    "another token": {"inventory/token": OtherDevice},
    # Asking again does no harm, so that no outcome is unknown here.
    "access_token": {
        "access_token/smuggled_header": NotDelivered,
        "access_token/access_token_of_a_wrong_type": NotDelivered,
        "access_token/captive_portal": NotDelivered,
        "access_token/rate_limited": after(30, NotDelivered),
        "access_token/unavailable": NotDelivered,
        "access_token/redirect": NotDelivered,
        "access_token/request_timeout": NotDelivered,
        "access_token/invalid_client": (CredentialsRefused, {"answer.code": "invalid_client"}),
        "access_token/unsupported_client_auth": CredentialsRefused,
        "access_token/forbidden": CredentialsRefused,
        "access_token/no_such_environment": CredentialsRefused,
    },
}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(
    ("reader", "name", "told"),
    [(reader, name, told) for reader, samples in READ.items() for name, told in samples.items()],
    ids=_name,
)
def test_every_recorded_answer_tells_what_it_says(reader: str, name: str, told: object) -> None:
    found = READERS[reader](opened(name))
    assert (found.items if isinstance(found, Page) else found) == told
    if isinstance(found, Page):
        assert (found.next_url or "").partition("/environments/")[2].partition("/")[2] == NEXT.get(name, "")


@pytest.mark.parametrize(
    ("reader", "name", "refusal"),
    [(reader, name, refusal) for reader, samples in REFUSED.items() for name, refusal in samples.items()],
    ids=_name,
)
def test_every_recorded_refusal_becomes_its_error(reader: str, name: str, refusal: Refusal) -> None:
    kind, says = refusal if isinstance(refusal, tuple) else (refusal, {})
    with pytest.raises(PingOneError) as caught:
        READERS[reader](opened(name))
    assert type(caught.value) is kind
    assert "eyJ" not in f"{caught.value} {caught.value!r}"
    assert {attribute: attrgetter(attribute)(caught.value) for attribute in says} == says


def test_no_recorded_answer_is_left_out() -> None:
    named = {name for samples in (*READ.values(), *REFUSED.values()) for name in samples}
    kinds = [path.name for path in SAMPLES.iterdir()]
    # Of a granted access token that is told below.
    assert {f"{kind}/{name}" for kind in kinds for name in names_of(kind)} - named == {
        f"access_token/{name}" for name in LIVES
    }


# Seconds, by what the answer says of an access token's life.
LIVES = {
    "granted": 3600,
    "life_as_text": 1800,
    "life_missing": 300,
    "life_negative": 300,
    "life_not_a_number": 300,
    "life_true": 300,
    "life_endless": 86400,
}


@pytest.mark.parametrize(("name", "seconds"), LIVES.items())
def test_an_access_token_is_granted_for_a_while(name: str, seconds: float) -> None:
    access_token, expires_in = parse_access_token(opened(f"access_token/{name}"))
    assert (access_token[:3], expires_in) == ("eyJ", seconds)


@pytest.mark.parametrize("name", ["bad_secret", "bad_short_secret"])
def test_a_secret_that_a_refusal_repeats_is_masked(name: str) -> None:
    with pytest.raises(BadToken) as caught:
        parse_started_job(opened(f"started_job/{name}"), count=500)
    text = f"{caught.value!r} {caught.value}"
    assert "is not valid" in text
    assert "31323334" not in text
    assert "abcdef" not in text


def test_an_id_is_the_same_in_either_case_and_may_be_left_out() -> None:
    upper = {name: value.upper() for name, value in IDS.items()}
    for parse in (parse_activation, parse_device):
        device = parse(opened("activation/activated"), **upper)
        # The body's id is the device's here, not an error's.
        assert (device.is_active, device.answer.error_id) == (True, None)
        for body in (b'{"status": "ACTIVE"}', b'{"status": "ACTIVE", "id": null, "user": []}'):
            assert parse(open_envelope(200, {}, body), **IDS).is_active
    assert parse_token(opened("inventory/token"), token_id=TOTP_ID.upper()).id == TOTP_ID


def test_a_verdict_counts_as_the_top_code_too() -> None:
    with pytest.raises(ResyncRequired):
        READERS["activation"](open_envelope(400, {}, b'{"code": "EXTRA_OTP_REQUIRED"}'))


def test_a_date_to_retry_after_is_measured_by_our_clock_where_the_answer_has_no_date() -> None:
    with pytest.raises(RateLimited) as caught:
        READERS["activation"](open_envelope(429, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, b""))
    assert caught.value.retry_after == LONGEST_RETRY_AFTER


@pytest.mark.parametrize(
    ("date", "created_at", "age"),
    [
        ("Mon, 02 Mar 2026 09:10:00 GMT", "2026-03-02T09:00:00.000Z", timedelta(minutes=10)),
        ("Mon, 02 Mar 2026 09:10:00 GMT", "2026-03-02T09:10:00.500Z", -timedelta(seconds=0.5)),
        ("Mon, 02 Mar 2026 09:10:00 GMT", None, None),
        ("yesterday", "2026-03-02T09:00:00.000Z", None),
    ],
)
def test_a_device_is_as_old_as_the_answers_own_clock_says(date: str, created_at: object, age: object) -> None:
    fields = {"id": DEVICE_ID, "status": "ACTIVE", "createdAt": created_at, "updatedAt": created_at}
    device = parse_device(open_envelope(200, {"Date": date}, json.dumps(fields).encode()), **IDS)
    listed = json.dumps({"_embedded": {"devices": [fields]}}).encode()
    (one,) = parse_user_devices(open_envelope(200, {"Date": date}, listed), environment=ENVIRONMENT).items
    assert (device.age, device.updated_ago, one.age) == (age, age, age)


def test_a_foreign_link_is_not_quoted_and_no_repr_tells_who_it_is() -> None:
    with pytest.raises(ForeignLink) as caught:
        READERS["users"](opened("users/next_at_another_host"))
    text = f"{caught.value} {READERS['users'](opened('users/first_page'))!r}"
    assert not re.search("pingone.com|lovelace|E-1815|cursor", text)


def test_a_user_has_a_value_of_each_attribute() -> None:
    assert [ADA.find(attribute) for attribute in UserAttribute] == ["a.lovelace", "a.lovelace@example.com", "E-1815"]


# The errors themselves.

ANSWER = Answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", "b8ee5b23", "3f0c8a52", "Too many requests")


def test_the_drawn_tree_has_every_error() -> None:
    named = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(named) > 10
    assert not [each for each in named if each.__name__ not in str(errors.__doc__)]


def test_an_error_tells_all_that_the_answer_told() -> None:
    text = str(InvalidOtp(ANSWER))
    assert text == (
        "HTTP 429, REQUEST_LIMITED, LIMIT_EXCEEDED, Too many requests, error id b8ee5b23, correlation id 3f0c8a52"
    )


@pytest.mark.parametrize(
    "error",
    [
        PingOneError(),
        InvalidOtp(ANSWER),
        NotDelivered(ANSWER, 3.0),
        OutcomeUnknown(ANSWER, retry_after=4.0),
        OtherDevice(ANSWER),
        RateLimited(ANSWER, retry_after=5.0, quota_reset_at=datetime(2026, 3, 3, tzinfo=UTC)),
        BadToken(ANSWER, 7, "secret"),
        TooManyDevices(ANSWER, 5),
        SlotTooFar(2.5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_copying_and_pickling_whole(error: PingOneError | SlotTooFar) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)


# Whatever is answered.
NAMES = st.sampled_from(["Retry-After", "date", "Correlation-Id", "Location", "content-type", ""]) | st.text(max_size=9)
VALUES = (
    st.text(max_size=40)
    | st.sampled_from(["0", "-1", "1e9", "9" * 15, "Tue, 03 Mar 2026 09:00:00 GMT", "Mon, 32 Foo 0 99:99:99 -9999"])
    | st.sampled_from(["/oathJobs/J1", "/oathJobs/..", "http://[", "/oathJobs/%2e"])
    | st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))
)
WORDS = [
    *("id", "code", "details", "target", "message", "status", "lock", "block", "user", "type", "serialNumber"),
    *("innerError", "quotaResetTime", "maximumAllowed", "access_token", "expires_in", "error", "error_description"),
    *("result", "created", "duplicates", "maskedSecret", "revoked", "reason", "oathToken", "_embedded", "_links"),
    *("users", "devices", "oathTokens", "next", "href", "createdAt", "pairing", "lockout", "licenseQuantities"),
    *("ACTIVE", "LOCKED", "DONE", "FAILED", "OATH_TOKEN", "EXTRA_OTP_REQUIRED", "INVALID_OTP", "NOT_FOUND"),
    *("INVALID_DATA", "LIMIT_EXCEEDED", "UNIQUENESS_VIOLATION", "LICENSE_EXCEEDED", "SIZE_LIMIT_EXCEEDED"),
    *("ACCOUNT_NOT_USABLE", "tokens[7].secret", "tokenIds[999999]", "tokens", "0001-01-01T00:00:00+23:59"),
    *("", ".", "..", "../users", "\0", "\ud800", "²"),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
JSON = st.recursive(
    LEAVES,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(WORDS), children, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6)
BODIES = (OBJECTS | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
STATUSES = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 409, 413, 429, 500, 503]) | st.integers(-1, 1000)
PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# By reader: what is true of everything that is read; elsewhere nothing is promised but that it was a success.
SOUND: dict[str, Callable[..., object]] = {
    "activation": lambda status: status == "ACTIVE",
    "device": lambda device: device[0],
    "pairing": lambda device: PLAIN_ID.fullmatch(device[0]),
    "started_job": PLAIN_ID.fullmatch,
    "access_token": lambda granted: granted[0].isascii() and 0 < granted[1] <= 86400,
}


def told(error: PingOneError) -> str:
    """Return what the error tells, which must be fit for a log and a database."""
    text = f"{error} {error!r}"
    assert "\0" not in text
    assert len(text.encode()) < 4000
    # It names no token that was not sent.
    assert not isinstance(error, BadToken) or error.index is None or 0 <= error.index < 500
    return text


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=30)
@given(STATUSES, st.dictionaries(NAMES, VALUES, max_size=4), BODIES)
@example(200, {}, b"\xef\xbb\xbf{}")
@example(200, {}, b"[" * 100_000)
@example(400, {}, b'{"a":' * 100_000)
@example(201, {"Location": "/oathJobs/\u0661"}, b'{"id": ""}')
@example(201, {}, b'{"id": "a\\n"}')
@example(429, {"Retry-After": "Sun, 31 Dec 9999 23:59:59 -2359", "Date": "Mon, 01 Jan 0001 00:00:00 +2359"}, b"")
@example(429, {}, b'{"details": [{"innerError": {"quotaResetTime": "0001-01-01T00:00:00+23:59"}}]}')
@example(429, {}, b'{"details": [{"innerError": {"quotaResetTime": 1' + b"0" * 400 + b"}}]}")
@example(200, {}, b'{"access_token": "a", "expires_in": 1' + b"0" * 400 + b"}")
def test_any_answer_is_read_or_a_pingone_error(reader: str, status: int, headers: dict[str, str], body: bytes) -> None:
    try:
        found = READERS[reader](open_envelope(status, headers, body))
    except PingOneError as error:
        told(error)
    else:
        assert (200 <= status < 300) == (found is not False)
        assert found is False or SOUND.get(reader, lambda _: True)(found)


@given(
    st.text(alphabet="0123456789", min_size=6, max_size=8),
    st.text(alphabet="abcXYZ .,:;=-\n", max_size=30),
    st.text(alphabet="abcXYZ .,:;=-\n", max_size=400),
)
def test_no_otp_gets_through_a_message(otp: str, before: str, after: str) -> None:
    body = json.dumps({"code": "REQUEST_FAILED", "message": before + otp + after}).encode()
    with pytest.raises(Rejected) as caught:
        READERS["activation"](open_envelope(400, {}, body))
    assert otp not in told(caught.value)
