"""Reads replies that are not outcomes: whether the job began, and where the next jobs go."""

from __future__ import annotations

from bridge import errors
from bridge.sidecar.fleet import Fleet, Member
from bridge.sidecar.messages import Reply
from bridge.sidecar.protocol import error_of


def of(fleet: Fleet, member: Member, reply: Reply, *, started: bool) -> errors.SidecarError:
    """The error for this reply of ``member``; ``started``: it is known that a run began."""
    if not reply.authentic:
        # Any process can write this reply, after a relay has had the job run.
        return errors.OutcomeUnknown(unproven(member, reply), rejected=True)
    code, message = error_of(reply)
    text = f"{member.worker.address} answered {reply.status} {code}: {message}"
    match reply.status:
        case 503 if not started:
            return _overloaded(fleet, member, code, text)
        case 403:
            # Two clocks differ, or a relay had the job run and sent the request again a minute later.
            return errors.OutcomeUnknown(text, rejected=True)
        case 400 if code == "malformed":
            return errors.JobRefused(message, malformed=True)
        case 400 | 401 if code in ("protocol", "signature", "unsigned"):
            return errors.SidecarRejected(text)
        case 413 | 422:
            return errors.JobRefused(message)
        case 409 if code == "superseded":
            return errors.JobSuperseded(text)
        case 409 if code == "running":
            return errors.SidecarUnavailable(text, retry_after_seconds=1.0)
        case 421 if not started:
            fleet.forget(member)
            return errors.SidecarUnavailable(text)
    return errors.OutcomeUnknown(text)


def not_begun(fleet: Fleet, member: Member, reply: Reply) -> errors.SidecarUnavailable:
    """A 503 to a delivery that was sent before: the Puma worker does not know it, so no run has begun.

    The first request may still arrive there, in a stream that was cut, unless the Puma worker goes down.

    Raises:
        SidecarUnavailable: it goes down, and will not begin the job.
    """
    code, message = error_of(reply)
    text = f"{member.worker.address} answered {code}: {message}"
    if code == "draining":
        raise _overloaded(fleet, member, code, text)
    return _overloaded(fleet, member, code, text, may_run=True)


def unproven(member: Member, reply: Reply) -> str:
    """The text for a refusal that no signature proves."""
    code, message = error_of(reply)
    return f"{member.worker.address} refuses this worker, unsigned: {reply.status} {code}: {message}"


def _overloaded(
    fleet: Fleet, member: Member, code: str, text: str, *, may_run: bool = False
) -> errors.SidecarUnavailable:
    if code == "no_slot":
        member.pass_over(0.1)
        return errors.SidecarUnavailable(text, retry_after_seconds=0.1, may_run=may_run)
    fleet.forget(member)
    # Another Puma worker takes the job if only this one goes (it is being replaced).
    soon = 0.05 if fleet.members else None
    return errors.SidecarUnavailable(text, retry_after_seconds=soon, may_run=may_run)
