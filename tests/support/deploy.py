"""Checks deploy/ without a container, a cluster or an init system: python3 deploy.py REPOSITORY

Prints the faults, one per line. With --rendered FILE it checks that file of Kubernetes resources. With
the module kubernetes_validate (tests/run installs it into a virtual environment) resources are also
validated against their schemas.
"""

import re
import sys
from pathlib import Path

import yaml

KUBERNETES = "1.32"
# REVWATCH_DATA of the image. Commands write there: the progress of a backfill.
DATA = "/var/lib/revwatch"
faults = []


def fault(where, what):
    faults.append(f"{where}: {what}")


def documented(root):
    """Every variable that revwatch reads, and NAME_FILE for each NAME."""
    names = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", (root / "deploy/revwatch.toml").read_text()))
    return names | {name + "_FILE" for name in names}


def check_variables(where, names, known):
    for name in names:
        if name not in known:
            fault(where, f"{name} is not a setting of deploy/revwatch.toml")


def check_dockerfile(root):
    lines = (root / "deploy/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    ignored = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    if ignored[0] != "*":
        fault(".dockerignore", "must begin by excluding everything")
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    user = None
    for line in lines:
        words = line.split()
        if not words:
            continue
        if words[0] == "FROM":
            user = None
            if ":" not in words[1]:
                fault("Dockerfile", f"{words[1]} has no tag")
        elif words[0] == "USER":
            user = words[1]
        elif words[0] == "COPY" and not any(word.startswith("--from=") for word in words):
            for source in words[1:-1]:
                if not (root / source).exists():
                    fault("Dockerfile", f"copies {source}, which does not exist")
                if not any(source == name or source.startswith(name + "/") for name in let_in):
                    fault(".dockerignore", f"excludes {source}, which the Dockerfile copies")
    if not user or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user):
        fault("Dockerfile", f"its last stage must run as a numeric user id other than root, not {user}")
    set_here = re.findall(r"\b(?:REVWATCH|STRIPE|SLACK)_[A-Z_]+(?==)", "\n".join(lines))
    check_variables("Dockerfile", set_here, documented(root))


def check_compose(root):
    where = root / "deploy/compose/compose.yml"
    compose = yaml.safe_load(where.read_text())
    known = documented(root)
    for name, service in compose["services"].items():
        ours = "build" in service
        place = f"compose: {name}"
        image = re.sub(r"\$\{[A-Z_]+:-(.*)\}", r"\1", service["image"])
        if not re.search(r":[\w.-]*\d", image):
            fault(place, f"image {image} has no version tag")
        if "healthcheck" not in service or "restart" not in service:
            fault(place, "has no healthcheck or no restart policy")
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            fault(place, "has more privileges than it needs")
        if ours:
            check_variables(place, service.get("environment", {}), known)
            if not service.get("read_only"):
                fault(place, "can write to its own image")
            folders = [mounted.split(":")[1] for mounted in service.get("volumes", [])]
            if "REVWATCH_REDIS_URL_FILE" in service.get("environment", {}) and DATA not in folders:
                fault(place, f"has no writable {DATA}, which commands need")
        for mounted in service.get("volumes", []):
            source = mounted.split(":")[0]
            if source.startswith("."):
                if not (where.parent / source).exists():
                    fault(place, f"mounts {source}, which does not exist")
            elif source not in compose["volumes"]:
                fault(place, f"mounts {source}, which is not declared")
        given = {s if isinstance(s, str) else s["source"] for s in service.get("secrets", [])}
        for secret in given - set(compose["secrets"]):
            fault(place, f"secret {secret} is not declared")
        for variable, value in service.get("environment", {}).items():
            if str(value).startswith("/run/secrets/") and str(value).rsplit("/", 1)[1] not in given:
                fault(place, f"{variable} names a secret that it is not given")
        for port in service.get("ports", []):
            if not re.match(r"(\$\{REVWATCH_PUBLISH:-)?127\.0\.0\.1:", port):
                fault(place, f"publishes {port} on all interfaces by default")
        for other, how in (service.get("depends_on") or {}).items():
            if how["condition"] == "service_healthy" and "healthcheck" not in compose["services"][other]:
                fault(place, f"waits for {other}, which has no healthcheck")
    used = {s if isinstance(s, str) else s["source"] for v in compose["services"].values() for s in v.get("secrets", [])}
    for secret in set(compose["secrets"]) - used:
        fault("compose", f"secret {secret} is not used")
    page = (root / "deploy/README.md").read_text()
    for secret, how in compose["secrets"].items():
        if how["file"] != f"./secrets/{secret}" or f"secrets/{secret}" not in page:
            fault("compose", f"deploy/README.md does not explain how to create the secret {secret}")


def check_resources(where, resources, known):
    try:
        import kubernetes_validate
    except ImportError:
        kubernetes_validate = None
    for resource in resources:
        place = f"{where}: {resource['kind']} {resource['metadata']['name']}"
        if kubernetes_validate and resource["apiVersion"] != "monitoring.coreos.com/v1":
            try:
                kubernetes_validate.validate(resource, KUBERNETES, strict=True)
            except Exception as error:  # of several kinds, all of which say what is wrong
                fault(place, str(error).splitlines()[0])
        if resource["kind"] != "Deployment" or "selector" not in resource["spec"]:
            continue
        pod = resource["spec"]["template"]["spec"]
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            fault(place, "is not restricted")
        if pod.get("automountServiceAccountToken") is not False:
            fault(place, "gets a token that it does not need")
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            check_variables(place, [entry["name"] for entry in container.get("env", [])], known)
            context = container.get("securityContext", {})
            limited = context.get("capabilities") == {"drop": ["ALL"]} and context.get("readOnlyRootFilesystem")
            if context.get("allowPrivilegeEscalation") is not False or not limited:
                fault(place, "has more privileges than it needs")
            for probe, path in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz"), ("startupProbe", "/healthz")]:
                if container[probe]["httpGet"] != {"path": path, "port": "admin"}:
                    fault(place, f"its {probe} must request {path}")
            if not {"requests", "limits"} <= set(container["resources"]):
                fault(place, "has no resource requests and limits")
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            names = [entry["name"] for entry in container.get("env", [])]
            if "REVWATCH_REDIS_URL_FILE" in names and DATA not in mounted:
                fault(place, f"has no writable {DATA}, which commands need")
            for name in set(mounted.values()) - volumes:
                fault(place, f"mounts {name}, which does not exist")
            for entry in container.get("env", []):
                folder = str(Path(entry.get("value", "")).parent)
                if entry["name"].endswith("_FILE") and folder not in mounted:
                    fault(place, f"{entry['name']} names a file where nothing is mounted")
            if not re.search(r":[\w.-]*\d", container["image"]):
                fault(place, f"image {container['image']} has no version tag")


def check_kubernetes(root):
    known = documented(root)
    folder = root / "deploy/kubernetes"
    named = set()
    for place in folder.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(place.read_text())
        generators = kustomization.get("configMapGenerator", []) + kustomization.get("secretGenerator", [])
        files = [file.split("=")[-1] for generator in generators for file in generator.get("files", [])]
        patches = [patch["path"] for patch in kustomization.get("patches", [])]
        for name in kustomization.get("resources", []) + kustomization.get("components", []) + files + patches:
            if not (place.parent / name).exists():
                fault(place.relative_to(root), f"names {name}, which does not exist")
            named.add((place.parent / name).resolve())
    for place in folder.rglob("*.yaml"):
        resources = list(yaml.safe_load_all(place.read_text()))
        if place.name == "kustomization.yaml" or place.parent == folder:
            continue
        where = place.relative_to(root)
        if place.resolve() not in named:
            fault(where, "is not named by any kustomization")
        if "overlays" not in place.parts:
            check_resources(where, resources, known)


def check_ingest(root):
    """Ingest receives webhooks while Redis is down: it has no Redis settings and does not wait for Redis."""
    unit = (root / "deploy/systemd/revwatch-ingest.service").read_text()
    compose = yaml.safe_load((root / "deploy/compose/compose.yml").read_text())["services"]
    pod = (root / "deploy/kubernetes/base/ingest.yaml").read_text()
    for where, text in [("systemd", unit), ("compose", str(compose["ingest"])), ("kubernetes", pod)]:
        if re.search(r"redis_url|revwatch-redis|'redis'", text, re.IGNORECASE):
            fault(f"{where}: ingest", "has settings of Redis")
    if set(compose["ingest"]["networks"]) & set(compose["redis"]["networks"]):
        fault("compose: ingest", "shares a network with Redis")
    ingest = {"app.kubernetes.io/name": "revwatch", "app.kubernetes.io/component": "ingest"}
    for policy in yaml.safe_load_all((root / "deploy/kubernetes/base/network-policies.yaml").read_text()):
        selector = policy["spec"]["podSelector"]
        labelled = all(ingest.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        listed = all(ingest.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", []))
        ports = [port["port"] for way in policy["spec"].get("egress", []) for port in way.get("ports", [])]
        if labelled and listed and 6379 in ports:
            fault(f"kubernetes: policy {policy['metadata']['name']}", "allows ingest to connect to Redis")


def check_units(root):
    known = documented(root)
    for place in (root / "deploy/systemd").glob("*.service"):
        lines = place.read_text().splitlines()
        variables = [line.split("=", 2)[1] for line in lines if line.startswith("Environment=")]
        check_variables(f"systemd: {place.name}", variables, known)
        for wanted in ["User=revwatch", "Restart=always", "ExecReload=/bin/kill -HUP $MAINPID"]:
            if wanted not in lines:
                fault(f"systemd: {place.name}", f"has no {wanted}")


def main():
    root = Path(sys.argv[1])
    if "--rendered" in sys.argv:
        text = Path(sys.argv[sys.argv.index("--rendered") + 1]).read_text()
        check_resources("rendered", list(yaml.safe_load_all(text)), documented(root))
    else:
        check_dockerfile(root)
        check_compose(root)
        check_kubernetes(root)
        check_units(root)
        check_ingest(root)
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


main()
