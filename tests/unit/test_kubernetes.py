"""deploy/kubernetes: valid for several versions, locked down, and of one piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy/kubernetes"


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


PLAIN = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifest(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.29", "1.33", kubernetes_validate.latest_version()])
def test_every_manifest_is_valid(path: Path, version: str) -> None:
    kubernetes_validate.validate(manifest(path), version, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = manifest(KUBERNETES / "deployment.yaml")
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 90
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_kustomize_takes_every_manifest() -> None:
    assert sorted(manifest(KUBERNETES / "kustomization.yaml")["resources"]) == [path.name for path in PLAIN]


def test_the_sidecar_is_a_native_one_that_shares_a_socket_with_the_worker() -> None:
    (sidecar,), (worker,) = pod()["initContainers"], pod()["containers"]
    # Started before the worker and stopped after it, by Kubernetes itself.
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" in sidecar
    assert env_of(sidecar)["BRIDGE_SIDECAR_BIND"] == env_of(worker)["BRIDGE_SIDECAR_URL"]
    assert sidecar["volumeMounts"] == worker["volumeMounts"]
    assert {"readinessProbe", "livenessProbe", "startupProbe"} <= worker.keys()


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a read-only root beyond it.
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod()["initContainers"], *pod()["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_selectors_mean_the_pods() -> None:
    labels = manifest(KUBERNETES / "deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest(KUBERNETES / "deployment.yaml")["spec"]["selector"]["matchLabels"],
        manifest(KUBERNETES / "poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"],
        manifest(KUBERNETES / "networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"],
        manifest(KUBERNETES / "optional/podmonitor.yaml")["spec"]["selector"]["matchLabels"],
    ]
    assert [selector for selector in selectors if not selector.items() <= labels.items()] == []


def test_the_ports_are_those_of_worker_and_sidecar() -> None:
    (sidecar,), (worker,) = pod()["initContainers"], pod()["containers"]
    assert env_of(worker)["BRIDGE_HEALTH_BIND"].endswith(f":{worker['ports'][0]['containerPort']}")
    assert env_of(sidecar)["BRIDGE_SIDECAR_METRICS_BIND"].endswith(f":{sidecar['ports'][0]['containerPort']}")
    names = {worker["ports"][0]["name"], sidecar["ports"][0]["name"]}
    monitor = manifest(KUBERNETES / "optional/podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert {endpoint["port"] for endpoint in monitor} == names


def strict(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    properties = {**required, **optional}
    return {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }


NUMBER, TEXT = {"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}

#: The fields of KEDA's ScaledObject (its CRD, v2) that the example uses.
SCALED_OBJECT = strict(
    {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": strict({"name": TEXT}),
        "spec": strict(
            {
                "scaleTargetRef": strict({"name": TEXT}),
                "minReplicaCount": NUMBER,
                "maxReplicaCount": NUMBER,
                "pollingInterval": NUMBER,
                "cooldownPeriod": NUMBER,
                "triggers": {
                    "type": "array",
                    "items": strict(
                        {
                            "type": {"const": "prometheus"},
                            "metricType": {"enum": ["AverageValue", "Value"]},
                            "metadata": strict({"serverAddress": TEXT, "query": TEXT, "threshold": TEXT}),
                        }
                    ),
                },
            },
            advanced=strict({}, horizontalPodAutoscalerConfig=strict({"behavior": {"type": "object"}})),
        ),
    }
)


def test_the_scaled_object_is_one_that_keda_takes_and_means_the_deployment() -> None:
    scaled = manifest(KUBERNETES / "optional/scaledobject.yaml")
    Draft202012Validator(SCALED_OBJECT).validate(scaled)
    deployment = manifest(KUBERNETES / "deployment.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "bridge_queue_latency_seconds" in scaled["spec"]["triggers"][0]["metadata"]["query"]
    # What it writes into the autoscaler is Kubernetes' own, and can be checked as such.
    behavior = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x"},
        "spec": {
            "maxReplicas": 10,
            "behavior": behavior,
            "scaleTargetRef": {"kind": "Deployment", "name": "x", "apiVersion": "apps/v1"},
        },
    }
    kubernetes_validate.validate(autoscaler, kubernetes_validate.latest_version(), strict=True)
