"""Runs a Lua filter in Envoy's own LuaJIT: a script's top level is executed when a config is validated."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway.envoy import names
from gateway.policy import PolicySet

from .conftest import TESTDATA

Report = dict[str, dict[str, str]]
EnvoySays = Callable[[dict[str, Any]], str]
Runner = Callable[[Any, str, list[dict[str, Any]]], Report]
#: When the calls are, unless they say so.
NOW_S = 1_800_000_000


@pytest.fixture
def run(envoy_says: EnvoySays, policies: PolicySet) -> Runner:
    """Runs cases through a filter's script and returns what each did, by name and key."""

    def run_cases(module: Any, hook: str, cases: list[dict[str, Any]]) -> Report:
        timed = [{"now_ms": NOW_S * 1000} | case for case in cases]
        return run_script(envoy_says, module.build(policies), hook, timed)

    return run_cases


def run_script(envoy_says: EnvoySays, config: Any, hook: str, cases: list[dict[str, Any]]) -> Report:
    """Call the hook of a filter's script for each case, and return what each did, by name and key."""
    empty: dict[str, Any] = {"headers": {}, "dynamic": {}, "route": {}, "body": "", "now_ms": 0}
    listed = _lua([empty | case for case in cases])
    program = config.default_source_code.inline_string + (TESTDATA / "handle.lua").read_text()
    complaint = envoy_says(_listener_with(f'{program}\nrun({listed}, "{hook}")\n'))
    found = re.search(r"REPORT\[([^\]]*)\]", complaint)
    assert found, complaint
    report: Report = {str(case["name"]): {} for case in cases}
    for line in filter(None, found[1].split(";")):
        name, key, value = line.split(" ")
        report[name][bytes.fromhex(key).decode()] = bytes.fromhex(value).decode("latin-1")
    return report


def _listener_with(program: str) -> dict[str, Any]:
    prefix = "type.googleapis.com/envoy.extensions.filters"
    script = {"@type": f"{prefix}.http.lua.v3.Lua", "default_source_code": {"inline_string": program}}
    manager = {
        "@type": f"{prefix}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {},
        "http_filters": [
            {"name": "script", "typed_config": script},
            {"name": names.ROUTER, "typed_config": {"@type": f"{prefix}.http.router.v3.Router"}},
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    return {"static_resources": {"listeners": [{"name": "test", "address": address, "filter_chains": [chain]}]}}


def _lua(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"[{_lua(key)}] = {_lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(_lua, value)) + "}"
    if isinstance(value, str):
        return '"' + "".join(f"\\{byte:03d}" for byte in value.encode("latin-1")) + '"'
    return repr(value)
