from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.sidekiq.fetch.queues import QueueSet
from bridge.sidekiq.process import rows
from bridge.sidekiq.process.rows import ProcessInfo

STRICT = QueueSet.of([("critical", 0), ("default", 0)])
INFO = ProcessInfo(
    "web.1", 42, "0123456789ab", 1_700_000_000, STRICT, 20, "8.1.7", tag="shop", labels=("py",)
)


def test_the_identity_is_host_pid_and_nonce() -> None:
    assert INFO.identity == "web.1:42:0123456789ab"


def test_check_53_the_info_holds_what_every_web_ui_needs() -> None:
    assert json.loads(INFO.info_json()) == {
        "hostname": "web.1",
        "started_at": 1_700_000_000.0,
        "pid": 42,
        "tag": "shop",
        "labels": ["py"],
        "identity": "web.1:42:0123456789ab",
        "version": "8.1.7",
        "embedded": False,
        "concurrency": 20,
        "queues": ["critical", "default"],
        "weights": [{"critical": 0, "default": 0}],
        "capsules": {
            "default": {"concurrency": 20, "mode": "strict", "weights": {"critical": 0, "default": 0}},
        },
    }


def test_started_at_is_a_float_also_for_a_whole_second() -> None:
    assert '"started_at":1700000000.0' in INFO.info_json()


def test_weighted_queues_are_reported_with_their_weights() -> None:
    weighted = replace(INFO, queues=QueueSet.of([("a", 3), ("b", 1)]))
    assert json.loads(weighted.info_json())["capsules"]["default"]["mode"] == "weighted"
    assert json.loads(weighted.info_json())["weights"] == [{"a": 3, "b": 1}]


@pytest.mark.parametrize(("quiet", "text"), [(True, "true"), (False, "false")])
def test_check_54_quiet_is_the_lower_case_word(quiet: bool, text: str) -> None:
    fields = rows.beat_fields(busy=3, quiet=quiet, rss_kb=100, rtt_us=80, now=7, concurrency=20)
    assert fields == {"busy": 3, "beat": 7.0, "rtt_us": 80, "quiet": text, "rss": 100, "concurrency": 20}


def test_check_7_a_work_row_holds_queue_payload_and_integer_time() -> None:
    payload = '{"args":["é",1.0]}'
    row = json.loads(rows.work_row("default", payload.encode(), 1_700_000_000.9))
    assert row == {"queue": "default", "payload": payload, "run_at": 1_700_000_000}


def test_a_work_row_of_invalid_utf8_is_valid_json() -> None:
    assert json.loads(rows.work_row("default", b'"\xff"', 1))["payload"] == '"\N{REPLACEMENT CHARACTER}"'


@pytest.mark.parametrize(("token", "expected"), [(0, "0"), (35, "z"), (36, "10"), (10**12, "cre66i9s")])
def test_a_tid_is_the_token_in_base_36(token: int, expected: str) -> None:
    assert rows.tid(token) == expected
    assert int(rows.tid(token), 36) == token


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc on this system")
def test_check_53_resident_memory_is_above_zero() -> None:
    assert rows.rss_kb() > 1_000


def test_resident_memory_is_zero_without_proc(tmp_path: Path) -> None:
    assert rows.rss_kb(tmp_path / "none") == 0
