"""The desired state for compose: every instance a service of its own name, in networks that only gateways lead out of.

Secrets and keys are files of one directory (`weft export secrets`), mounted one by one into who reads them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deploy.ship.workload import IP, NAME, SECRETS, USER, Certificate, Stage, Volume, Workload
from weft_protos import identity

TAG: Final = "${TAG:-dev}"
FOLDER: Final = "${SECRETS:-./secrets}"
RULES: Final = "../k8s/base/servers/rules"
INSIDE, OUTSIDE = "mesh", "outside"
PAGES: Final = ("jaeger", "prometheus", "alertmanager", "mail")
"""Whose pages are shown on this machine, and on no other address of it."""
OWNED: Final = "volumes"
"""The service that gives the volumes to the user of all containers."""


def build(workloads: Sequence[Workload]) -> Mapping[str, Any]:
    """The compose file."""
    by_name = {one.name: one for one in workloads}
    services: dict[str, Any] = {OWNED: _owner(workloads)}
    for one in workloads:
        for number, name in enumerate(_instances(one), 1):
            services[name] = _service(one, name, number, by_name)
    return {
        "name": "weft",
        "services": services,
        "networks": {INSIDE: {"internal": True}, OUTSIDE: {}},
        "volumes": {name: {} for name, _ in _volumes(workloads)},
        "secrets": {name: {"file": f"{FOLDER}/{name}"} for name in sorted({*_secret_names(workloads)})},
        "configs": {
            _config(one, path): {"file": f"./{one.name}/{_leaf(path)}"} for one in workloads for path in one.files
        },
    }


def files(workloads: Sequence[Workload]) -> Mapping[str, str]:
    """Configuration that the compose file names, by its path beside it."""
    return {f"{one.name}/{_leaf(path)}": text for one in workloads for path, text in one.files.items()}


def _service(one: Workload, name: str, number: int, by_name: Mapping[str, Workload]) -> Mapping[str, Any]:
    said: dict[str, Any] = {"image": f"{one.image}:{TAG}" if one.image.ours else str(one.image)}
    if one.image.ours:
        said["build"] = {"context": "../..", "dockerfile": f"deploy/images/{one.image}.Dockerfile"}
    said |= {"hostname": name, **_hardened()}
    if one.command:
        said["entrypoint"] = [_filled(word, name) for word in one.command]
        said["command"] = [_filled(word, name) for word in one.arguments]
    elif one.arguments:
        said["command"] = [_filled(word, name) for word in one.arguments]
    if one.environ:
        said["environment"] = {key: _own(key, _filled(value, name)) for key, value in sorted(one.environ.items())}
    said |= _mounts(one, name, number)
    said["networks"] = [INSIDE, *([OUTSIDE] if one.open_to_clients or one.name in PAGES else [])]
    if published := list(_published(one, number)):
        said["ports"] = published
    if one.check:
        command = [_filled(word, name) for word in one.check]
        said["healthcheck"] = {
            "test": ["CMD", *command],
            "interval": "10s",
            "timeout": "5s",
            "retries": 6,
            "start_period": "120s",
            "start_interval": "2s",
        }
    if needs := _needs(one, by_name):
        said["depends_on"] = needs
    said["stop_grace_period"] = f"{one.grace_s}s"
    said["restart"] = "on-failure" if one.stage else "unless-stopped"
    said["mem_limit"] = f"{one.memory_mb}m"
    if one.stage is Stage.EXPAND:
        # `migrate` does it all where nothing runs yet; by itself it is the first step of an upgrade.
        said["profiles"] = ["upgrade"]
    return said


def _hardened() -> Mapping[str, Any]:
    return {
        "user": f"{USER}:{USER}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _mounts(one: Workload, name: str, number: int) -> Mapping[str, Any]:
    said: dict[str, Any] = {}
    lost = sorted({"/tmp"} | {volume.path for volume in one.volumes if not volume.gigabytes})
    said["tmpfs"] = [f"{path}:uid={USER},gid={USER},mode=0700" for path in lost]
    volumes = [f"{_volume(one, volume, name)}:{volume.path}" for volume in one.volumes if volume.gigabytes]
    if one.name == "prometheus":
        volumes.append(f"{RULES}:/etc/prometheus/rules:ro")
    if volumes:
        said["volumes"] = volumes
    secrets = [{"source": secret, "target": f"{SECRETS}/{secret}"} for secret in one.secrets]
    for pair in one.certificates:
        secrets += [
            {"source": _file(pair, file), "target": f"{pair.path}/{place}"} for file, place in pair.files.items()
        ]
    if secrets:
        said["secrets"] = secrets
    if one.files:
        said["configs"] = [{"source": _config(one, path), "target": path} for path in one.files]
    return said


def _owner(workloads: Sequence[Workload]) -> Mapping[str, Any]:
    mounts = {name: f"/volumes/{name}" for name, _ in _volumes(workloads)}
    return {
        "image": f"weft:{TAG}",
        "build": {"context": "../..", "dockerfile": "deploy/images/weft.Dockerfile"},
        **_hardened(),
        # A new volume is root's, and nobody else is root.
        "user": "0:0",
        "cap_add": ["CHOWN"],
        "entrypoint": ["chown", f"{USER}:{USER}", *mounts.values()],
        "volumes": [f"{name}:{path}" for name, path in mounts.items()],
        "network_mode": "none",
        "restart": "on-failure",
    }


def _needs(one: Workload, by_name: Mapping[str, Workload]) -> Mapping[str, Any]:
    needs = {OWNED: {"condition": "service_completed_successfully"}} if _keeps(one) else {}
    for name in one.after:
        other = by_name[name]
        ready = "service_healthy" if other.check else "service_started"
        condition = "service_completed_successfully" if other.stage else ready
        needs |= {instance: {"condition": condition} for instance in _instances(other)}
    return needs


def _published(one: Workload, number: int) -> Iterator[str]:
    for port in one.open_to_clients:
        # Instances share no port here; whatever balances before them names all of theirs.
        yield f"{one.ports[port] + number - 1}:{one.ports[port]}"
    if one.name in PAGES:
        yield f"127.0.0.1:{one.ports['http']}:{one.ports['http']}"


def _instances(one: Workload) -> tuple[str, ...]:
    return (one.name,) if one.stage else one.names()


def _keeps(one: Workload) -> bool:
    return any(volume.gigabytes for volume in one.volumes)


def _volumes(workloads: Sequence[Workload]) -> list[tuple[str, Volume]]:
    found = {
        _volume(one, volume, name): volume
        for one in workloads
        for name in _instances(one)
        for volume in one.volumes
        if volume.gigabytes
    }
    return sorted(found.items(), key=lambda item: item[0])


def _volume(one: Workload, volume: Volume, name: str) -> str:
    return volume.name if volume.shared else f"{name}-{volume.name}"


def _secret_names(workloads: Sequence[Workload]) -> Iterator[str]:
    for one in workloads:
        yield from one.secrets
        for pair in one.certificates:
            yield from (_file(pair, file) for file in pair.files)


def _file(pair: Certificate, file: str) -> str:
    """What a file of a pair is called in the directory of secrets."""
    return f"{pair.authority}.crt" if file == identity.AUTHORITY else file.replace("tls", pair.name)


def _config(one: Workload, path: str) -> str:
    return f"{one.name}-{_leaf(path).replace('.', '-').replace('_', '-')}"


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]


def _own(key: str, value: str) -> str:
    """A variable's value; the name that clients ask for is the one thing a user changes here."""
    return f"${{EDGE_NAME:-{value}}}" if key == "EDGE_NAME" else value


def _filled(word: str, name: str) -> str:
    """With the instance's own name in place, and what is the shell's left to it."""
    return word.replace(NAME, name).replace(IP, name).replace("$", "$$")
