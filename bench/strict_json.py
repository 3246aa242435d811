"""What the strict check of a JSON body costs inside Envoy, body by body.

Runs the compiled script in Envoy's own LuaJIT: `envoy --mode validate` executes a script's top level, so a loop around
the hook is timed there, without a server. What it leaves out is the same for every Lua filter: making the coroutine
and copying the body into Lua. Nothing is promised of it but that every body is answered as it must be.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from typing import Any

from bench import report
from bench.report import ROOT, BenchError, Claim
from deploy.supervisor.servers.envoy import binary
from gateway import contract, policy
from gateway.envoy.filters import strict_json

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=report.whole, default=500, help="checks in each of six rounds; the best one counts (default 500)"
    )


def measure(options: argparse.Namespace) -> list[Claim]:
    program = _program()
    found: dict[str, Any] = {}
    for name, binding, body, taken in BODIES:
        found[name] = _cost(program, binding, body, options.runs)
        if (found[name].pop("said") == "nil") != taken:
            raise BenchError(f"{name} was not answered as it should be")
    says = "Strict check of the JSON body of an order of 10 items"
    return [Claim("strict_json", says, found["order of 10 items"]["us"], unit="us", sides={"per body": found})]


def _cost(program: str, binding: str, body: str, runs: int) -> dict[str, Any]:
    escaped = '"' + "".join(f"\\{byte:03d}" for byte in body.encode()) + '"'
    complaint = _envoy(program + HARNESS % {"binding": json.dumps(binding), "body": escaped, "runs": runs})
    found = re.search(r"MEASURED\[([^|]*)\|([^|]*)\|([^\]]*)", complaint)
    if found is None:
        raise BenchError(complaint[-2000:])
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
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"static_resources": {"listeners": listeners}}, file)
        file.flush()
        command = [str(binary()), "--mode", "validate", "-c", file.name, "-l", "warn"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stderr


def _program() -> str:
    policies = policy.resolve(contract.load((ROOT / "protos/gen/contracts.binpb").read_bytes()))
    program: str = strict_json.build(policies).default_source_code.inline_string
    return program


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
