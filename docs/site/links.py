"""What other pages may lead to, by what it is about: `links.json` of the site.

Whoever finds the file finds the site, and every address in it leads somewhere. Addresses are below the site's own.
"""

import json
from pathlib import Path
from typing import Final

from deploy.cli import troubleshooting
from weft_protos import policy

NAME: Final = "links.json"


def text(root: Path) -> str:
    """The file: `errors` by `CODE` and `CODE/REASON`, `methods` by `weft.orders.v1.OrderService/PlaceOrder`."""
    page = (root / troubleshooting.PAGE).read_text(encoding="utf-8")
    errors = {
        f"{code}/{reason}".rstrip("/"): f"troubleshooting.html#{anchor}"
        for (code, reason), anchor in troubleshooting.anchors(page).items()
    }
    methods = {
        f"{service.full_name}/{method.name}": f"contracts/{service.full_name}.html#{method.name}"
        for service in policy.SERVICES
        for method in service.methods
    }
    return json.dumps({"errors": errors, "methods": methods}, indent=0) + "\n"
