from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bridge.cli.doctor import task_checks
from bridge.settings import load as load_settings
from bridge.sidekiq.api.entries import Entry, Place


def site(environ: dict[str, str], **facts: Any) -> Any:
    """A worker for queue default, in which an EchoJob waits; no sidecar answers."""
    settings = load_settings(environ)
    waiting = Entry.of(Place("queue:default"), b'{"class": "EchoJob", "jid": "a"}')
    found: dict[str, Any] = {
        "healths": [], "tasks": ["NativeJob"], "rubies": [], "queues": [], "sample": [waiting],
        "workers": [SimpleNamespace(queues=("default",))], "said": settings.source, **facts,
    }  # fmt: skip
    return SimpleNamespace(settings=settings, **found)


@pytest.mark.parametrize("environ", [{}, {"BRIDGE_SIDECAR_URL": "unix:///run/app/sidecar.sock"}])
def test_ruby_jobs_that_wait_are_an_error_whether_or_not_a_sidecar_was_asked_for(
    environ: dict[str, str],
) -> None:
    # Without BRIDGE_SIDECAR_URL the doctor said "fine with native tasks alone", and ended with 0.
    (found,) = task_checks.ruby_waits(site(environ))

    assert (found.severity.value, found.code) == ("error", "ruby-jobs-wait")
    assert "Ruby jobs wait in default (EchoJob)" in found.seen


@pytest.mark.parametrize(
    "facts",
    [
        {"healths": [SimpleNamespace(ready=True)]},
        {"tasks": ["EchoJob"]},
        {"tasks": None},
        {"rubies": [SimpleNamespace(queues=("default",), quiet=False)]},
        {"queues": [SimpleNamespace(name="default", paused=True)]},
        {"sample": []},
    ],
    ids=["a sidecar", "native", "no worker tells", "a Sidekiq process", "paused", "nothing waits"],
)
def test_nothing_is_said_where_a_sidecar_is_not_what_is_missing(facts: dict[str, Any]) -> None:
    assert [*task_checks.ruby_waits(site({}, **facts))] == []
