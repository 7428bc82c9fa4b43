"""Imports and revocations, of one token or in jobs. The caller holds the simulation's lock meanwhile.

https://developer.pingidentity.com/pingone-api (OATH tokens)
"""

from __future__ import annotations

from typing import Any

from worker.simulator.answers import Answer, refusal, success, web_page
from worker.simulator.bodies import job_body, token_body
from worker.simulator.call_log import Entry
from worker.simulator.jobs import Job, JobType
from worker.simulator.new_tokens import BadToken, NewToken, read_new_token
from worker.simulator.request_body import BadBody, invalid, missing, read_object
from worker.simulator.routes import Request, Target
from worker.simulator.settings import Settings
from worker.simulator.simulation import Simulation


def import_tokens(request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the request for a job that imports tokens. Raises BadBody."""
    settings = simulation.settings
    fields = _read_job(request, "CREATE_OATH_TOKENS", "tokens", settings)
    tokens, reason = list[NewToken](), None
    try:
        for number, each in enumerate(fields["tokens"]):
            tokens.append(_read_listed(each, number, tokens, settings))
    except BadToken as bad:
        if settings.bad_list_entry == "refused":
            raise BadBody(refusal(400, "INVALID_DATA", bad.detail_code, target=bad.target)) from None
        tokens, reason = [], f"{bad.target}: {bad.detail_code}"
    entry.serial_numbers = [token.serial_number for token in tokens]
    job = _make_job("CREATE_OATH_TOKENS", target, entry, simulation)
    job.tokens, job.reason = tuple(tokens), reason
    return _accept(job, request, entry, simulation)


def revoke_tokens(request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the request for a job that revokes tokens. Raises BadBody."""
    fields = _read_job(request, "REVOKE_OATH_TOKENS", "tokenIds", simulation.settings)
    if "async" not in fields:
        raise missing("async")
    if not all(isinstance(token_id, str) for token_id in fields["tokenIds"]):
        raise invalid("tokenIds")
    job = _make_job("REVOKE_OATH_TOKENS", target, entry, simulation)
    job.wanted, job.force_unpair = tuple(fields["tokenIds"]), fields.get("forceUnpair") is True
    return _accept(job, request, entry, simulation)


def read_job(request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the read of a job: 404 also when it was cleaned up."""
    job = simulation.jobs.find(target.environment_id or "", target.resource_id or "")
    entry.job_id = target.resource_id
    if job is None or job.is_gone(simulation.unix_time(), simulation.settings):
        return refusal(404, "NOT_FOUND")
    if job.status != "RUNNING":
        job.reads += 1
    entry.outcome = job.status
    return success(job_body(job, request.root, simulation.settings))


def create_token(request: Request, target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the import of one token. Raises BadBody."""
    world, settings, environment_id = simulation.world, simulation.settings, target.environment_id or ""
    try:
        new = read_new_token(read_object(request.body), settings)
    except BadToken as bad:
        raise BadBody(refusal(400, "INVALID_DATA", bad.detail_code, target=bad.target)) from None
    if world.inventory.find(environment_id, new.serial_number):
        code = "INVALID_DATA" if settings.existing_serial == 400 else "REQUEST_FAILED"
        return refusal(settings.existing_serial, code, "UNIQUENESS_VIOLATION", target="serialNumber")
    if len(world.inventory.tokens(environment_id)) >= settings.most_tokens:
        return refusal(400, "REQUEST_FAILED", "LIMIT_EXCEEDED", inner={"maximumAllowed": settings.most_tokens})
    now, is_out_of_step = simulation.unix_time(), new.serial_number in world.out_of_step
    token = new.enter(environment_id, now, made_by=entry.number, job_id=None, out_of_step=is_out_of_step)
    world.inventory.add(token)
    entry.took_effect, entry.outcome, entry.made_token_id = True, "CREATED", token.id
    location = f"{request.root}/v1/environments/{environment_id}/oathTokens/{token.id}"
    answer = success(token_body(token, settings, now=now, is_expanded=False), 201)
    return answer.with_headers([(b"location", location.encode())])


def revoke_token(target: Target, entry: Entry, simulation: Simulation) -> Answer:
    """Answer the revocation of one token, which unpairs it."""
    token = simulation.world.inventory.find_by_id(target.environment_id or "", target.resource_id or "")
    if token is None:
        return refusal(404, "NOT_FOUND")
    simulation.world.revoke(token)
    entry.took_effect, entry.outcome, entry.serial_number = True, "REVOKED", token.serial_number
    return Answer(204)


def _read_job(request: Request, job_type: JobType, name: str, settings: Settings) -> dict[str, Any]:
    """Read the body of a request for a job, whose list has this name. Raises BadBody."""
    fields = read_object(request.body)
    if fields.get("type") != job_type:
        raise missing("type") if fields.get("type") is None else invalid("type")
    listed = fields.get(name)
    if not isinstance(listed, list) or not listed:
        raise missing(name) if not listed else invalid(name)
    if settings.most_job_tokens is not None and len(listed) > settings.most_job_tokens:
        if settings.large_job == "413":
            raise BadBody(web_page(413, "Request Entity Too Large"))
        raise BadBody(refusal(400, "INVALID_DATA", "SIZE_LIMIT_EXCEEDED", target=name))
    return fields


def _read_listed(fields: object, number: int, before: list[NewToken], settings: Settings) -> NewToken:
    """Read the token that stands at this place of a list, from 0. Raises BadToken with its place in `target`."""
    place = f"tokens[{number}]"
    try:
        token = read_new_token(fields, settings)
    except BadToken as bad:
        raise BadToken(f"{place}.{bad.target}".rstrip("."), bad.detail_code) from None
    is_bad = settings.repeated_serial == "bad" and any(each.serial_number == token.serial_number for each in before)
    if is_bad:
        raise BadToken(f"{place}.serialNumber", "UNIQUENESS_VIOLATION")
    return token


def _make_job(job_type: JobType, target: Target, entry: Entry, simulation: Simulation) -> Job:
    now = simulation.unix_time()
    return Job(
        environment_id=target.environment_id or "",
        type=job_type,
        made_by=entry.number,
        created_at=now,
        ends_at=now + simulation.settings.job_takes,
    )


def _accept(job: Job, request: Request, entry: Entry, simulation: Simulation) -> Answer:
    """Take a job, and answer with its id, in the body or in the header `Location` alone."""
    settings = simulation.settings
    simulation.jobs.add(job)
    simulation.catch_up()
    entry.took_effect, entry.outcome, entry.job_id = True, "JOB_TAKEN", job.id
    location = f"{request.root}/v1/environments/{job.environment_id}/oathJobs/{job.id}"
    if settings.job_id_in == "body":
        answer = success(job_body(job, request.root, settings), settings.job_answer)
    else:
        answer = Answer(settings.job_answer)
    return answer.with_headers([(b"location", location.encode())])
