from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigurationError
from bridge.settings import Settings
from bridge.settings import load as load_settings


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "sidekiq.yml"
    file.write_text(text)
    return load_settings({"BRIDGE_CONFIG": str(file), **environ})


def complaints(tmp_path: Path, text: str, **environ: str) -> list[str]:
    said = load(tmp_path, text, **environ).file.complaints
    return [complaint.removeprefix(f"{tmp_path}/") for complaint in said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ":queues:\n- import:1\n",
            "sidekiq.yml:1:queues has the queue 'import:1', by Sidekiq's rules: "
            "a weight is written [import, 1]",
        ),
        (":queue:\n- a\n", "sidekiq.yml:1:queue is not an option of Sidekiq: did you mean queues?"),
        (
            ":concurency: 5\n",
            "sidekiq.yml:1:concurency is not an option of Sidekiq: did you mean concurrency?",
        ),
        (
            "development:\n  :timout: 5\n",
            "sidekiq.yml:2:development.timout is not an option of Sidekiq: did you mean timeout?",
        ),
        (
            ":CONCURRENCY: 5\n",
            "sidekiq.yml:1:CONCURRENCY is not an option of Sidekiq: did you mean concurrency?",
        ),
        (
            ":colour: red\n",
            "sidekiq.yml:1:colour is not an option of Sidekiq: the bridge ignores it, as Sidekiq does",
        ),
        (
            ":capsules:\n  one:\n    concurency: 1\n",
            "sidekiq.yml:1:capsules.one.concurency is not an option of a capsule: did you mean concurrency?",
        ),
    ],
)
def test_a_mistyped_key_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert complaints(tmp_path, text) == [said]


def test_options_of_sidekiq_and_of_well_known_gems_are_no_mistakes(tmp_path: Path) -> None:
    text = ":verbose: true\n:scheduler:\n  :schedule: {}\n:limits:\n  default: 1\n:concurrency: 3\n"

    assert complaints(tmp_path, text) == []


SECTIONS = ":concurrency: 3\nproduction:\n  :concurrency: 9\nstaging: {}\n"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"RAILS_ENV": "prodution"}, "no section prodution (RAILS_ENV=prodution)"),
        ({"RACK_ENV": "test"}, "no section test (RACK_ENV=test)"),
        ({}, "no section development (RAILS_ENV is unset)"),
    ],
)
def test_an_environment_without_a_section_is_named(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    (found,) = complaints(tmp_path, SECTIONS, **environ)

    assert said in found
    assert found.endswith(
        "did you mean production?" if "RAILS_ENV" in environ else "it has production, staging"
    )
    assert load(tmp_path, SECTIONS, **environ).concurrency == 3


def test_the_section_in_force_is_known_by_its_name(tmp_path: Path) -> None:
    settings = load(tmp_path, SECTIONS, RAILS_ENV="production")

    assert (settings.concurrency, settings.file.section, settings.file.complaints) == (9, "production", ())


# -- every sentence that names a setting names where it was said


def test_a_setting_is_named_by_its_place(tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_text("redis://r:1/0")

    assert load_settings({}).source("redis_url") == "BRIDGE_REDIS_URL"
    assert load_settings({"REDIS_URL": "redis://r:1/0"}).source("redis_url") == "REDIS_URL"
    provided = {"REDIS_PROVIDER": "MY_REDIS", "MY_REDIS": "redis://r:1/0"}
    assert load_settings(provided).source("redis_url") == "MY_REDIS"
    assert load_settings({"BRIDGE_REDIS_URL_FILE": str(url)}).source("redis_url") == "BRIDGE_REDIS_URL_FILE"
    place = load(tmp_path, ":concurrency: 4\n").source("concurrency")
    assert place == f"{tmp_path}/sidekiq.yml:1:concurrency"


def test_an_unsafe_sidecar_is_refused_by_the_name_of_its_place(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yml"
    file.write_text("sidecar_url: http://rails:9292\nsidecar_secret: s\n")

    with pytest.raises(ConfigurationError, match=r"bridge\.yml:1:sidecar_url=http://rails:9292 leaves"):
        load_settings({"BRIDGE_CONFIG": str(file)}).require_safe_sidecar()


# -- other mistakes with the file


def test_a_file_about_something_else_is_not_taken_apart_key_by_key(tmp_path: Path) -> None:
    # "default is not a setting: remove it" would have been bad advice for config/database.yml.
    file = tmp_path / "database.yml"
    file.write_text("default:\n  adapter: postgresql\nproduction:\n  adapter: postgresql\n")

    with pytest.raises(
        ConfigurationError, match=r"database\.yml has no setting of the bridge .*name a config"
    ):
        load_settings({"BRIDGE_CONFIG": str(file)})


def test_a_mistyped_setting_of_our_own_is_still_named(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yml"
    file.write_text("queus: a\n")

    with pytest.raises(ConfigurationError, match=r"bridge\.yml:1:queus .*did you mean queues"):
        load_settings({"BRIDGE_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[critical, 5]", "5 is not a queue"),
        ("[~]", "an empty entry is not a queue"),
        ("default low", "'default low'"),
    ],
)
def test_the_entry_that_is_not_a_queue_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load(tmp_path, f":queues: {text}\n")


def test_a_symbol_is_a_name(tmp_path: Path) -> None:
    assert load(tmp_path, ":queues:\n- :critical\n- low\n").queues.names == ("critical", "low")
