from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigurationError
from bridge.settings import Address, RedisUrl, Settings, sources
from bridge.settings import load as load_settings
from bridge.sidekiq.fetch.queues import Capsule, QueueMode
from bridge.sidekiq.outcome.dialect import MetricsFamily


def mistake(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ)
    return str(caught.value)


def config(tmp_path: Path, text: str, name: str = "bridge.yml") -> dict[str, str]:
    file = tmp_path / name
    file.write_text(text)
    return {"BRIDGE_CONFIG": str(file)}


def test_without_any_variable_the_defaults_hold() -> None:
    settings = load_settings({})
    assert str(settings.redis_url) == "redis://127.0.0.1:6379/0"
    assert settings.sidecar_url == ("http://127.0.0.1:9292",)
    assert settings.health_bind == Address("127.0.0.1", 9394)
    assert (settings.pool, settings.queues.names) == ("bridge", ("default",))
    assert (settings.shutdown_timeout_seconds, settings.lease_seconds) == (25.0, 15.0)
    assert settings.retry_backoff is None
    assert not settings.show_args


def test_every_setting_has_a_description_and_an_example() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), name
        assert field.examples, name


@pytest.mark.parametrize("name", [n for n in Settings.model_fields if n not in ("config", "sidecar_secret")])
def test_every_example_is_accepted(name: str, tmp_path: Path) -> None:
    for example in Settings.model_fields[name].examples or ():
        is_file = str(example).startswith(("/etc/", "/run/secrets", "/var/log"))
        file = tmp_path / "file"
        file.write_text("redis://host" if name == "redis_url_file" else "content")
        load_settings({"BRIDGE_" + name.upper(): str(file) if is_file else str(example)})


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"BRIDGE_LEASE_SECONDS": "", "BRIDGE_CONFIG": " "}).lease_seconds == 15.0


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).pool = "solo"  # type: ignore[misc]


# -- Redis


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"REDIS_URL": "redis://a"}, "redis://a:6379/0"),
        ({"REDIS_URL": "redis://a", "BRIDGE_REDIS_URL": "redis://b/2"}, "redis://b:6379/2"),
        ({"REDIS_URL": "redis://a", "REDIS_PROVIDER": "CLOUD", "CLOUD": "rediss://c:1"}, "rediss://c:1/0"),
    ],
)
def test_the_url_is_found_where_sidekiq_looks_for_it(environ: dict[str, str], expected: str) -> None:
    assert str(load_settings(environ).redis_url) == expected


def test_a_provider_that_holds_a_url_is_explained_without_its_password() -> None:
    text = mistake({"REDIS_PROVIDER": "redis://:hunter2@a"})
    assert "write the name of the variable" in text
    assert "hunter2" not in text


def test_a_provider_without_its_variable_is_explained() -> None:
    assert "CLOUD" in mistake({"REDIS_PROVIDER": "CLOUD"})


def test_a_sentinel_url_names_hosts_master_and_database() -> None:
    url = RedisUrl.parse("sentinel://user:p%40ss@one:26380,two,[::1]:5/mymaster/3")
    assert url.addresses == (Address("one", 26380), Address("two", 26379), Address("::1", 5))
    assert (url.master, url.db, url.username, url.password) == ("mymaster", 3, "user", "p@ss")
    assert url.is_sentinel


@pytest.mark.parametrize("text", ["redis://u:hunter2@h/1", "sentinel://:hunter2@h,i/m/1"])
def test_a_password_is_never_shown(text: str) -> None:
    url = RedisUrl.parse(text)
    assert "hunter2" not in str(url) + repr(url) + repr(load_settings({"REDIS_URL": text}))
    assert url.password == "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "http://u:hunter2@h",
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h/x",
        "sentinel://u:hunter2@h",
        "u:hunter2",
        "redis://u:hunter2@h:99999",
        "redis://u:hunter2@h?ssl_cert_reqs=none",
        "redis://[u:hunter2@h",
        "//u:hun@ter2@h",
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str) -> None:
    text = mistake({"BRIDGE_REDIS_URL": url})
    assert "BRIDGE_REDIS_URL=" in text
    assert "write for example redis://" in text
    assert "hunter2@" not in text


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_plain_mistake(text: str) -> None:
    with contextlib.suppress(ValueError):  # a mistake; any other kind of error fails the test
        RedisUrl.parse("redis://" + text)


# -- queues


@pytest.mark.parametrize(
    ("text", "names", "weights", "mode"),
    [
        ("critical,default", ("critical", "default"), (0, 0), QueueMode.STRICT),
        ("critical:3, default:1", ("critical", "default"), (3, 1), QueueMode.WEIGHTED),
        ("critical:3,default", ("critical", "default"), (3, 1), QueueMode.WEIGHTED),
        ("a:1,b:1", ("a", "b"), (1, 1), QueueMode.RANDOM),
        ("app:mail,low", ("app:mail", "low"), (0, 0), QueueMode.STRICT),
        ("app:mail:2,low:1", ("app:mail", "low"), (2, 1), QueueMode.WEIGHTED),
    ],
)
def test_queues_are_strict_without_and_weighted_with_weights(
    text: str, names: tuple[str, ...], weights: tuple[int, ...], mode: QueueMode
) -> None:
    queues = load_settings({"BRIDGE_QUEUES": text}).queues
    assert (queues.names, queues.weights, queues.mode) == (names, weights, mode)


@pytest.mark.parametrize("text", ["a b", "a:-1", "a/b", ",", "ä", "a:1000"])
def test_a_queue_that_the_web_ui_could_not_open_is_refused(text: str) -> None:
    assert mistake({"BRIDGE_QUEUES": text}).startswith(f"BRIDGE_QUEUES={text}: ")


# -- mistakes


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BRIDGE_QUEUE", "BRIDGE_QUEUES"),
        ("BRIDGE_SIDECAR_SECRETS", "BRIDGE_SIDECAR_SECRET"),
        ("BRIDGE_REDISURL", "BRIDGE_REDIS_URL"),
    ],
)
def test_an_unknown_variable_is_answered_with_the_one_meant(name: str, meant: str) -> None:
    assert mistake({name: "x"}) == f"{name} is not a setting: did you mean {meant}?"


def test_an_unknown_variable_like_no_other_is_named() -> None:
    assert "BRIDGE_XYZZY is not a setting" in mistake({"BRIDGE_XYZZY": "x"})


@pytest.mark.parametrize("name", ["BRIDGE_SIDECAR_BIND", "BRIDGE_DEMO_DB", "BRIDGE_TEST_REDIS_URL"])
def test_variables_of_the_other_parts_are_left_alone(name: str) -> None:
    load_settings({name: "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", "1"),
        ("HEALTH_BIND", "9394"),
        ("HEALTH_BIND", "h:70000"),
        ("SIDECAR_URL", "ftp://x"),
        ("SIDECAR_URL", "unix://relative"),
        # Doctor ended without naming the variable; port 0 meant 9292, and the path meant nothing.
        ("SIDECAR_URL", "http://127.0.0.1:99999"),
        ("SIDECAR_URL", "http://127.0.0.1:0"),
        ("SIDECAR_URL", "http://127.0.0.1:9292/bridge"),
        ("RETRY_BACKOFF", "often"),
        ("LOG_LEVEL", "loud"),
        ("METRICS_FAMILY", "9"),
        ("SHOW_ARGS", "perhaps"),
        ("SIDEKIQ_VERSION", "latest"),
        ("REDIS_CA", "/no/such/file"),
    ],
)
def test_a_wrong_value_is_answered_with_its_place_and_what_to_write(name: str, value: str) -> None:
    text = mistake({f"BRIDGE_{name}": value})
    assert text.startswith(f"BRIDGE_{name}={value}: ")
    assert "write for example" in text


def test_several_mistakes_are_told_at_once() -> None:
    text = mistake({"BRIDGE_LEASE_SECONDS": "x", "BRIDGE_HEALTH_BIND": "y"})
    assert "BRIDGE_LEASE_SECONDS" in text
    assert "BRIDGE_HEALTH_BIND" in text


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("5", 5.0), ("1.5", 1.5), ("false", None), ("", None), ("1", 1.0)]
)
def test_retry_backoff_keeps_celerys_meaning(value: str, expected: object) -> None:
    backoff = load_settings({"BRIDGE_RETRY_BACKOFF": value}).retry_backoff
    assert backoff == expected
    assert type(backoff) is type(expected)


# -- the secret


def test_the_secret_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    settings = load_settings({"BRIDGE_SIDECAR_SECRET_FILE": str(file)})
    assert settings.sidecar_secret
    assert settings.sidecar_secret.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_secret_and_file_together_are_refused_without_showing_either(tmp_path: Path) -> None:
    text = mistake({"BRIDGE_SIDECAR_SECRET": "hunter2", "BRIDGE_SIDECAR_SECRET_FILE": str(tmp_path)})
    assert "set one of them" in text
    assert "hunter2" not in text


def test_a_secret_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "is empty" in mistake({"BRIDGE_SIDECAR_SECRET_FILE": str(empty)})
    assert "cannot be read" in mistake({"BRIDGE_SIDECAR_SECRET_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("unix:///run/s.sock", ""),
        ("http://127.0.0.1:1", "s"),
        ("http://[::1]:1", "s"),
        ("https://rails:1", "s"),
    ],
)
def test_a_sidecar_is_safe_on_a_socket_or_signed_and_local_or_encrypted(url: str, secret: str) -> None:
    load_settings({"BRIDGE_SIDECAR_URL": url, "BRIDGE_SIDECAR_SECRET": secret}).require_safe_sidecar()


@pytest.mark.parametrize(
    ("url", "secret", "word"),
    [
        ("http://127.0.0.1:1", "", "BRIDGE_SIDECAR_SECRET"),
        ("http://rails:1", "s", "https://"),
        ("https://rails:1", "", "SECRET"),
    ],
)
def test_a_sidecar_in_the_clear_is_refused(url: str, secret: str, word: str) -> None:
    settings = load_settings({"BRIDGE_SIDECAR_URL": url, "BRIDGE_SIDECAR_SECRET": secret})
    with pytest.raises(ConfigurationError, match=word):
        settings.require_safe_sidecar()


# -- the file


def test_a_file_uses_the_same_names_and_the_environment_wins(tmp_path: Path) -> None:
    environ = config(
        tmp_path, "lease_seconds: 20\nqueues: [a, b]\nmetrics_family: 7\nsidekiq_version: 8.1\ntag:\n"
    )
    settings = load_settings({**environ, "BRIDGE_LEASE_SECONDS": "30"})
    assert (settings.lease_seconds, settings.queues.names) == (30.0, ("a", "b"))
    assert (settings.metrics_family, settings.sidekiq_version, settings.tag) == (
        MetricsFamily.SEVEN,
        "8.1",
        "",
    )


def test_the_files_redis_url_wins_over_the_fallback(tmp_path: Path) -> None:
    environ = config(tmp_path, "redis_url: redis://file\n")
    assert str(load_settings({**environ, "REDIS_URL": "redis://other"}).redis_url) == "redis://file:6379/0"


def test_a_mistake_in_the_file_names_file_and_key(tmp_path: Path) -> None:
    environ = config(tmp_path, "lease_seconds: soon\n")
    assert mistake(environ).startswith(f"{environ['BRIDGE_CONFIG']}:1:lease_seconds=soon: ")


def test_an_unknown_key_is_answered_with_the_one_meant(tmp_path: Path) -> None:
    assert mistake(config(tmp_path, "queue: a\n")).endswith(":queue is not a setting: did you mean queues?")


# "BRIDGE_QUEUES: a" was answered with the name of another kind of file.
@pytest.mark.parametrize("key", ["BRIDGE_QUEUES", "bridge_queue", "Queues"])
def test_a_key_with_the_prefix_or_in_capitals_is_answered_with_the_one_meant(
    tmp_path: Path, key: str
) -> None:
    assert mistake(config(tmp_path, f"{key}: a\n")).endswith(f":{key} is not a setting: did you mean queues?")


def test_a_file_that_does_not_exist_is_a_mistake() -> None:
    assert mistake({"BRIDGE_CONFIG": "/no/such/file"}).startswith(
        "BRIDGE_CONFIG=/no/such/file cannot be read"
    )


@pytest.mark.parametrize(
    ("text", "word"), [("a: [", "is not YAML: line"), ("- a\n", "write one name: value"), ("\t", "YAML")]
)
def test_a_file_that_is_no_mapping_is_a_mistake(tmp_path: Path, text: str, word: str) -> None:
    assert word in mistake(config(tmp_path, text))


RAILS = """
:concurrency: 5
:timeout: 8
:max_retries: 7
:tag: shop
:labels:
  - fast
:queues:
  - critical
  - [default, 2]
  - "low,3"
  - :mailers
:schedule:
  nightly: {cron: "0 0 * * *"}
production:
  :concurrency: 40
"""


def test_a_rails_sidekiq_yml_is_understood_as_it_is(tmp_path: Path) -> None:
    settings = load_settings(config(tmp_path, RAILS, "sidekiq.yml"))
    assert (settings.concurrency, settings.shutdown_timeout_seconds, settings.max_retries) == (5, 8.0, 7)
    assert (settings.tag, settings.labels) == ("shop", ("fast",))
    assert settings.queues.weight_by_name == {"critical": 1, "default": 2, "low": 3, "mailers": 1}


@pytest.mark.parametrize("variable", ["RAILS_ENV", "RACK_ENV", "APP_ENV"])
def test_the_section_of_the_environment_wins(tmp_path: Path, variable: str) -> None:
    environ = {**config(tmp_path, RAILS, "sidekiq.yml"), variable: "production"}
    assert load_settings(environ).concurrency == 40


def test_the_capsules_of_sidekiq_7_become_one_worker(tmp_path: Path) -> None:
    text = (
        "concurrency: 10\nqueues: [default]\ncapsules:\n  single: {concurrency: 1, queues: [one, [two, 1]]}\n"
    )
    settings = load_settings(config(tmp_path, text, "sidekiq.yml"))
    assert (settings.concurrency, settings.queues.names) == (11, ("default", "one", "two"))
    assert settings.file.capsules == (Capsule("single", frozenset(["one", "two"]), 1),)


def test_a_capsule_without_a_limit_has_that_of_the_file(tmp_path: Path) -> None:
    text = "concurrency: 10\nproduction:\n  :concurrency: 3\ncapsules:\n  own: {queues: [one]}\n"
    settings = load_settings({**config(tmp_path, text, "sidekiq.yml"), "RAILS_ENV": "production"})
    assert settings.file.capsules == (Capsule("own", frozenset(["one"]), 3),)


def test_erb_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "contains ERB" in mistake(config(tmp_path, ":concurrency: <%= ENV['N'] %>\n", "sidekiq.yml"))


def test_a_mistake_in_a_rails_file_names_its_own_key(tmp_path: Path) -> None:
    environ = {
        **config(tmp_path, "production:\n  :timeout: soon\n:tag: x\n", "sidekiq.yml"),
        "RAILS_ENV": "production",
    }
    assert f"{environ['BRIDGE_CONFIG']}:2:production.timeout=soon: " in mistake(environ)


@pytest.mark.parametrize(
    "queues",
    [
        "[[critical, 3], [default, 1]]",
        "[critical: 3, default: 1]",
        "{critical: 3, default: 1}",
        '["critical,3", "default,1"]',
        "[critical, critical, critical, default]",
        "\n  - - :critical\n    - 3\n  - :default",
        '"critical:3,default:1"',
        "[critical, [critical, 2], default]",
    ],
)
def test_weighted_queues_are_read_in_every_spelling(tmp_path: Path, queues: str) -> None:
    for key in (":queues:", "queues:"):
        settings = load_settings(config(tmp_path, f"{key} {queues}\n", "sidekiq.yml"))
        assert settings.queues.weight_by_name == {"critical": 3, "default": 1}
        assert settings.queues.mode is QueueMode.WEIGHTED


@pytest.mark.parametrize(
    ("queues", "weights"),
    [
        ("[import:1, import:2, default]", {"import:1": 0, "import:2": 0, "default": 0}),
        ("\n  - import:1\n  - :default", {"import:1": 0, "default": 0}),
        ("[[import:1, 3], default]", {"import:1": 3, "default": 1}),
        ('["import:1,3", default]', {"import:1": 3, "default": 1}),
        ("import:1", {"import:1": 0}),
    ],
)
def test_a_number_behind_a_colon_belongs_to_the_name_in_a_rails_file(
    tmp_path: Path, queues: str, weights: dict[str, int]
) -> None:
    """Sidekiq serves `import:1`; the worker took it for a weight, and its jobs waited."""
    settings = load_settings(config(tmp_path, f":queues: {queues}\n", "sidekiq.yml"))
    assert settings.queues.weight_by_name == weights

    both = load_settings(
        config(tmp_path, ":queues: [a]\ncapsules:\n  one:\n    queues: [import:9]\n", "sidekiq.yml")
    )
    assert both.queues.names == ("a", "import:9")


def test_the_variable_takes_a_name_with_a_number_and_a_weight_of_0(tmp_path: Path) -> None:
    settings = load_settings({"BRIDGE_QUEUES": "import:1:0,default"})
    assert (settings.queues.names, settings.queues.mode) == (("import:1", "default"), QueueMode.STRICT)
    assert sources.text(settings.queues) == "import:1:0,default"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("capsules:\n  one:\n    concurrency: many\n    queues: [a]\n", ":1:capsules.one.concurrency=many: "),
        ("concurrency: 1.5\ncapsules: {one: {concurrency: 2}}\n", ":1:concurrency=1.5: "),
        ("capsules: [one]\n", ":1:capsules must be a list of capsules"),
        ("a: 1\n:concurrency: lots\n", ":2:concurrency=lots: "),
        (":queues:\n  - [a, b, c]\n", ":1:queues="),
    ],
)
def test_a_mistake_in_a_rails_file_is_named_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    assert place in mistake(config(tmp_path, text, "sidekiq.yml"))


def test_a_value_that_came_by_an_anchor_has_the_line_of_its_section(tmp_path: Path) -> None:
    text = "base: &base\n  concurrency: soon\nproduction:\n  <<: *base\n"
    environ = {**config(tmp_path, text, "sidekiq.yml"), "RAILS_ENV": "production"}
    assert ":3:production.concurrency=soon: " in mistake(environ)
