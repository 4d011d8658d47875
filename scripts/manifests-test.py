"""Checks docs/kubernetes/ and compose.yaml, with the packages that scripts/manifests-test.sh installs."""

import pathlib
import re

import kubernetes_validate
import yaml

readme = pathlib.Path("README.md").read_text()
settings = set(re.findall(r"^\|(?: `--[a-z-]+` \|)? `(KEYMARK_[A-Z_]+)` \|", readme, re.MULTILINE))

# Manifests: those of Kubernetes itself against its schemas.
objects = []
for path in sorted(pathlib.Path("docs/kubernetes").glob("*.yaml")):
    for manifest in yaml.safe_load_all(path.read_text()):
        objects.append(manifest)
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def one(kind, name="keymark"):
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


# What they name in each other is there.
pod = one("Deployment")["spec"]["template"]
(container,) = pod["spec"]["containers"]
ports = {port["name"] for port in container["ports"]}
labels = pod["metadata"]["labels"].items()
for kind, selector in [
    ("Deployment", one("Deployment")["spec"]["selector"]["matchLabels"]),
    ("PodDisruptionBudget", one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]),
    ("NetworkPolicy", one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]),
    *[(o["metadata"]["name"], o["spec"]["selector"]) for o in objects if o["kind"] == "Service"],
]:
    assert selector.items() <= labels, f"{kind} selects {selector}"
for rule in one("NetworkPolicy")["spec"]["ingress"]:
    assert rule["from"] and {port["port"] for port in rule["ports"]} <= ports, rule
for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
    assert container[probe]["httpGet"]["port"] in ports, probe
secret = set(one("Secret")["stringData"])
variables = {variable["name"]: variable["value"] for variable in container["env"]}
assert container["envFrom"] == [{"secretRef": {"name": "keymark"}}]
assert secret | set(variables) <= settings, (secret | set(variables)) - settings
assert not secret & set(variables)
delay = int(variables["KEYMARK_DRAIN_DELAY"].removesuffix("s"))
assert delay + 10 < pod["spec"]["terminationGracePeriodSeconds"], "the drain takes up to 10 s"

# A definition of the Prometheus operator, whose schema Kubernetes does not have.
monitor = one("ServiceMonitor")
assert monitor["apiVersion"] == "monitoring.coreos.com/v1" and set(monitor["spec"]) == {"selector", "endpoints"}
service = one("Service", "keymark-verification")
assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
(endpoint,) = monitor["spec"]["endpoints"]
assert set(endpoint) == {"port", "path", "interval", "authorization"} and endpoint["path"] == "/metrics"
assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
assert endpoint["authorization"]["credentials"]["name"] == "keymark"
assert endpoint["authorization"]["credentials"]["key"] in secret

# compose.yaml: its services, volumes and settings exist.
compose = yaml.safe_load(pathlib.Path("compose.yaml").read_text())
services = compose["services"]
for name, service in services.items():
    assert service.get("profiles", []) == ([] if name == "keymark" else ["mongodb"]), name
    assert set(service.get("depends_on", {})) <= set(services), name
    for variable in service.get("environment", {}):
        assert variable in settings, f"{name}: {variable}"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert source in compose["volumes"] or pathlib.Path(source).exists(), f"{name}: {source}"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{name}: {port}"
assert set(re.findall(r"server ([a-z0-9-]+):", pathlib.Path("docs/compose/nginx.conf").read_text())) <= set(services)
print(f"manifests ok: {len(objects)} objects, {len(services)} services")
