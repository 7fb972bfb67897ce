"""Runs an unobserved native task: its code, and the context that Celery promises to a running task.

That is ``self.request`` and the current task. Celery traces a run that ends in an exception: it carries out
retries, and tells the observers.
"""

from __future__ import annotations

from typing import Any

from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.app.task import Context

from bridge.execution import async_exceptions, failure_log, outcomes
from bridge.execution.call import apply
from bridge.execution.coroutine_run import finish
from bridge.execution.outcomes import LONGEST_CHAIN, RetryAt
from bridge.fast_path.request import LazyRequest

#: An error of a user may raise in its own attributes, and a settled job must not end twice.
_set_traceback: Any = vars(BaseException)["__traceback__"].__set__
_cause_of: Any = vars(BaseException)["__cause__"].__get__
_context_of: Any = vars(BaseException)["__context__"].__get__
_errors_of: Any = vars(BaseExceptionGroup)["exceptions"].__get__


def run(request: LazyRequest) -> None:
    """Run it to its end. Raises nothing."""
    try:
        if not request.may_begin():
            return
        request.begin()
        raised = _run(request)
        if raised is None:
            return
        if not raised:
            request.done()
        else:
            apply(request.call(**raised))
    except BaseException:
        # A fault of ours, or what was raised for the task and came too late, costs neither thread nor job.
        request.lose()
        failure_log.fault("jid=%s could not be run to its end", request.id)


def _run(request: LazyRequest) -> dict[str, Any] | None:
    """Call the task's code. Returns headers: its error and the retry it asked for; none for a success.

    None: the run is to be retried, and settled.
    """
    task: Any = request.task
    fields, args, kwargs = request.context()
    # Not by its constructor, which looks for headers and limits that no job brings along.
    context = Context.__new__(Context)
    vars(context).update(fields, args=args, kwargs=kwargs, called_directly=False)
    tasks, contexts = _pushed(_task_stack, task), _pushed(task.request_stack, context)
    try:
        token = request.unit.delivery.token
        result = async_exceptions.call(task.code, token, args, kwargs)
        if result is not None:
            result = finish(task, result, token)
            if request.unit.delivery.tracked:
                request.returned(result)
    except BaseException as error:
        if not request.retried(error):
            return outcomes.as_headers(context, error)
        _forget_frames(error)
        return None
    finally:
        del contexts[-1:], tasks[-1:]
    # Its code may have asked for a retry and swallowed it.
    return outcomes.as_headers(context) if outcomes.ASKED_ATTRIBUTE in context.__dict__ else {}


def _pushed(stack: Any, item: Any) -> list[Any]:
    """Push, and return the list of this thread. It stays when it is empty: Celery's ``pop`` drops it."""
    found: list[Any]
    try:
        # Celery's `push` looks in the same place, by way of an AttributeError.
        found = stack._local.__storage__[stack._local.__ident_func__()]["stack"]
    except (AttributeError, KeyError):
        found = stack.push(item) or stack.stack  # the stack of USE_FAST_LOCALS returns nothing
    else:
        found.append(item)
    return found


def _forget_frames(error: BaseException) -> None:
    """Variables of the code and of ``self.retry`` name the error: a ring, with all that the job had."""
    found: dict[int, BaseException] = {}
    waiting: list[Any] = [error]
    while waiting and len(found) < LONGEST_CHAIN:
        each = waiting.pop()
        if each is None or id(each) in found:
            continue
        found[id(each)] = each
        _set_traceback(each, None)
        waiting += (_cause_of(each), _context_of(each))
        kind = type(each)
        if kind is RetryAt:
            waiting.append(each.exc)
        elif issubclass(kind, BaseExceptionGroup):
            waiting += _errors_of(each)
