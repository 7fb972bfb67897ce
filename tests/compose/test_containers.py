"""What the containers may do, and who gets at them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.compose.stack import SERVICES, Stack

pytestmark = pytest.mark.timeout(400)


def test_all_are_healthy(stack: Stack) -> None:
    stack.wait_healthy()
    assert len(stack.containers()) == len(SERVICES) + 1, "two workers, one of each other"


def test_none_may_do_more_than_it_needs(stack: Stack) -> None:
    for container in stack.containers():
        host = container["HostConfig"]
        assert container["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        # `bridge up` reaps by itself.
        assert host["Init"] is ("-worker-" not in container["Name"])
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0
        assert host["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.parametrize("service", SERVICES)
def test_the_kernel_agrees(stack: Stack, service: str) -> None:
    script = (
        "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /x 2>&1; touch /tmp/x && echo tmp"
    )
    said = stack.compose("exec", "-T", service, "sh", "-c", script)
    assert said.splitlines()[0] == "10001"
    assert re.search(r"CapEff:\s+0+$", said, re.MULTILINE)
    assert re.search(r"NoNewPrivs:\s+1$", said, re.MULTILINE)
    assert "Read-only file system" in said
    assert said.splitlines()[-1] == "tmp"


def test_only_loopback_is_published(stack: Stack) -> None:
    published = {
        binding["HostIp"]
        for container in stack.containers()
        for bindings in container["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    }
    assert published == {"127.0.0.1"}


def test_what_is_not_published_has_no_way_out(stack: Stack) -> None:
    """The engine's packet filter lets nothing in or out of an internal network."""
    for service in ("redis", "sidecar-1", "sidecar-2", "worker"):
        for container in stack.containers(service):
            (network,) = container["NetworkSettings"]["Networks"]
            assert stack.network(network)["Internal"] is True


def test_redis_wants_its_password(stack: Stack) -> None:
    said = stack.compose("exec", "-T", "-e", "REDISCLI_AUTH=", "redis", "redis-cli", "ping")
    assert "NOAUTH" in said
    assert stack.redis("config", "get", "maxmemory-policy").split()[-1] == "noeviction"
    assert stack.redis("config", "get", "appendonly").split()[-1] == "yes"


def test_the_bridge_has_a_user_that_may_do_no_more_than_it_needs(stack: Stack) -> None:
    for service in ("worker", "flower"):
        url = stack.compose("exec", "-T", service, "printenv", "REDIS_URL").strip()
        said = stack.compose(
            "exec", "-T", "-e", "REDISCLI_AUTH=", "redis", "redis-cli", "-u", url, "config", "get", "*"
        )
        assert "NOPERM" in said
    # Nothing that it does do was refused: the log of refusals has only what these tests tried.
    refused = stack.redis("acl", "log")
    assert set(re.findall(r"^object\n(.+)$", refused, re.MULTILINE)) <= {"config|get", "AUTH"}


def test_flower_wants_its_password(stack: Stack) -> None:
    user, password = stack.secret("flower.env", "FLOWER_BASIC_AUTH").split(":")
    for path in ("/", "/api/workers", "/tasks"):
        assert requests.get(stack.flower_url + path, timeout=30).status_code == 401
        assert requests.get(stack.flower_url + path, auth=(user, "wrong"), timeout=30).status_code == 401
        assert requests.get(stack.flower_url + path, auth=(user, password), timeout=30).status_code == 200


def test_flower_does_not_start_open(stack: Stack) -> None:
    said = stack.compose(
        "run", "--rm", "-T", "-e", "FLOWER_BASIC_AUTH=", "flower", "sh", "-c", "flower-start; echo $?"
    )
    assert said.strip() == "78"


def test_flower_sees_two_processes_of_each_worker(stack: Stack) -> None:
    user, password = stack.secret("flower.env", "FLOWER_BASIC_AUTH").split(":")
    reply = requests.get(f"{stack.flower_url}/api/workers?refresh=1", auth=(user, password), timeout=60)
    assert len(reply.json()) == 4


def test_the_web_ui_wants_its_password_and_shows_both_workers(stack: Stack) -> None:
    auth = (stack.secret("web.env", "SIDEKIQ_WEB_USER"), stack.secret("web.env", "SIDEKIQ_WEB_PASSWORD"))
    assert requests.get(f"{stack.web_url}/sidekiq/busy", timeout=30).status_code == 401
    page = requests.get(f"{stack.web_url}/sidekiq/busy", auth=auth, timeout=30)
    assert page.status_code == 200
    for worker in stack.containers("worker"):
        assert worker["Config"]["Hostname"] in page.text


def test_both_workers_can_be_scraped_inside(stack: Stack) -> None:
    hosts = [worker["Config"]["Hostname"] for worker in stack.containers("worker")]
    for url in [f"http://{host}:{port}/metrics" for host in hosts for port in (9394, 9395)]:
        script = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=10).read().decode())"
        assert "# HELP sidekiq_" in stack.compose("exec", "-T", "census", "python", "-c", script)


def test_the_sockets_are_for_the_bridge_alone(stack: Stack) -> None:
    listing = stack.compose(
        "exec", "-T", "worker", "sh", "-c", "stat -c '%a %u %F' /run/bridge /run/bridge/*.sock"
    )
    assert listing.splitlines() == ["750 10001 directory", "660 10001 socket", "660 10001 socket"]
    for service in ("web", "flower", "redis"):
        mounts: list[dict[str, Any]] = stack.containers(service)[0]["Mounts"]
        assert not [mount for mount in mounts if mount["Destination"] == "/run/bridge"]


def test_no_secret_is_in_logs_or_process_lists(stack: Stack) -> None:
    seen = stack.compose("logs", "--no-color")
    for service in SERVICES:
        seen += stack.compose("exec", "-T", service, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    files = Path(os.environ["SECRETS_DIR"]).iterdir()
    secrets = {word for file in files for word in re.findall(r"[0-9a-f]{24,}", file.read_text())}
    assert len(secrets) == 7
    assert not [secret[:6] for secret in secrets if secret in seen]
