"""The verb of `weft audit`: verify. Registered by app.py."""

import json
import re
from typing import Annotated, Final

import typer

from deploy.cli.deadletters import ask
from deploy.cli.jobs import EXIT_UNEVEN, EXIT_USAGE, Json, fail

SHOWN_MAX: Final = 20
_HEAD: Final = re.compile(r"[1-9][0-9]{0,17}:[0-9a-f]{64}")


def verify(
    noted: Annotated[
        list[str] | None,
        typer.Option("--noted", metavar="SEQUENCE:HASH", help="A head that an earlier run printed; repeatable."),
    ] = None,
    json_: Json = False,
) -> None:
    """Say whether the audit log is what was written; exit 1 where it is not, with every record that was touched.

    Each record's hash is made again over all its columns, and has to lead on from the one before. Whoever owns the
    database could still write a whole new chain: note the head that is printed somewhere else, and give it next time.

    Example: weft audit verify

    Example: weft audit verify --noted 1041:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
    """
    for head in noted or ():
        if not _HEAD.fullmatch(head):
            fail(EXIT_USAGE, f"--noted: {head!r} is not SEQUENCE:HASH as `weft audit verify` prints it")
    said = ask("verify-audit", *(f"--noted={head}" for head in noted or ()))
    if json_:
        print(json.dumps(said))
    else:
        for found in said["findings"][:SHOWN_MAX]:
            event = f" (event {found['event_id']})" if found["event_id"] else ""
            print(f"record {found['sequence']}{event}: {found['problem']}")
        if len(said["findings"]) > SHOWN_MAX:
            print(f"... and {len(said['findings']) - SHOWN_MAX} more; --json has them all")
        print(f"{said['records']} records, head {said['head']}")
    if not said["whole"]:
        first = said["findings"][0]["sequence"]
        fail(EXIT_UNEVEN, f"the audit log is not what was written, first at record {first}")
