"""The verb `weft dev`: a mesh that follows every save. Registered by app.py.

What is saved is looked at before anything is touched: code must compile, contracts must keep every rule. Then one
process after another makes place for a new one, as `weft restart` does it, and where the first one does not come up the
others go on with the code they have. So whatever is saved, what answered before goes on answering.
"""

import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import watchfiles

from deploy.cli import contracts, exits, saves, sources
from deploy.cli import mesh as running
from deploy.cli.saves import Parts
from deploy.cli.scaffold import files
from deploy.cli.sources import CommandFailedError, python
from deploy.supervisor.config import PROJECT, Settings
from deploy.supervisor.errors import NotRunningError, RefusedError
from deploy.supervisor.mesh import Mesh
from weft_protos import manifests, mesh_parts
from weft_protos.manifests import ManifestError

#: Editors write a file in several steps within milliseconds.
DEBOUNCE_MS, STEP_MS = 200, 20
#: How long nothing is saved before that is said; a save is told at once.
QUIET_MS: Final = 500
LOOK_S: Final = 0.1
LINES: Final = 12
SUFFIXES: Final = frozenset({".py", ".proto", ".toml", ".lua"})


def dev() -> None:
    """Follow every save: new code in its instances, new contracts at the gateways, new migrations in the databases.

    Starts the mesh where none runs, and stops it again on Ctrl-C. What cannot work is shown with its file and line, and
    the mesh goes on with what it has. A new service or another size of one is there after the next `weft up`.

    Example: weft dev
    """
    settings = Settings.from_environ()
    mesh = Mesh(settings.data, settings=settings)
    with _up(mesh):
        following = Following(mesh)
        for number, changed in enumerate(watched()):
            if number == 0:
                print(f"watching {', '.join(saves.WATCHED)}; Ctrl-C ends it", flush=True)
            if changed:
                following.follow(changed)


def watched() -> Iterator[set[str]]:
    """What was saved since the last time, nothing where nothing was: then, too, all folders are being watched."""
    for changes in watchfiles.watch(
        *(PROJECT / folder for folder in saves.WATCHED),
        watch_filter=_matters,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=QUIET_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        yield {Path(path).relative_to(PROJECT).as_posix() for _, path in changes}


@contextmanager
def _up(mesh: Mesh) -> Iterator[None]:
    ours = not mesh.running()
    running.up()
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        if ours:
            print("stopping the mesh, which was not running before", flush=True)
            mesh.stop()


def _matters(_change: watchfiles.Change, path: str) -> bool:
    found = Path(path)
    return found.suffix in SUFFIXES and not found.name.startswith(".") and "__pycache__" not in found.parts


@dataclass(slots=True)
class Following:
    """Does what saves mean. What did not work is tried again with the next save, for it is still what the files say."""

    mesh: Mesh
    pending: frozenset[str] = frozenset()
    """Saves that the mesh has not followed yet."""

    def follow(self, changed: Collection[str]) -> bool:
        """Bring the mesh to what was saved; whether all of it works."""
        if not parts().meaning(changed):
            return True
        began, saved = time.monotonic(), sorted({*changed, *self.pending})
        self.pending = frozenset(saved)
        shown = ", ".join(saved[:3]) + (f" and {len(saved) - 3} more" if len(saved) > 3 else "")
        print(f"{time.strftime('%H:%M:%S')}  {shown}", flush=True)
        try:
            if faults := code_faults(PROJECT, saved):
                raise CommandFailedError(faults, 1)
            self._do(saved)
        except CommandFailedError as error:
            _complain(error.lines)
        except files.ToolFailedError as error:
            _complain([*error.lines, str(error)])
        except RefusedError as error:
            _complain([str(error)])
        else:
            self.pending = frozenset()
            print(f"          done after {time.monotonic() - began:.1f} s", flush=True)
            return True
        return False

    def _do(self, saved: Collection[str]) -> None:
        status = self.mesh.status()
        found = parts({*status.sizes, *(process.service for process in status.processes)})
        meaning = found.meaning(saved)
        with sources.folder() as folder:
            built = sources.built(folder, None) if meaning.contracts or meaning.compiler else None
            if built is not None and meaning.contracts:
                _check(built)
                files.generate(PROJECT)
                print("          generated", flush=True)
            publishing = self.mesh.publishing()
            for database in sorted(meaning.migrate):
                own = any(one.name == database for one in mesh_parts.SERVICES)
                arguments = (f"svc.{database}", "migrate") if own else ("worker", "migrate", database)
                python(*arguments, environ=publishing.environ)
                print(f"          migrated {database}", flush=True)
            for name in sorted(meaning.restart):
                self._renew(name)
            if built is not None:
                # Last: services that know a new method before the gateways do refuse nobody.
                if found.waiting:
                    # Whoever asks for what nobody serves yet is to hear that there is no such thing, as before.
                    built = sources.built(folder, None, without=found.waiting)
                done = contracts.send(publishing, built, folder)
                what = "published" if done["changed"] else "nothing new for the gateways:"
                print(f"          {what} {done['manifest'][:12]}", flush=True)
        if meaning.manifests:
            what = "a manifest, or a service that the mesh does not have"
            print(f"          {what}: `weft down`, then `weft up`, to have it follow", flush=True)

    def _renew(self, service: str) -> None:
        """A new process for each instance. Raises RefusedError at the first that does not come up."""
        for name in [process.name for process in self.mesh.status().processes if process.service == service]:
            began = time.monotonic()
            self._restart(name)
            print(f"          {name} renewed after {time.monotonic() - began:.1f} s", flush=True)

    def _restart(self, name: str) -> None:
        before = self.mesh.status().process(name)
        # One that is failing already may begin another start before it is asked to.
        spare = 0 if before.state == "ready" else 1
        done, trouble = threading.Event(), list[RefusedError]()

        def restart() -> None:
            try:
                self.mesh.restart(name)
            except RefusedError as error:
                trouble.append(error)
            except NotRunningError as error:
                trouble.append(RefusedError(str(error)))
            done.set()

        # Beside this: the supervisor tries for a minute and a half, and whoever has just saved wants to know sooner.
        threading.Thread(target=restart, name=f"restart-{name}", daemon=True).start()
        while not done.wait(LOOK_S):
            now = self.mesh.status().process(name)
            starts = now.restarts - before.restarts - spare
            if starts > 1 or (starts == 1 and now.state == "down"):
                last = "".join(f"\n{name} | {line}" for line in self.mesh.log_tail(name, LINES))
                raise RefusedError(f"{name} does not come up: {now.reason}; the others go on as they were{last}")
        if trouble:
            raise trouble[0]


def parts(known: Collection[str] | None = None) -> Parts:
    """What the mesh consists of, and whose contracts its processes link as their code is now.

    `known`: the parts that the mesh has which runs; where absent, those this process was started with.
    """
    folders = {one.name: PROJECT / "svc" / one.name for one in mesh_parts.SERVICES}
    folders |= {one.process: PROJECT / "worker" / "handlers" / one.name for one in mesh_parts.WORKERS}
    links = {
        name: saves.linked(_text(path) for path in sorted(folder.rglob("*.py"))) for name, folder in folders.items()
    }
    manifested = {path.parent.name for path in (PROJECT / "svc").glob(f"*/{manifests.SERVICE_FILE}")}
    own = {one.name for one in mesh_parts.SERVICES}
    waiting = manifested - own if known is None else (manifested | own) - set(known)
    return Parts(mesh_parts.SERVICES, mesh_parts.WORKERS, links, waiting)


def _text(path: Path) -> str:
    """What is in a file, as far as it can be read: editors have files of a moment, and links that lead nowhere."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def code_faults(clone: Path, saved: Collection[str]) -> list[str]:
    """What cannot be compiled, or read as a manifest, each with its file and line."""
    faults = []
    for name in saved:
        path = clone / name
        if path.suffix != ".py":
            continue
        try:
            compile(path.read_bytes(), name, "exec")
        except FileNotFoundError:
            continue  # it was deleted
        except SyntaxError as error:
            faults.append(f"{name}:{error.lineno or 1}: {error.msg}")
        except ValueError as error:
            faults.append(f"{name}:1: {error}")
    try:
        manifests.workers(clone / "worker" / "handlers", manifests.services(clone / "svc"))
    except ManifestError as error:
        faults.append(str(error).removeprefix(f"{clone}/"))
    return faults


def _check(built: Path) -> None:
    """Raise CommandFailedError where contracts break a rule, or what the released ones promise."""
    released = PROJECT / "protos" / "baseline.binpb"
    found = [*sources.buf_breaking(built, released), *sources.policy_violations(built, released)]
    if found:
        found.sort(key=lambda one: (one["file"], one["line"]))
        raise CommandFailedError(
            [
                f"{one['file']}:{one['line']}: {one['message']}" + (f"; {one['fix']}" if one["fix"] else "")
                for one in found
            ],
            exits.FAILED,
        )


def _complain(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"weft: {line}", file=sys.stderr)
    print("          the mesh goes on with what it has", file=sys.stderr, flush=True)
