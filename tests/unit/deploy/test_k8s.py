"""The rendered manifests: valid, safe, and carrying what the development environment has always had."""

from __future__ import annotations

from functools import cache
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from tests.unit.deploy.house import ENVIRONMENTS, ROOT, parse, settings
from tests.unit.deploy.kustomize import Manifest, render

K8S = ROOT / "k8s"
GROUPS = ("inference", "monitor")
OVERLAYS = sorted(ENVIRONMENTS)


@cache
def rendered(overlay: str) -> dict[tuple[str, str], Manifest]:
    """Manifests by (kind, name), which must be unique."""
    manifests = render(K8S / overlay)
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    assert len(by_name) == len(manifests)
    return by_name


def workload(overlay: str, group: str) -> Manifest:
    """The Deployment, or in production the StatefulSet, of a group."""
    kind = "StatefulSet" if overlay == "production" else "Deployment"
    return rendered(overlay)[kind, f"trading-ml-{group}"]


def container(overlay: str, group: str) -> Manifest:
    only: Manifest
    (only,) = workload(overlay, group)["spec"]["template"]["spec"]["containers"]
    return only


def variables(overlay: str, group: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(overlay, group)["env"]}


def test_dev_has_the_fields_it_has_always_had() -> None:
    deployment = workload("dev", "inference")
    pod = deployment["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    assert deployment["apiVersion"] == "apps/v1"
    assert deployment["kind"] == "Deployment"
    assert deployment["metadata"]["name"] == "trading-ml-inference"
    assert deployment["metadata"]["namespace"] == "trading-dev"
    assert deployment["metadata"]["labels"]["app"] == "trading-ml-inference"
    assert deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["selector"]["matchLabels"] == {"app": "trading-ml-inference"}
    assert deployment["spec"]["template"]["metadata"]["labels"]["app"] == "trading-ml-inference"
    assert only["name"] == "trading-ml-inference"
    assert only["image"] == "gcr.io/development/trading-ml-inference:latest"
    assert [p["containerPort"] for p in only["ports"]] == [8000]
    assert variables("dev", "inference")["CONFIG_PATH"] == "/app/config/dev.yaml"
    assert variables("dev", "inference")["GOOGLE_APPLICATION_CREDENTIALS"] == "/var/secrets/google/key.json"
    mounts = {m["name"]: m["mountPath"] for m in only["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert mounts["google-cloud-key"] == "/var/secrets/google"
    assert volumes["google-cloud-key"]["secret"] == {"secretName": "trading-ml-inference-gcp-key"}
    assert mounts["config-volume"] == "/app/config"
    assert volumes["config-volume"]["configMap"] == {"name": "trading-ml-inference-config"}
    assert only["resources"] == {"requests": {"memory": "4Gi", "cpu": "2"}, "limits": {"memory": "8Gi", "cpu": "4"}}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", ["1.33", kubernetes_validate.latest_version()])
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    for manifest in rendered(overlay).values():
        kubernetes_validate.validate(manifest, version, strict=True)
        assert manifest["metadata"]["namespace"] == ENVIRONMENTS[overlay]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_config_map_is_the_folder_of_settings(overlay: str) -> None:
    files = {path.name: path.read_text() for path in (ROOT / "config").glob("*.yaml")}
    assert rendered(overlay)["ConfigMap", "trading-ml-inference-config"]["data"] == files


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("group", GROUPS)
def test_settings_and_command_exist(overlay: str, group: str) -> None:
    parse(container(overlay, group)["args"])
    env = variables(overlay, group)
    assert env["CONFIG_PATH"] == f"/app/config/{overlay}.yaml"
    effective = settings(env["CONFIG_PATH"], env)
    assert effective.web.host == "0.0.0.0"  # noqa: S104 - in a pod, the kubelet and Prometheus come from outside
    assert effective.web.port == container(overlay, group)["ports"][0]["containerPort"]
    grace_s = workload(overlay, group)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s >= effective.inference.drain_deadline.total_seconds() + 10
    mounted = [m["mountPath"] for m in container(overlay, group)["volumeMounts"] if not m.get("readOnly")]
    assert any(effective.storage.state_dir.is_relative_to(path) for path in mounted)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("group", GROUPS)
def test_a_pod_has_no_rights_it_does_not_need(overlay: str, group: str) -> None:
    pod = workload(overlay, group)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert rendered(overlay)["ServiceAccount", pod["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(overlay, group)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "/tmp" in [m["mountPath"] for m in container(overlay, group)["volumeMounts"]]  # noqa: S108 - the pod's, an emptyDir


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_mount_has_its_volume_and_every_volume_its_mount(overlay: str, group: str) -> None:
    spec = workload(overlay, group)["spec"]
    volumes = [v["name"] for v in spec["template"]["spec"]["volumes"]]
    volumes += [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
    assert sorted(volumes) == sorted(m["name"] for m in container(overlay, group)["volumeMounts"])


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("group", GROUPS)
def test_selectors_and_ports_meet(overlay: str, group: str) -> None:
    name = f"trading-ml-{group}"
    template = workload(overlay, group)["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    service = rendered(overlay)["Service", name]["spec"]
    assert service["selector"].items() <= labels
    assert rendered(overlay)["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"].items() <= labels
    assert rendered(overlay)["NetworkPolicy", "trading-ml"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    named = {p["name"]: p["containerPort"] for p in container(overlay, group)["ports"]}
    assert [named[p["targetPort"]] for p in service["ports"]] == [8000]
    probes = {kind: container(overlay, group)[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    assert all(probe["port"] in named for probe in probes.values())
    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8000",
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_lets_through_what_the_settings_name(overlay: str) -> None:
    policy = rendered(overlay)["NetworkPolicy", "trading-ml"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    anywhere = [port for rule in policy["egress"] if "to" not in rule for port in rule["ports"]]
    effective = settings(f"{overlay}.yaml", {})
    needed = [int(server.rpartition(":")[2]) for server in effective.kafka.bootstrap_servers.split(",")]
    needed.append(urlsplit(effective.mlflow.tracking_uri).port or 443)
    for port in needed:
        assert any(p["port"] <= port <= p.get("endPort", p["port"]) for p in anywhere), port
    open_in = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert open_in == [8000]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_pinned(overlay: str) -> None:
    tags = {container(overlay, group)["image"].rpartition(":")[2] for group in GROUPS}
    assert tags == ({"latest"} if overlay == "dev" else {"0.1.0"})


@pytest.mark.parametrize("group", GROUPS)
def test_production_keeps_state_and_has_no_key_file(group: str) -> None:
    spec = workload("production", group)["spec"]
    assert spec["serviceName"] == f"trading-ml-{group}"
    assert rendered("production")["Service", spec["serviceName"]]["spec"]["clusterIP"] == "None"
    assert [claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]] == ["state"]
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in variables("production", group)
    account = rendered("production")["ServiceAccount", f"trading-ml-{group}"]
    assert "iam.gke.io/gcp-service-account" in account["metadata"]["annotations"]
