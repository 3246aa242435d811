"""Settings: every variable has a meaning, a wrong one is named in one line, and a secret stays secret."""

from collections.abc import Callable
from pathlib import Path

import pytest

from svc.chassis.config import Address, ConfigError, Secrets, Settings, install_control_planes, parse_address


def secret(settings: Settings, name: str, text: str, mode: int = 0o600) -> Path:
    path = settings.secrets.secrets / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_every_variable_is_read(environ: pytest.MonkeyPatch) -> None:
    environ.setenv("WEFT_ETCD", "127.0.0.1:2379, 127.0.0.1:2380")
    environ.setenv("WEFT_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    environ.setenv("WEFT_TRACE_RATIO", "0.25")
    environ.setenv("WEFT_LOG_LEVEL", "debug")
    environ.setenv("WEFT_ZONE", "rack-2")

    settings = Settings.read()

    assert ("orders-1", "rack-2", Address("127.0.0.1", 0), 0, "debug") == (
        settings.process.instance,
        settings.process.zone,
        settings.process.listen,
        settings.process.metrics_port,
        settings.process.log_level,
    )
    assert ((Address("127.0.0.1", 2379), Address("127.0.0.1", 2380)), "weft") == (
        settings.etcd.etcd,
        settings.etcd.etcd_user,
    )
    assert (Address("127.0.0.1", 1), Address("127.0.0.1", 2)) == settings.xds.xds
    assert (Address("127.0.0.1", 1),) == settings.cache.cache
    assert ("http://127.0.0.1:4317", 0.25) == (settings.telemetry.otlp_endpoint, settings.telemetry.trace_ratio)


def test_what_may_be_left_out_has_a_default(settings: Settings) -> None:
    assert ("info", "", 1.0) == (
        settings.process.log_level,
        settings.telemetry.otlp_endpoint,
        settings.telemetry.trace_ratio,
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WEFT_INSTANCE", None, "WEFT_INSTANCE: is not set"),
        ("WEFT_INSTANCE", "Orders 1", "WEFT_INSTANCE: String should match pattern"),
        ("WEFT_LISTEN", "127.0.0.1", "WEFT_LISTEN: '127.0.0.1' is not host:port"),
        ("WEFT_LISTEN", "127.0.0.1:70000", "WEFT_LISTEN: '127.0.0.1:70000' is not host:port"),
        ("WEFT_LISTEN", "::1:80", "WEFT_LISTEN: '::1:80': an IPv6 host is written in brackets"),
        ("WEFT_METRICS_PORT", "x", "WEFT_METRICS_PORT: Input should be a valid integer"),
        ("WEFT_ETCD", "", "WEFT_ETCD: names no host:port"),
        ("WEFT_XDS", "a:1,b", "WEFT_XDS: 'b' is not host:port"),
        ("WEFT_CACHE", None, "WEFT_CACHE: is not set"),
        ("WEFT_OTLP_ENDPOINT", "127.0.0.1:4317", "WEFT_OTLP_ENDPOINT: is not http://host:port"),
        ("WEFT_TRACE_RATIO", "2", "WEFT_TRACE_RATIO: Input should be less than or equal to 1"),
        ("WEFT_ZONE", "Zone B", "WEFT_ZONE: 'Zone B' is not a zone"),
        ("WEFT_LOG_LEVEL", "loud", "WEFT_LOG_LEVEL: String should match pattern"),
        ("WEFT_SECRETS", None, "WEFT_SECRETS: is not set"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(
    environ: pytest.MonkeyPatch, name: str, value: str | None, message: str
) -> None:
    if value is None:
        environ.delenv(name)
    else:
        environ.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        Settings.read()

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_process_with_a_wrong_setting_ends_with_status_2(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.delenv("WEFT_LISTEN")

    with pytest.raises(SystemExit) as caught:
        Settings.from_environ()

    assert (2, "weft: WEFT_LISTEN: is not set\n") == (caught.value.code, capsys.readouterr().err)


@pytest.mark.parametrize(("text", "address"), [("[::1]:80", Address("::1", 80)), ("etcd:2379", Address("etcd", 2379))])
def test_addresses_are_written_as_they_are_read(text: str, address: Address) -> None:
    assert (address, text) == (parse_address(text), str(address))


def test_peers_are_told_of_an_address_whatever_the_host_is_called() -> None:
    assert "127.0.0.1" == Address("127.0.0.1", 7000).reachable()
    assert "::1" == Address("::1", 7000).reachable()
    assert Address("localhost", 7000).reachable() in ("127.0.0.1", "::1")


def test_secrets_are_read_from_their_files(settings: Settings) -> None:
    secret(settings, "database-orders.url", "postgresql+psycopg://o:pw@127.0.0.1/orders\n")
    secret(settings, "database-orders.replicas.url", "postgresql://o:pw@10.0.0.2/o\npostgresql://o:pw@10.0.0.3/o\n")
    secret(settings, "amqp.url", "amqp://a:b@127.0.0.1/")
    secret(settings, "cache.key", "ab" * 32)
    secret(settings, "seal.key", "cd" * 32)
    secret(settings, "etcd.password", "pw")

    secrets = settings.secrets
    assert "postgresql+psycopg://o:pw@127.0.0.1/orders" == secrets.database_url("orders")
    assert ("postgresql://o:pw@10.0.0.2/o", "postgresql://o:pw@10.0.0.3/o") == secrets.replica_urls("orders")
    assert () == secrets.replica_urls("catalog")
    assert "amqp://a:b@127.0.0.1/" == secrets.amqp_url()
    assert (b"\xab" * 32, b"\xcd" * 32) == (secrets.cache_key(), secrets.seal_key())
    assert "pw" == secrets.etcd_password()


def test_a_registry_without_a_password_file_asks_for_none(settings: Settings) -> None:
    assert settings.secrets.etcd_password() is None


READ: list[tuple[str, Callable[[Settings], object], str]] = [
    ("missing", lambda _settings: None, "cannot be read"),
    ("empty", lambda settings: secret(settings, "amqp.url", "\n"), "is empty"),
    ("readable by all", lambda settings: secret(settings, "amqp.url", "hunter2", 0o644), "chmod 600"),
    ("writable by the group", lambda settings: secret(settings, "amqp.url", "hunter2", 0o660), "chmod 600"),
    ("not ASCII", lambda settings: secret(settings, "amqp.url", "hünter2"), "cannot be read"),
]


@pytest.mark.parametrize(("prepare", "message"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_a_secret_file_that_is_not_as_it_should_be_is_refused(
    settings: Settings, prepare: Callable[[Settings], object], message: str
) -> None:
    prepare(settings)

    with pytest.raises(ConfigError, match=message) as caught:
        settings.secrets.amqp_url()

    assert "nter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["ab" * 31, "ab" * 33, "xy" * 32, "hunter2"])
def test_a_key_of_another_size_is_refused_and_not_shown(settings: Settings, text: str) -> None:
    secret(settings, "cache.key", text)

    with pytest.raises(ConfigError, match="is not 32 bytes in hexadecimal") as caught:
        settings.secrets.cache_key()

    assert text not in str(caught.value)


def test_no_repr_shows_a_secret(settings: Settings) -> None:
    secret(settings, "amqp.url", "hunter2")
    settings.secrets.amqp_url()

    assert "hunter2" not in repr(settings) + repr(settings.secrets)


def test_settings_do_not_change(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.process.instance = "orders-2"

    assert isinstance(settings.secrets, Secrets)


def test_grpc_is_told_of_every_control_plane(environ: pytest.MonkeyPatch, settings: Settings) -> None:
    import os

    environ.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", "")
    install_control_planes(settings, service="orders")

    document = os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"]  # noqa: TID251
    assert all(text in document for text in ("127.0.0.1:1", "127.0.0.1:2", "orders-1"))
