"""Contracts of any size, for benches: services of ten methods, written as .proto files and compiled by protoc."""

import tempfile
from pathlib import Path
from typing import Final

import grpc_tools
from grpc_tools import protoc

from bench.report import ROOT, BenchError

METHODS_PER_SERVICE: Final = 10
#: What holds at the edge: contracts without it do not compile.
EDGE: Final = "weft/mesh/v1/edge.proto"

_HEAD: Final = """syntax = "proto3";
package weft.{package}.v1;
import "google/api/annotations.proto";
import "weft/options/v1/policy.proto";
service {service} {{
  option (weft.options.v1.defaults) = {{
    timeout: {{seconds: 2}}
    rate_limit: {{requests: 200 per: {{seconds: 1}} burst: 400}}
  }};
"""
_READ: Final = """  rpc Read{number}(Read{number}Request) returns (Item) {{
    option idempotency_level = NO_SIDE_EFFECTS;
    option (google.api.http) = {{get: "/v1/{package}/kind{number}/{{name}}"}};
    option (weft.options.v1.policy) = {{scopes: "bench.read" retry: {{max_attempts: 3}}}};
  }}
"""
_WRITE: Final = """  rpc Write{number}(Write{number}Request) returns (Item) {{
    option (google.api.http) = {{post: "/v1/{package}/kind{number}" body: "*"}};
    option (weft.options.v1.policy) = {{scopes: "bench.write"}};
  }}
"""
_MESSAGES: Final = """message Item {
  string name = 1;
  string title = 2;
  int64 count = 3;
}
"""
_REQUESTS: Final = """message Read{number}Request {{
  string name = 1;
}}
message Write{number}Request {{
  string title = 1;
  repeated Item items = 2;
  string request_id = 3;
}}
"""


def generate(services: int, *, prefix: str) -> bytes:
    """A descriptor set of so many services, with source info. Their mesh services are named `<prefix>0`, ..."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path:
        folder, files = Path(path), [str(ROOT / "protos" / EDGE)]
        for number in range(services):
            package = f"{prefix}{number}"
            source = folder / "weft" / package / "v1" / f"{package}.proto"
            source.parent.mkdir(parents=True)
            source.write_text(_proto(package))
            files.append(str(source))
        includes = (folder, ROOT / "protos", ROOT / "protos/third_party", Path(grpc_tools.__file__).parent / "_proto")
        out = folder / "contracts.binpb"
        command = ["protoc", *(f"-I{include}" for include in includes), f"--descriptor_set_out={out}"]
        if protoc.main([*command, "--include_imports", "--include_source_info", *files]) != 0:
            raise BenchError("the generated contracts do not compile")
        return out.read_bytes()


def _proto(package: str) -> str:
    half = METHODS_PER_SERVICE // 2
    parts = [_HEAD.format(package=package, service=package.capitalize() + "Service")]
    parts += [form.format(package=package, number=number) for number in range(half) for form in (_READ, _WRITE)]
    parts += ["}\n", _MESSAGES]
    parts += [_REQUESTS.format(number=number) for number in range(half)]
    return "".join(parts)
