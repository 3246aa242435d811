"""Writes protos/gen from the contracts: Python messages, stubs, types and the descriptor set; and the client beside it.

`make gen` runs it; `make check` runs it with `--check`, which writes nothing and fails where the committed code is
not what the contracts say. protos/gen/xds.binpb is not its business (see make_xds.py).
"""

import argparse
import fcntl
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Everything that is generated, and where it is committed.
GENERATED = {
    "weft": ROOT / "protos" / "gen" / "weft",
    "buf": ROOT / "protos" / "gen" / "buf",
    "client": ROOT / "protos" / "clients" / "python" / "weft_client" / "gen",
    "contracts.binpb": ROOT / "protos" / "gen" / "contracts.binpb",
}
PACKAGES = ("weft", "buf")


class RefusedError(Exception):
    """A contract has what cannot be generated; the message names it."""


def generate(out: Path) -> None:
    """Generate everything below `out`. Raises CalledProcessError where buf refuses the contracts, and RefusedError."""
    binaries = Path(sys.executable).parent
    template = (ROOT / "buf.gen.yaml").read_text()
    template = template.replace("{python}", sys.executable).replace("{bin}", str(binaries))
    template = template.replace("out: protos/gen", f"out: {out}")
    buf = str(binaries / "buf")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "buf.gen.yaml"
        config.write_text(template)
        subprocess.run([buf, "generate", "--template", str(config)], cwd=ROOT, check=True)
    for path in out.rglob("*_pb2_grpc.pyi"):
        if not path.with_suffix(".py").exists():
            path.unlink()  # mypy-protobuf writes one for every file, with a service or without
    # Source info stays in: the compiler names file and line of what it refuses.
    subprocess.run([buf, "build", "-o", str(out / "contracts.binpb"), "--as-file-descriptor-set"], cwd=ROOT, check=True)
    for package in PACKAGES:
        (out / package / "py.typed").touch()
        for folder in [out / package, *(path for path in (out / package).rglob("*") if path.is_dir())]:
            (folder / "__init__.py").write_text('"""Generated from the contracts by `make gen`; never edited."""\n')
    _client(out)


def _client(out: Path) -> None:
    # Before what is committed: nothing else knows an option that is new in these contracts.
    sys.path.insert(0, str(out))
    import make_client

    try:
        make_client.write(out / "contracts.binpb", out / "client")
    except make_client.UnsupportedError as error:
        raise RefusedError(str(error)) from error


def differences(fresh: Path) -> list[tuple[Path, Path]]:
    """Files that are missing, superfluous or different: as they are in `fresh`, and where they are committed."""
    stale = []
    for top, committed in GENERATED.items():
        made = fresh / top
        names = {"."} if made.is_file() else {name for root in (made, committed) for name in _files(root)}
        stale += [
            (made / name, committed / name)
            for name in sorted(names)
            if not ((made / name).is_file() and (committed / name).is_file())
            or not filecmp.cmp(made / name, committed / name, shallow=False)
        ]
    return stale


def _files(root: Path) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def replace(fresh: Path, committed: Path) -> None:
    """Have one file be as it was generated, or be gone with what it leaves empty, where it was not."""
    if fresh.exists():
        committed.parent.mkdir(parents=True, exist_ok=True)
        temporary = committed.with_name(f".{committed.name}.new")
        shutil.copyfile(fresh, temporary)
        temporary.replace(committed)
        return
    committed.unlink()
    for folder in committed.parents:
        if any(path.name != "__pycache__" for path in folder.iterdir()):
            return
        shutil.rmtree(folder)


@contextmanager
def alone() -> Iterator[None]:
    """Wait for whoever generates at this moment: what is written last is what the contracts said last."""
    folder = os.open(ROOT / "protos" / "gen", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main() -> int:
    """Command line: exit 0 when protos/gen is what the contracts say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="example: generate.py --check")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where protos/gen is not fresh")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, alone():
        fresh = Path(folder)
        try:
            generate(fresh)
        except subprocess.CalledProcessError as error:
            return error.returncode
        except RefusedError as error:
            print(f"generate.py: {error}", file=sys.stderr)
            return 1
        stale = differences(fresh)
        if arguments.check:
            for _, committed in stale:
                name = committed.relative_to(ROOT)
                print(f"{name}: not what the contracts say; run `make gen` and commit", file=sys.stderr)
            return 1 if stale else 0
        # Only what differs, and each at once: processes that start meanwhile read it.
        for made, committed in stale:
            replace(made, committed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
