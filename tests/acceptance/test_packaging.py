"""What users install: a wheel from hashed locks, a source archive, a gem; and a job through both."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import bridge
from tests.support.processes import ROOT, Process, clean_environment
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

JOBS = """
require "sidekiq"
class RubyJob
  include(defined?(Sidekiq::Job) ? Sidekiq::Job : Sidekiq::Worker)
  def perform(path) = File.write(path, "ruby")
end
"""
TASKS = """
from pathlib import Path
from bridge import app

@app.task(name="PythonJob")
def python_job(path):
    Path(path).write_text("python")
"""


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**clean_environment(), **env},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


# -- what is built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source archive, the wheel that is built from it, and the gem."""
    place = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT)
    shutil.copytree(ROOT / "sidecar", place / "sidecar")
    run("gem", "build", "sidekiq-bridge-sidecar.gemspec", cwd=place / "sidecar")
    (wheel,), (archive,) = place.glob("*.whl"), place.glob("*.tar.gz")
    (gem,) = (place / "sidecar").glob("*.gem")
    return {"wheel": wheel, "archive": archive, "gem": gem}


def test_the_wheel_has_the_package_with_its_types_and_nothing_else(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built["wheel"]) as wheel:
        names = set(wheel.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        text = wheel.read(entry_points).decode()
    assert {name.partition("/")[0] for name in names} == {
        "bridge",
        f"sidekiq_bridge-{bridge.__version__}.dist-info",
    }
    assert "bridge/py.typed" in names
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bridge").rglob("*.lua")}
    assert scripts <= names
    assert "bridge = bridge.cli:main" in text
    assert "[celery.commands]" in text


def test_the_archive_has_what_a_packager_needs(built: dict[str, Path]) -> None:
    with tarfile.open(built["archive"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "sidecar/bin/sidecar", "docs/operations.md"} <= names
    assert not [name for name in names if name.startswith((".venv", "tmp", "deploy/secrets"))]


def test_the_gem_has_the_lua_scripts_and_the_pages(built: dict[str, Path]) -> None:
    listed = run("gem", "specification", built["gem"], "files")
    texts = [path.name for path in (ROOT / "sidecar/lib/sidekiq_bridge/scripts/lua").glob("*.lua")]
    assert texts
    assert all(f"lib/sidekiq_bridge/scripts/lua/{name}" in listed for name in texts)
    assert "lib/sidekiq_bridge/web/views/index.erb" in listed


# -- what is installed


@pytest.fixture(scope="module")
def installed(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment: the locked packages by their hashes, then the wheel alone."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", environment)
    pip = (environment / "bin/pip", "install", "--disable-pip-version-check", "--quiet")
    run(*pip, "--require-hashes", "-r", ROOT / "requirements/runtime.txt")
    run(*pip, "--no-deps", "--no-index", built["wheel"])
    return environment


def test_what_is_installed_fits_together(installed: Path, tmp_path: Path) -> None:
    assert "No broken requirements" in run(installed / "bin/pip", "check", cwd=tmp_path)


def test_importing_it_has_no_side_effect(installed: Path, tmp_path: Path) -> None:
    code = """
        import sys, bridge, bridge.cli
        assert not {"celery", "kombu", "redis", "pydantic"} & sys.modules.keys(), sorted(sys.modules)
        print(bridge.__version__, bridge.__file__)
    """
    said = run(installed / "bin/python", "-c", textwrap.dedent(code), cwd=tmp_path, BRIDGE_QUEUES="(wrong)")
    assert said.startswith(bridge.__version__)
    assert str(installed) in said


def test_its_commands_are_there(installed: Path, tmp_path: Path) -> None:
    assert "status" in run(installed / "bin/bridge", "--help", cwd=tmp_path)
    assert "sidekiq" in run(installed / "bin/celery", "--help", cwd=tmp_path)


def test_another_celery_application_beside_it_is_left_alone(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "from celery import Celery\napp = Celery('other', broker='memory://')\n"
    )
    code = "import sys; sys.argv = ['celery', '-A', 'other', 'report']; from celery.__main__ import main\n"
    code += "try: main()\nfinally: print('bridge.celery' in sys.modules)"
    assert run(installed / "bin/python", "-c", code, cwd=tmp_path).splitlines()[-1] == "False"


# -- a job through both


@pytest.fixture(scope="module")
def gem_home(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gem, installed from its file: what it depends on is the system's."""
    home = tmp_path_factory.mktemp("gems")
    run(
        "gem",
        "install",
        "--local",
        "--ignore-dependencies",
        "--no-document",
        "--install-dir",
        home,
        "--bindir",
        home / "bin",
        built["gem"],
    )
    return home


@pytest.fixture
def started(
    installed: Path, gem_home: Path, empty_redis: Any, redis_server: RedisServer, tmp_path: Path
) -> Iterator[dict[str, Process]]:
    """Worker and sidecar from wheel and gem, in a directory without a checkout."""
    (tmp_path / "jobs.rb").write_text(JOBS)
    (tmp_path / "mytasks.py").write_text(TASKS)
    paths = run("gem", "environment", "gempath").strip()
    env = {
        "REDIS_URL": redis_server.url_of(15),
        "BRIDGE_SIDECAR_URL": f"unix://{tmp_path}/s.sock",
        "BRIDGE_HEALTH_BIND": "127.0.0.1:0",
        "BRIDGE_SHUTDOWN_TIMEOUT_SECONDS": "2",
    }
    sidecar = Process(
        "sidecar",
        [gem_home / "bin/sidecar", "--require", tmp_path / "jobs.rb", "--bind", f"unix://{tmp_path}/s.sock"],
        tmp_path,
        cwd=tmp_path,
        env={**env, "GEM_HOME": str(gem_home), "GEM_PATH": f"{gem_home}{os.pathsep}{paths}"},
    )
    sidecar.wait_ready(lambda: "Sidecar ready" in sidecar.log, 60)
    worker = Process(
        "worker",
        [installed / "bin/celery", "-A", "mytasks", "worker", "-c", "2", "-l", "INFO"],
        tmp_path,
        cwd=tmp_path,
        env=env,
    )
    worker.wait_ready(lambda: "ready." in worker.log, 60)
    yield {"worker": worker, "sidecar": sidecar}
    for process in (worker, sidecar):
        process.stop()


def test_jobs_run_from_the_wheel_and_from_the_gem(
    started: dict[str, Process], installed: Path, empty_redis: Any, redis_server: RedisServer, tmp_path: Path
) -> None:
    places = {name: tmp_path / f"{name}.done" for name in ("PythonJob", "RubyJob")}
    for name, place in places.items():
        code = f"from bridge import app; app.send_task({name!r}, args=[{str(place)!r}])"
        run(installed / "bin/python", "-c", code, cwd=tmp_path, REDIS_URL=redis_server.url_of(15))
    wait_for(lambda: all(place.exists() for place in places.values()), "both to have run", 60)
    assert [place.read_text() for place in places.values()] == ["python", "ruby"]
    wait_for(lambda: empty_redis.get("stat:processed") == b"2", "both to be counted")


# -- what is declared


def test_gem_and_wheel_have_one_version() -> None:
    version = (ROOT / "sidecar/lib/sidekiq_bridge/sidecar/version.rb").read_text()
    assert f'VERSION = "{bridge.__version__}"' in version


def test_the_locks_keep_to_what_is_declared() -> None:
    wanted = [Requirement(line) for line in project()["project"]["dependencies"]]
    for extra in project()["project"]["optional-dependencies"].values():
        wanted += [Requirement(line) for line in extra]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", (ROOT / "requirements/dev.txt").read_text(), re.M))
    outside = {
        requirement.name: pinned.get(requirement.name.lower())
        for requirement in wanted
        if not requirement.specifier.contains(pinned.get(requirement.name.lower(), "0"))
    }
    assert outside == {}


# requirements/dev.txt once pinned this release, which needs Python 3.11.5. A machine with 3.11.7 hid it:
# neither `make demo` nor `make test` worked on a fresh Debian 12, whose Python is 3.11.2.
TOO_NEW = """\
pymdown-extensions==13.1.2 \\
    --hash=sha256:20eec6babdadcdb47b5a91b3e69ff9f846d506e887125dcb027518c47d412693
"""


def test_a_pin_that_the_oldest_python_cannot_install_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    others = (ROOT / "requirements/dev.txt").read_text()
    lock.write_text(re.sub(r"(?m)^pymdown-extensions==.*\n(    --hash.*\n)+", "", others) + TOO_NEW)
    checked = subprocess.run([ROOT / "scripts/lock", "--check", lock], capture_output=True, text=True)
    assert checked.returncode == 1
    assert f"{lock} cannot be installed under Python 3.11.2" in checked.stdout
    assert "Python>=3.11.5" in checked.stdout
    assert "Python 3.12.0: every lock can be installed" in checked.stdout


def test_every_locked_package_that_is_installed_allows_the_oldest_python_of_each_series() -> None:
    pinned = re.findall(r"^([\w.-]+)==\S+ \\$", (ROOT / "requirements/dev.txt").read_text(), re.M)
    needs = {name: importlib.metadata.metadata(name).get("Requires-Python", "") for name in pinned}
    too_new = {
        name: wanted
        for name, wanted in needs.items()
        if not all(
            SpecifierSet(wanted).contains(oldest) for oldest in ("3.11.2", "3.12.0", "3.13.0", "3.14.0")
        )
    }
    assert pinned
    assert too_new == {}


def test_the_locks_agree_and_name_hashes_and_no_address() -> None:
    locks = {path.stem: path.read_text() for path in (ROOT / "requirements").glob("*.txt")}
    pins = {name: dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.M)) for name, text in locks.items()}
    assert pins["runtime"].items() <= pins["extras"].items() <= pins["dev"].items()
    assert pins["runtime"].items() <= pins["demo"].items() <= pins["dev"].items()
    for text in locks.values():
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "://" not in text


def test_this_python_is_one_that_is_declared() -> None:
    declared = [line for line in project()["project"]["classifiers"] if re.search(r":: 3\.\d+$", line)]
    versions = [line.rpartition(" ")[2] for line in declared]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in versions
