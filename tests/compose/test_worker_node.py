"""A worker's container in the hands of Celery's own test harness, pytest-celery."""

from __future__ import annotations

import docker
import pytest
from pytest_celery import CeleryTestContainer, CeleryTestWorker, CeleryWorkerCluster

from tests.compose.stack import Stack

pytestmark = pytest.mark.timeout(600)


class BridgeWorkerContainer(CeleryTestContainer):
    """One that compose has started: pytest-celery is to build and configure nothing."""

    @classmethod
    def worker_name(cls) -> str:
        """As the harness names nodes."""
        return "celery"

    @classmethod
    def worker_queue(cls) -> str:
        """The queue it consumes."""
        return "default"


@pytest.fixture
def workers(stack: Stack) -> CeleryWorkerCluster:
    stack.wait_healthy()
    client = docker.from_env()
    containers = [client.containers.get(found["Id"]) for found in stack.containers("worker")]
    return CeleryWorkerCluster(
        *[CeleryTestWorker(BridgeWorkerContainer(container), app=None) for container in containers]
    )


def test_a_worker_node_says_that_it_is_ready(workers: CeleryWorkerCluster) -> None:
    for worker in workers:
        worker.assert_log_exists("ready.")


def test_a_worker_node_that_is_terminated_shuts_down_warm_and_comes_back(
    stack: Stack, workers: CeleryWorkerCluster
) -> None:
    before = stack.enqueue(size=5)
    workers[0].kill(signal="SIGTERM")
    workers[0].assert_log_exists("Warm shutdown")
    workers[0].restart()
    stack.wait_healthy()
    stack.wait_ended(before)


def test_a_worker_node_that_is_killed_loses_nothing(stack: Stack, workers: CeleryWorkerCluster) -> None:
    before = stack.enqueue(size=5)
    workers[1].kill(signal="SIGKILL")
    workers[1].restart()
    stack.wait_healthy()
    stack.wait_ended(before)
