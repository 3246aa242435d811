"""Settings and the desired state: what is refused, and with which words."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.supervisor.account import Account
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.desired import AUTOSCALED, DEFAULT_SIZES, Desired, complete_sizes
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.part import Command
from weft_protos.manifests import GATEWAYS_MAX


def test_an_empty_environment_is_the_documented_defaults() -> None:
    settings = Settings.from_environ({"WEFT_DATA": "/data"})

    assert (Path("/data"), 8080, 8443, 1.0) == (
        settings.data,
        settings.gateway_port,
        settings.gateway_tls_port,
        settings.trace_ratio,
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WEFT_GATEWAY_PROT", "1", "WEFT_GATEWAY_PROT is set but nothing reads it; did you mean WEFT_GATEWAY_PORT"),
        ("WEFT_XYZZY", "1", "WEFT_XYZZY is set but nothing reads it; known are"),
        ("WEFT_GATEWAY_PORT", "0", "WEFT_GATEWAY_PORT=0 is not a port"),
        ("WEFT_GATEWAY_PORT", "8o8o", "WEFT_GATEWAY_PORT=8o8o is not a port"),
        ("WEFT_GATEWAY_PORT", "٣", "is not a port"),
        ("WEFT_GATEWAY_TLS_PORT", "65536", "WEFT_GATEWAY_TLS_PORT=65536 is not a port"),
        ("WEFT_GATEWAY_TLS_PORT", "8080", "are both 8080"),
        ("WEFT_DATA", "data", "WEFT_DATA=data is not an absolute path"),
        ("WEFT_LOG_LEVEL", "loud", "WEFT_LOG_LEVEL=loud is unknown; use one of debug"),
        ("WEFT_PROFILE", "prod", "WEFT_PROFILE=prod is unknown; use one of local, production"),
        ("WEFT_TLS_CERT", "/a.crt", "WEFT_TLS_CERT is set without WEFT_TLS_KEY"),
        ("WEFT_TLS_KEY", "/a.key", "WEFT_TLS_KEY is set without WEFT_TLS_CERT"),
        ("WEFT_CONSUMER_SAMPLE", "-1", "WEFT_CONSUMER_SAMPLE=-1 is not a sample"),
        ("WEFT_CONSUMER_SAMPLE", "1000001", "WEFT_CONSUMER_SAMPLE=1000001 is not a sample"),
        ("WEFT_TRACE_RATIO", "nan", "WEFT_TRACE_RATIO=nan is not a share"),
        ("WEFT_MTLS", "1", "WEFT_MTLS=1 is neither on nor off"),
        ("WEFT_TRACE_RATIO", "2", "WEFT_TRACE_RATIO=2 is not a share"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(variable: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ({variable: value})

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_certificate_is_named_by_an_absolute_path() -> None:
    with pytest.raises(ConfigError, match=r"WEFT_TLS_KEY=b\.key is not an absolute path"):
        Settings.from_environ({"WEFT_TLS_CERT": "/a.crt", "WEFT_TLS_KEY": "b.key"})


def test_hops_are_encrypted_in_production_and_in_clear_elsewhere_unless_somebody_says_otherwise() -> None:
    said = [{}, {"WEFT_PROFILE": "production"}, {"WEFT_PROFILE": "ha"}, {"WEFT_PROFILE": "production,ha"}]
    said += [{"WEFT_MTLS": "on"}, {"WEFT_PROFILE": "production", "WEFT_MTLS": "off"}]

    assert [False, True, False, True, True, False] == [
        Settings.from_environ({"WEFT_DATA": "/data", **each}).mtls for each in said
    ]


def test_production_traces_little_and_has_no_port_in_clear_unless_it_is_named() -> None:
    production = {"WEFT_DATA": "/data", "WEFT_PROFILE": "production"}
    closed = Settings.from_environ(production)
    asked = Settings.from_environ({**production, "WEFT_GATEWAY_PORT": "8080", "WEFT_TRACE_RATIO": "1"})

    assert (None, 0.05) == (closed.gateway_port, closed.trace_ratio)
    assert (8080, 1.0) == (asked.gateway_port, asked.trace_ratio)


def test_variables_of_single_processes_and_of_tests_are_tolerated() -> None:
    Settings.from_environ({"WEFT_SECRETS": "/x", "WEFT_TEST_COCKROACH_URL": "x"})


def test_children_inherit_no_proxy_and_compile_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("WEFT_OPERATOR", "secret")

    assert {"PATH", "HOME", "LANG", "TZ", "PYTHONUNBUFFERED"} == set(child_environ())


def test_the_desired_state_survives_being_written(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, gateway_port=1234, trace_ratio=0.5)
    desired = Desired.of(settings, ports="free", sizes={"orders": 3}, only=("orders-1",), ephemeral=True)
    desired.write(tmp_path / "desired.json")

    assert desired == Desired.read(tmp_path / "desired.json")


def test_sizes_not_given_are_the_defaults() -> None:
    assert {**DEFAULT_SIZES, "orders": 5} == complete_sizes({"orders": 5})


@pytest.mark.parametrize(("name", "size"), [("order", 1), ("orders", -1), ("orders", 33)])
def test_a_size_that_makes_no_sense_is_refused(name: str, size: int) -> None:
    with pytest.raises(ConfigError):
        complete_sizes({name: size})


def test_there_are_no_more_gateways_than_every_limit_can_be_divided_by() -> None:
    assert GATEWAYS_MAX == complete_sizes({"gateway": GATEWAYS_MAX})["gateway"]
    with pytest.raises(ConfigError, match=f"size of gateway is {GATEWAYS_MAX + 1}; give 0 to {GATEWAYS_MAX}"):
        complete_sizes({"gateway": GATEWAYS_MAX + 1})


@pytest.mark.parametrize(("text", "expected"), [("", True), ("on", True), ("off", False)])
def test_sizing_by_load_can_be_switched_off(text: str, expected: bool) -> None:
    assert expected == Settings.from_environ({"WEFT_AUTOSCALE": text, "HOME": "/nonexistent"}).autoscale


def test_a_switch_is_on_or_off() -> None:
    with pytest.raises(ConfigError, match="WEFT_AUTOSCALE=yes is neither on nor off"):
        Settings.from_environ({"WEFT_AUTOSCALE": "yes"})


def test_everything_with_a_load_is_sized_by_it_unless_somebody_asks_for_a_size(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    assert AUTOSCALED == Desired.of(settings).auto
    assert "orders" not in Desired.of(settings, sizes={"orders": 3}).auto
    assert {} == Desired.of(settings, ephemeral=True).auto
    assert {} == Desired.of(replace(settings, autoscale=False)).auto
    assert all(bounds.clamp(DEFAULT_SIZES[name]) == DEFAULT_SIZES[name] for name, bounds in AUTOSCALED.items())


def test_bounds_survive_being_written(tmp_path: Path) -> None:
    desired = Desired.of(Settings(data=tmp_path)).sized_by_load("orders", Bounds(3, 6))
    desired.write(tmp_path / "desired.json")

    assert desired == Desired.read(tmp_path / "desired.json")
    assert (3, Bounds(3, 6)) == (desired.sizes["orders"], desired.auto["orders"])


def test_a_service_that_came_or_went_since_a_state_was_written_has_no_instances(tmp_path: Path) -> None:
    desired = Desired.of(Settings(data=tmp_path))
    sizes = {name: size for name, size in desired.sizes.items() if name != "catalog"} | {"parcels": 2}
    auto = {name: bounds for name, bounds in desired.auto.items() if name != "catalog"} | {"parcels": Bounds(2, 4)}
    replace(desired, sizes=sizes, auto=auto).write(tmp_path / "desired.json")

    found = Desired.read(tmp_path / "desired.json")

    assert replace(desired, sizes={**desired.sizes, "catalog": 0}, auto=found.auto) == found
    assert set(auto) - {"parcels"} == set(found.auto)


def test_a_size_by_hand_ends_sizing_by_load_and_what_the_load_asks_for_does_not(tmp_path: Path) -> None:
    desired = Desired.of(Settings(data=tmp_path))

    assert "orders" not in desired.resized("orders", 3).auto
    assert (4, AUTOSCALED) == (desired.following({"orders": 4}).sizes["orders"], desired.following({"orders": 4}).auto)


@pytest.mark.parametrize(
    ("service", "bounds", "why"),
    [
        ("audit", None, "audit has no load that says how many are needed; measured are analytics"),
        ("ghost", None, "ghost has no load"),
        ("orders", Bounds(2, 33), "size of orders is 33; give 0 to 32"),
    ],
)
def test_what_cannot_be_sized_by_load_is_refused(tmp_path: Path, service: str, bounds: Bounds | None, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Desired.of(Settings(data=tmp_path)).sized_by_load(service, bounds)


def test_a_command_is_known_by_what_it_is_and_not_by_whose_shell_started_it() -> None:
    command = Command(("/bin/x", "--port", "1"), {**child_environ(), "WEFT_LISTEN": "a"}, Path("/"))
    same = replace(command, env={**command.env, "PATH": "/elsewhere", "HOME": "/other"})
    others = [
        replace(command, argv=("/bin/x", "--port", "2")),
        replace(command, env={**command.env, "WEFT_LISTEN": "b"}),
        replace(command, cwd=Path("/tmp")),
        replace(command, account=Account("weft", 1, 1)),
    ]

    assert command.digest() == same.digest()
    assert command.digest() not in {other.digest() for other in others}
