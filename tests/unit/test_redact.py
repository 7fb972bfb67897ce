from __future__ import annotations

from typing import Any

import pytest

from bridge.sidekiq.payload.redact import masked, scrub


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("no such user: alice@example.org", ["alice@example.org"], "no such user: ***"),
        ('bad value "it\'s \\n"', ["it's \n"], 'bad value "***"'),
        ('{"name": "Zo\\u00eb S."}', ["Zoë S."], '{"name": "***"}'),
        ("card 4111111111111111", [{"card": [4111111111111111]}], "card ***"),
        ("longer before shorter: secret-token", ["secret", "secret-token"], "longer before shorter: ***"),
        ("one of 12 failed", [12, "of", True, None], "one of 12 failed"),
        ("could not convert string to float: 'nan'", ["nan"], "could not convert string to float: '***'"),
        ('[7, "ab"] or nan', ["nan", "ab", 7], '[7, "***"] or nan'),
        ("KeyError (42), <7>", [42, 7], "KeyError (***), <***>"),
        ("nothing of it", [], "nothing of it"),
        ("nothing of it", None, "nothing of it"),
        ("after null: hidden-value", ["hidden-value", None], "after null: ***"),
        ("user_4711 and 4711 and 47110", [4711], "user_*** and *** and 47110"),
        ("'line\\nsecret' \\u00e9secret \\x1bsecret", ["secret"], "'line\\n***' \\u00e9*** \\x1b***"),
        ("the customer 田中一郎様", ["田中一郎"], "the customer ***様"),
    ],
)
def test_arguments_are_taken_out_of_a_text(text: str, args: Any, expected: str) -> None:
    assert scrub(text, args) == expected


def test_an_argument_hides_whole_words_only() -> None:
    # `bridge verify` wrote "***ed on purpose" into every log: the argument of its probe is "fail".
    assert scrub("failed on purpose", ["fail"]) == "failed on purpose"
    # A message in which "stat" was an argument could not be read: "cannot find *** for ***e of the ***us".
    assert (
        scrub("cannot find stat for state of the status", ["stat"])
        == "cannot find *** for state of the status"
    )


def test_many_arguments_cost_a_bounded_time() -> None:
    assert scrub("text", ["x" * 10] * 1_000_000) == "text"


def test_a_value_is_hidden_in_a_result_however_short_it_is() -> None:
    value = {"name": "nan", "more": [7, 7.0, "7", True, None, "other"]}
    assert masked(value, ["nan", 7, True]) == {
        "name": "***",
        "more": ["***", 7.0, "***", True, None, "other"],
    }
