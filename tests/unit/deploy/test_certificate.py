"""The gateways' certificate: who signs it, when it is renewed, and which of the user's own are refused."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair
from deploy.supervisor.edge_certificate import EdgeCertificate, Given
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import Layout

NOW = datetime(2026, 6, 1, tzinfo=UTC)
AUTHORITY = certificate.make_authority(now=NOW)


@pytest.fixture
def kept(layout: Layout) -> EdgeCertificate:
    """A certificate of the mesh's own."""
    made = EdgeCertificate(layout, None)
    made.ensure(now=NOW)
    return made


@pytest.fixture
def given(folder: Path) -> Given:
    """A certificate of the user's own."""
    found = Given(folder / "own.crt", folder / "own.key")
    put(found, AUTHORITY.issue(("shop.example",), (), now=NOW))
    return found


def put(given: Given, pair: Pair) -> None:
    given.certificate.write_text(pair.certificate)
    given.key.write_text(pair.key)
    given.key.chmod(0o600)


def shown(kept: EdgeCertificate) -> str:
    return kept.certificate.read_text()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestOwn:
    def test_the_authority_can_sign_for_no_name_but_this_machines(self, kept: EdgeCertificate, layout: Layout) -> None:
        authority = x509.load_pem_x509_certificate(layout.authority.read_bytes())
        leaf = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        allowed = authority.extensions.get_extension_for_class(x509.NameConstraints)

        leaf.verify_directly_issued_by(authority)
        assert ["localhost"] == alternatives.get_values_for_type(x509.DNSName)
        assert ["127.0.0.1", "::1"] == [str(one) for one in alternatives.get_values_for_type(x509.IPAddress)]
        assert allowed.critical
        assert ["localhost"] == [str(one.value) for one in allowed.value.permitted_subtrees]

    def test_only_what_everybody_may_know_can_be_read_by_others(self, kept: EdgeCertificate, layout: Layout) -> None:
        files = [path for path in layout.secrets.rglob("*") if path.is_file()]

        assert {0o600} == {mode(path) for path in files}
        assert (layout.secrets / "ca.key") in files
        assert 0o644 == mode(layout.authority)
        assert "PRIVATE" not in layout.authority.read_text() + shown(kept)

    def test_a_start_keeps_what_is_good(self, kept: EdgeCertificate, layout: Layout) -> None:
        before = shown(kept), layout.authority.read_text()

        assert not EdgeCertificate(layout, None).ensure(now=NOW + timedelta(days=19))
        assert before == (shown(kept), layout.authority.read_text())

    def test_it_is_renewed_before_it_ends_by_the_same_authority(self, kept: EdgeCertificate, layout: Layout) -> None:
        before, authority = shown(kept), layout.authority.read_text()
        later = NOW + timedelta(days=21)

        assert kept.ensure(now=later)
        assert (later + certificate.VALID, authority) == (kept.expires(), layout.authority.read_text())
        assert before != shown(kept)

    def test_it_is_renewed_when_it_is_asked_for(self, kept: EdgeCertificate) -> None:
        before = shown(kept)

        assert kept.ensure(now=NOW, anew=True)
        assert before != shown(kept)

    def test_an_authority_that_would_end_first_is_replaced(self, kept: EdgeCertificate, layout: Layout) -> None:
        before = layout.authority.read_text()

        assert kept.ensure(now=NOW + certificate.AUTHORITY_VALID - timedelta(days=1))
        assert before != layout.authority.read_text()

    @pytest.mark.parametrize("damage", ["ca.key", "edge-tls/tls.key", "edge-tls/tls.crt"])
    def test_what_was_damaged_is_made_again(self, kept: EdgeCertificate, layout: Layout, damage: str) -> None:
        (layout.secrets / damage).write_bytes(b"broken \xff\xfe")

        assert kept.ensure(now=NOW)
        assert "" == certificate.fault(Pair(shown(kept), kept.key.read_text()), now=NOW)

    def test_a_change_is_one_rename_and_old_pairs_do_not_pile_up(self, kept: EdgeCertificate, layout: Layout) -> None:
        places = set()
        for _ in range(4):
            kept.ensure(now=NOW, anew=True)
            places.add(os.readlink(layout.edge_tls / "current"))

        assert 4 == len(places)
        assert 2 == len([*layout.edge_tls.glob("pair-*")])
        assert ["current/tls.crt", "current/tls.key"] == [os.readlink(path) for path in (kept.certificate, kept.key)]

    def test_the_self_signed_pair_of_an_older_mesh_makes_way(self, layout: Layout) -> None:
        for name in ("edge-tls.crt", "edge-tls.key"):
            layout.write(layout.secrets / name, "old", None)

        EdgeCertificate(layout, None).ensure(now=NOW)

        assert ["ca.key", "edge-tls"] == sorted(os.listdir(layout.secrets))

    def test_no_key_is_ever_shown(self) -> None:
        assert "Pair(certificate=..., key=...)" == repr(AUTHORITY)


class TestGiven:
    def test_it_is_taken_over_and_again_when_its_files_change(self, layout: Layout, given: Given) -> None:
        kept = EdgeCertificate(layout, given)

        assert (True, False) == (kept.ensure(now=NOW), kept.ensure(now=NOW))
        put(given, AUTHORITY.issue(("shop.example", "www.shop.example"), (), now=NOW))
        assert kept.ensure(now=NOW)
        assert ("shop.example", "www.shop.example") == kept.names()
        assert given.certificate.read_text() == shown(kept)

    def test_remarks_in_any_language_do_not_make_it_another_one(self, layout: Layout, given: Given) -> None:
        remark = "# Zertifikat für den Laden\n".encode("latin-1")
        given.certificate.write_bytes(remark + given.certificate.read_bytes())
        kept = EdgeCertificate(layout, given)

        assert (True, False) == (kept.ensure(now=NOW), kept.ensure(now=NOW))

    def test_one_that_went_bad_leaves_the_good_one_in_place(self, layout: Layout, given: Given) -> None:
        kept = EdgeCertificate(layout, given)
        kept.ensure(now=NOW)
        good = shown(kept)
        given.certificate.write_text("half a fi")

        with pytest.raises(ConfigError):
            kept.ensure(now=NOW)
        assert good == shown(kept)

    def test_its_expiry_is_left_to_the_user(self, layout: Layout, given: Given) -> None:
        kept = EdgeCertificate(layout, given)
        kept.ensure(now=NOW)

        assert not kept.ensure(now=NOW + certificate.VALID - timedelta(days=1))

    def test_from_own_to_given_and_back(self, layout: Layout, given: Given) -> None:
        own = EdgeCertificate(layout, None)
        own.ensure(now=NOW)
        assert EdgeCertificate(layout, given).ensure(now=NOW)
        assert own.ensure(now=NOW)
        assert ("localhost",) == certificate.names(Pair(shown(own), ""))

    @pytest.mark.parametrize(
        ("spoil", "variable", "message"),
        [
            (lambda it: it.certificate.unlink(), "WEFT_TLS_CERT", "cannot be read: No such file or directory"),
            (lambda it: it.key.unlink(), "WEFT_TLS_KEY", "cannot be read: No such file or directory"),
            (lambda it: it.key.chmod(0o644), "WEFT_TLS_KEY", "can be read or changed by others; run: chmod 600"),
            (lambda it: it.certificate.write_text(""), "WEFT_TLS_CERT", "holds no PEM certificate"),
            (lambda it: it.certificate.write_bytes(b"\xff\0" * 9), "WEFT_TLS_CERT", "holds no PEM certificate"),
            (lambda it: it.certificate.write_bytes(b"x" * (2 << 20)), "WEFT_TLS_CERT", "is larger than"),
            (lambda it: it.key.write_text("x"), "WEFT_TLS_CERT", "something else than an unencrypted PEM key"),
            (lambda it: it.key.write_text(AUTHORITY.key), "WEFT_TLS_CERT", "does not belong to its key"),
        ],
    )
    def test_a_file_that_will_not_do_is_named_with_the_reason(
        self, layout: Layout, given: Given, spoil: object, variable: str, message: str
    ) -> None:
        assert callable(spoil)
        spoil(given)

        with pytest.raises(ConfigError) as caught:
            EdgeCertificate(layout, given).ensure(now=NOW)

        assert str(caught.value).startswith(f"{variable}={given.certificate.parent}")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("days", "message"), [(31, "expired at 2026-07-01 00:00 UTC"), (-1, "is not valid before 2026-05-31 23:55 UTC")]
    )
    def test_one_out_of_its_time_is_refused(self, given: Given, days: int, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            given.read(now=NOW + timedelta(days=days))

    def test_a_directory_is_refused_in_one_line(self, given: Given) -> None:
        with pytest.raises(ConfigError, match="Is a directory"):
            Given(given.certificate.parent, given.key).read(now=NOW)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (ec.generate_private_key(ec.SECP384R1()), ""),
        (rsa.generate_private_key(65537, 2048), ""),
        (rsa.generate_private_key(65537, 1024), "has a key that gateways cannot use"),
        (ec.generate_private_key(ec.SECP256K1()), "has a key that gateways cannot use"),
        (ed25519.Ed25519PrivateKey.generate(), "has a key that gateways cannot use"),
    ],
)
def test_keys_that_envoy_would_refuse_are_refused_first(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, message: str
) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    signer = serialization.load_pem_private_key(AUTHORITY.key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=1))
        .sign(signer, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    shape = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pair = Pair(signed.decode(), key.private_bytes(serialization.Encoding.PEM, *shape).decode())

    assert certificate.fault(pair, now=NOW).startswith(message)
    assert bool(message) == bool(certificate.fault(pair, now=NOW))
