from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from bridge.cli.push import Json
from bridge.cli.spans import SPAN, moment, readable
from bridge.sidekiq.api.entries import Place
from bridge.sidekiq.api.filters import Filters
from bridge.sidekiq.payload import backtrace
from tests.support.command import Bridge
from tests.support.processes import ROOT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("3d", 259_200), ("1w", 604_800)],
)
def test_a_span_is_written_with_units(text: str, seconds: float) -> None:
    assert SPAN.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "h", "-5", "5y", "1h soon"])
def test_what_is_no_span_is_answered_with_what_to_write(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s"):
        SPAN.convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.42, "0.4 s"), (59, "59 s"), (600, "10 min"), (7300, "2 h"), (864_000, "10 d")],
)
def test_a_span_is_shown_in_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert readable(seconds) == text


def test_a_moment_is_in_utc_and_what_is_none_is_empty() -> None:
    assert moment(1_700_000_000) == "2023-11-14 22:13:20Z"
    assert (moment(None), moment(float("inf")), moment(1e300)) == ("", "", "")


@pytest.mark.parametrize(
    ("text", "key"),
    [("retry", "retry"), ("retries", "retry"), ("scheduled", "schedule"), ("queue:a:b", "queue:a:b")],
)
def test_a_place_is_named_as_in_redis_or_as_in_the_web_ui(text: str, key: str) -> None:
    assert Place.parse(text).key == key


@pytest.mark.parametrize("text", ["default", "queue:", "", "stat:processed", "bridge:lease"])
def test_any_other_key_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="write retry, schedule, dead or queue:NAME"):
        Place.parse(text)


def test_an_argument_is_one_json_value() -> None:
    assert [Json().convert(text, None, None) for text in ("1", '"1"', "null", "[1.0]")] == [
        1,
        "1",
        None,
        [1.0],
    ]
    with pytest.raises(click.BadParameter, match="with both quotes"):
        Json().convert("word", None, None)


def test_a_backtrace_is_read_back_and_anything_else_is_none() -> None:
    assert backtrace.decode(backtrace.encode(["a.rb:1", "é"])) == ["a.rb:1", "é"]
    for nonsense in (None, 5, "", "%%%", "AAAA", ["line"]):
        assert backtrace.decode(nonsense) == []


def test_a_jid_with_escapes_is_looked_for_by_parsing() -> None:
    assert Filters(frozenset(["abc"])).needles == (b"abc",)
    assert Filters(frozenset(["é"])).needles == ()


@pytest.mark.parametrize(
    ("patterns", "needles"),
    [
        (("EchoJob",), (b"EchoJob",)),
        (("Shop::*Job", "Mail*"), (b"Shop::", b"Mail")),
        (("*",), ()),
        (("EchoJob", "*"), ()),
        (("Mailer#welcome",), ()),
        (("E[cx]hoJob",), ()),
        (("ÉchoJob",), ()),
    ],
)
def test_bytes_without_the_name_of_a_class_are_not_parsed(
    patterns: tuple[str, ...], needles: tuple[bytes, ...]
) -> None:
    assert Filters(classes=patterns).needles == needles


# -- the command itself


def test_every_command_says_what_it_does() -> None:
    bridge = Bridge({})
    for name in bridge("--help").well().out.split("Commands:")[1].split():
        if name in ("jobs", "config", "push", "status", "doctor"):
            assert "Usage: bridge" in bridge(name, "--help").well().out


def test_the_settings_are_shown_with_their_places_and_without_secrets(tmp_path: Path) -> None:
    file = tmp_path / "sidekiq.yml"
    file.write_text(":concurrency: 3\nproduction:\n  :concurrency: 30\n  :queues: [[a, 2], b]\n")
    bridge = Bridge({
        "BRIDGE_CONFIG": str(file), "RAILS_ENV": "production", "REDIS_URL": "redis://u:hunter2@h/1",
        "BRIDGE_SIDECAR_SECRET": "hunter2", "BRIDGE_LEASE_SECONDS": "20",
    })  # fmt: skip

    answer = bridge("config", "show", "--json").well()

    found = {one["name"]: (one["value"], one["source"]) for one in answer.json}
    assert found["concurrency"] == ("30", f"{file}:3:production.concurrency")
    assert found["queues"] == ("a:2,b:1", f"{file}:4:production.queues")
    assert found["redis_url"] == ("redis://***@h:6379/1", "REDIS_URL")
    assert found["sidecar_secret"] == ("(hidden)", "BRIDGE_SIDECAR_SECRET")
    assert found["lease_seconds"] == ("20", "BRIDGE_LEASE_SECONDS")
    assert found["pool"] == ("bridge", "default")
    assert "hunter2" not in answer.out + bridge("config", "show").well().out


def test_a_wrong_setting_ends_a_command_with_one_sentence_and_code_2() -> None:
    answer = Bridge({"BRIDGE_QUEUS": "a"})("status")

    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "bridge: BRIDGE_QUEUS is not a setting: did you mean BRIDGE_QUEUES?\n"


def test_a_redis_that_does_not_answer_ends_a_command_with_code_3() -> None:
    answer = Bridge({"BRIDGE_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0"})("queues")

    assert answer.code == 3
    assert "does not answer" in answer.err
    assert "hunter2" not in answer.err


def test_the_plugin_of_celery_imports_next_to_nothing() -> None:
    # Celery imports it with every command of every application in the same environment.
    code = (
        "import sys, bridge.cli; heavy = {'celery', 'kombu', 'redis', 'rich', 'pydantic', 'requests'}; "
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
