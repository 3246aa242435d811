"""The verb `weft lane promote`: the version of a lane becomes the stable one. Registered by app.py.

Stable instances run the code of the clone that the mesh was started from, and go on to do so after the next `weft up`.
So a lane is promoted by bringing its code there first, which is for git to do, and then by this: every stable instance
makes place for a new process, one after another, while the lane serves on; then the lane ends.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from deploy.cli import rolling
from deploy.cli.exits import Json
from deploy.cli.lane import Name, find
from deploy.supervisor.config import PROJECT, Settings
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh

#: What an instance runs, below a clone.
CODE: Final = ("svc", "lb", "protos/gen", "protos/py", "pyproject.toml", "uv.lock")
_SKIPPED: Final = frozenset({".pyc"})


def promote(name: Name, json_: Json = False) -> None:
    """Make the version of a lane the stable one: roll its services to it, and end the lane.

    The code of the lane has to lie in the clone of the mesh already (such as by `git merge`); what differs is said, and
    nothing is begun. A lane that differs by --env has nothing to bring: settings of the stable instances are those of
    the mesh. On Ctrl-C the instance at hand is finished, and the lane stays.

    Example: git merge next && weft lane promote canary
    """
    mesh = Mesh(Settings.from_environ().data)
    lane = find(name)
    status = mesh.status()
    check(lane, clone_of(status.supervisor))
    services = lane["services"]
    instances = {service: rolling.instances(status, service) for service in services}
    targets: list[dict[str, Any]] = []

    @contextmanager
    def step(part: str, what: str) -> Iterator[dict[str, Any]]:
        target: dict[str, Any] = {"name": part, "what": what}
        began = time.monotonic()
        yield target
        target["seconds"] = round(time.monotonic() - began, 3)
        targets.append(target)
        print(f"{part:<22} {what}, {target['seconds']:.1f} s", file=sys.stderr if json_ else sys.stdout, flush=True)

    for service in services:
        rolling.roll(mesh, service, instances[service], step=step)
    stopped = mesh.end_lane(name).stopped
    if json_:
        print(json.dumps({"name": name, "services": services, "targets": targets, "stopped": list(stopped)}))
    else:
        print(f"{name} is the stable version of {', '.join(services)} now; stopped {', '.join(stopped) or 'nothing'}")


def check(lane: Mapping[str, Any], clone: Path) -> None:
    """Raises RefusedError where the stable instances would not become what the lane is."""
    name = lane["name"]
    if lane["reason"]:
        raise RefusedError(f"{name} was rolled back: {lane['reason']}; end it, and start a better one")
    if lane["env"]:
        differ = ", ".join(sorted(lane["env"]))
        raise RefusedError(f"{name} differs by its environment ({differ}), which stable instances do not have; end it")
    if not lane["checkout"]:
        return
    other = Path(lane["checkout"])
    if not other.is_dir():
        raise RefusedError(f"{other}, whose code {name} runs, is not there any more")
    here, there = code(clone), code(other)
    differing = sorted(path for path in {*here, *there} if here.get(path) != there.get(path))
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        verb = "differs" if len(differing) == 1 else "differ"
        raise RefusedError(
            f"the code of {name} is not here yet: {shown} {verb} from {other}; bring it to {clone} first"
        )


def clone_of(supervisor: int) -> Path:
    """The clone that stable instances run from: that of the supervisor, which need not be the one this runs from."""
    try:
        return Path(f"/proc/{supervisor}/cwd").readlink()
    except OSError:
        return PROJECT


def code(clone: Path) -> dict[str, str]:
    """A digest of every file that an instance runs from a clone, by its path below it."""
    found = {}
    for top in CODE:
        place = clone / top
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and path.suffix not in _SKIPPED:
                found[path.relative_to(clone).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
