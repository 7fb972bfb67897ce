from __future__ import annotations

from typing import Any

import pytest

from bridge.sidekiq.payload import options


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"retry": True, "dead": False, "backtrace": 20, "tags": ["a"], "queue": "low", "retry_queue": "slow"},
        {"retry": 0, "retry_for": 172_800.5, "log_level": "debug", "display_class": "Report"},
        {"retry": None, "tags": ()},
        {"tenant": 7, "cattr": {"user": 1}, "locale": "de"},  # the app's own middleware reads these
    ],
)
def test_what_sidekiq_understands_and_what_is_the_apps_own_is_accepted(right: dict[str, Any]) -> None:
    assert options.objection(right) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        # Sidekiq takes any value but a whole number for 25 retries.
        ({"retry": "yes"}, "retry = 'yes': write true, false or a number of retries"),
        ({"retry": -1}, "retry = -1"),
        ({"retry": 3.0}, "retry = 3.0"),
        ({"dead": "no"}, "dead = 'no': write true or false"),
        ({"backtrace": "all"}, "backtrace = 'all'"),
        # The Web UI's page ends in an error.
        ({"tags": "one"}, "tags = 'one': write a list of strings"),
        ({"tags": [5]}, "tags = [5]"),
        ({"retry_for": "2h"}, "retry_for = '2h': write the number of seconds"),
        ({"retry_for": True}, "retry_for = True"),
        ({"retry_for": 0}, "retry_for = 0"),
        ({"retry_for": 1_700_000_000}, "retry_for = 1700000000"),
        ({"queue": "bad name*"}, "queue = 'bad name*': write the name of a queue"),
        ({"retry_queue": 5}, "retry_queue = 5"),
        ({"log_level": "loud"}, "log_level = 'loud': write one of debug"),
        ({"retires": 3}, "retires: Sidekiq has no such option. Write retry"),
        ({"backtrac": 3}, "backtrac: Sidekiq has no such option. Write backtrace"),
        ({5: 3}, "the name of an option is a string"),
        (["retry"], "write an object"),
        ({"retry_count": 30}, "retry_count: Sidekiq writes it"),
        ({"class": "OtherJob"}, "class: Sidekiq writes it"),
        ({"unique_for": 60}, "unique_for: Sidekiq Pro or Enterprise"),
        ({"bid": "b-1"}, "bid: Sidekiq Pro or Enterprise"),
        ({"expires_in": -1}, "expires_in = -1: write the number of seconds"),
        ({"encrypt": True}, "encrypt: Sidekiq Pro or Enterprise"),
        ({"lock": "until_executed"}, "lock: sidekiq-unique-jobs"),
        ({"pool": "x"}, "pool: a push goes to the Redis"),
    ],
)
def test_what_does_nothing_or_harm_is_refused_with_its_name(wrong: Any, said: str) -> None:
    found = options.objection(wrong)
    assert found is not None
    assert said in found


@pytest.mark.parametrize("option", ["unique_for", "bid", "encrypt", "lock", "on_conflict"])
def test_what_rubys_client_acts_on_may_go_through_ruby(option: str) -> None:
    assert options.objection({option: 5}, through_ruby=True) is None
    assert "with ruby_client=True" in str(options.objection({option: 5}))
    assert options.objection({"retry": "yes", option: 5}, through_ruby=True) is not None
    assert options.objection({"jid": "x"}, through_ruby=True) is not None


def test_a_limit_that_a_push_brings_along_is_judged() -> None:
    assert options.objection({"bridge_limit": {"concurrency": 3, "key": "args.0"}}) is None
    assert options.objection({"bridge_limit": [{"rate": "1/s"}, {"concurrency": 1}]}) is None
    assert "write an object" in str(options.objection({"bridge_limit": 3}))
    assert "write an object" in str(options.objection({"bridge_limit": {"concurrancy": 3}}))
