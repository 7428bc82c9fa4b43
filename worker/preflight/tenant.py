"""The environment's own rules: its policy, its locks, what it mails, what its license permits."""

from __future__ import annotations

from worker.observability.counting import count_things
from worker.pace.rate_groups import RateGroup
from worker.pingone.reads import Capabilities, MfaSettings, Policy
from worker.preflight.findings import Finding, Level
from worker.rules.resync import NeedsFlag, ResyncKnowledge

# What PingOne sends for a new device where a policy says nothing of it.
NOTIFIES_BY_DEFAULT = "EMAIL_THEN_SMS"
NO_NOTIFICATION = "NONE"
# Seconds by which our clock may differ from PingOne's before a person has to accept it.
LARGEST_CLOCK_OFFSET = 60.0
# The smallest OATHBULK_OTP_POST_BUDGET: a token that is out of step needs OTP 1 and OTP 2.
FEWEST_POSTS = 2


def check_policies(
    policies: list[Policy], *, persons: int, post_budget: int, makes_devices: bool = False
) -> list[Finding]:
    """What the policy in force says: the environment's default, since a device's own is told nowhere. `makes_devices`:
    whether the load will pair tokens, or the rows bring the ids of devices that are there already."""
    policy = next((each for each in policies if each.is_default), None)
    if policy is None:
        text = "No policy is the environment's default, so it is not known which rules are in force."
        return [Finding("policy_unknown", Level.NOTE, text)]
    findings = []
    name = policy.name or policy.id
    if policy.is_oath_enabled is False:
        text = f"The policy {name} does not permit OATH tokens: enable them in it, or no device becomes ACTIVE."
        findings.append(Finding("method_off", Level.STOP, text))
    if policy.failure_count is not None and policy.failure_count < post_budget:
        cure = f"set OATHBULK_OTP_POST_BUDGET={policy.failure_count}"
        if policy.failure_count < FEWEST_POSTS:
            cure = f"raise that number in it to {FEWEST_POSTS} at least, for the time of the batch"
        text = (
            f"The policy {name} locks a device after {count_things(policy.failure_count, 'wrong OTP')}, and up to"
            f" {post_budget} are sent to one: {cure}."
        )
        findings.append(Finding("locks_early", Level.ASK, text))
    return findings + _check_notification(policy, persons, makes_devices=makes_devices)


def _check_notification(policy: Policy, persons: int, *, makes_devices: bool) -> list[Finding]:
    """Say whom PingOne will write to of a new device: a question only if devices will be made."""
    notification = policy.new_device_notification or NOTIFIES_BY_DEFAULT
    if notification == NO_NOTIFICATION:
        return []
    says = "says nothing of it" if policy.new_device_notification is None else f"says {notification}"
    name = policy.name or policy.id
    if makes_devices:
        write_to = "1 person" if persons == 1 else f"{persons} people"
        text = (
            f"PingOne may write to {write_to} when their token becomes a device: the policy {name} {says}."
            " Set newDeviceNotification to NONE for the time of the batch, or tell people."
        )
        return [Finding("notification", Level.ASK, text)]
    text = (
        f"PingOne writes to people when their token becomes a device: the policy {name} {says}. The devices of these"
        f" {persons} tokens are there already; whether it writes again when they become active is published nowhere."
    )
    return [Finding("notification", Level.NOTE, text)]


def check_settings(settings: MfaSettings) -> list[Finding]:
    """What the MFA settings say: a lock of the whole account."""
    if not settings.has_account_lock or settings.lockout_failures is None:
        return []
    seconds = "" if settings.lockout_seconds is None else f" for {settings.lockout_seconds:.0f} s"
    text = f"After {settings.lockout_failures} wrong OTPs PingOne locks the person's whole account{seconds}."
    return [Finding("account_lock", Level.NOTE, text)]


def check_capabilities(capabilities: Capabilities) -> list[Finding]:
    """What the license permits, as far as PingOne tells."""
    findings = []
    if capabilities.can_use_oath_token is False:
        text = "The license does not include OATH tokens: no device would become ACTIVE."
        findings.append(Finding("license", Level.STOP, text))
    if rate := capabilities.rates.get(RateGroup.MFA):
        text = f"The license has {rate:g} requests a second for MFA; an address that is not listed gets 35 % of them."
        findings.append(Finding("rate_bought", Level.NOTE, text))
    return findings


def check_clock(offset: float) -> list[Finding]:
    """Compare our clock with PingOne's. `offset`: seconds that ours is ahead. The OTPs of TOTP seeds are made by
    PingOne's clock, but a wrong one is a sign of more that is wrong."""
    if abs(offset) <= LARGEST_CLOCK_OFFSET:
        return []
    text = f"This machine's clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} PingOne's: set it."
    return [Finding("clock", Level.ASK, text)]


def check_learnt(known: ResyncKnowledge, *, is_fixed: bool) -> list[Finding]:
    """Say that nothing is known yet of how this environment wants OTP 1."""
    if is_fixed or known.needs != NeedsFlag.UNKNOWN:
        return []
    text = (
        "It is not known yet whether this environment wants oathResync with OTP 1: the batch begins slowly until"
        " PingOne asks for a second OTP, and up to three OTPs may be lost to learning it. Consider --canary."
    )
    return [Finding("resync_unknown", Level.NOTE, text)]
