"""Settings and the desired state: what is refused, and with which words."""

from pathlib import Path

import pytest

from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.desired import DEFAULT_SIZES, Desired, complete_sizes
from deploy.supervisor.errors import ConfigError


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
