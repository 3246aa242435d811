"""Certificates of the mesh's parts: who they say it is, how long they last, and that readers never see half of one."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.supervisor.layout import Layout
from deploy.supervisor.stack import IDENTITIES
from deploy.supervisor.workload_certificates import RENEW_BEFORE, VALID, WorkloadCertificates
from weft_protos import identity, mesh_parts
from weft_protos.identity import Identity

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ORDERS, RELAY = identity.service("orders"), Identity("worker", "relay")


@pytest.fixture
def kept(layout: Layout) -> WorkloadCertificates:
    made = WorkloadCertificates(layout, (ORDERS, RELAY))
    made.ensure(now=NOW)
    return made


def shown(kept: WorkloadCertificates, part: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(kept.pair(part).certificate.encode())


def test_a_certificate_says_which_part_it_is_to_all_who_ask_in_their_own_way(kept: WorkloadCertificates) -> None:
    found = shown(kept, ORDERS)
    alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value

    assert ["spiffe://weft/service/orders"] == alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    assert ["orders.service.weft"] == alternatives.get_values_for_type(x509.DNSName)
    assert ["127.0.0.1"] == [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} == set(usages)
    assert NOW + VALID == found.not_valid_after_utc


def test_what_a_uri_stands_for_is_read_back_and_nothing_else_is(kept: WorkloadCertificates) -> None:
    assert [ORDERS, RELAY] == [identity.of_uri(part.uri) for part in kept.parts]
    strange = ("spiffe://other/service/orders", "spiffe://weft/service", "spiffe://weft/service/orders/1", "orders", "")
    assert {None} == {identity.of_uri(text) for text in strange}


def test_nobody_else_can_read_a_key_and_no_file_is_half_of_another_pair(kept: WorkloadCertificates) -> None:
    for part in kept.parts:
        folder = kept.folder(part)
        assert 0o700 == folder.stat().st_mode & 0o777
        assert {0o600} == {(folder / name).stat().st_mode & 0o777 for name in identity.FILES}
        assert {(folder / "current").resolve()} == {(folder / name).resolve().parent for name in identity.FILES}


def test_it_is_signed_anew_when_half_of_its_time_has_passed_and_not_before(kept: WorkloadCertificates) -> None:
    assert () == kept.ensure(now=NOW + VALID - RENEW_BEFORE - timedelta(seconds=1))
    assert (ORDERS, RELAY) == kept.ensure(now=NOW + VALID - RENEW_BEFORE)
    assert NOW + VALID - RENEW_BEFORE + VALID == kept.expires()


def test_what_was_damaged_or_is_somebody_elses_is_replaced_and_the_rest_is_not(kept: WorkloadCertificates) -> None:
    (kept.folder(RELAY) / "current" / identity.KEY).write_text("broken")
    assert (RELAY,) == kept.ensure(now=NOW)

    for name in (identity.CERTIFICATE, identity.KEY):
        (kept.folder(RELAY) / "current" / name).write_text((kept.folder(ORDERS) / name).read_text())
    assert (RELAY,) == kept.ensure(now=NOW)


def test_another_authority_signs_all_of_them_anew(kept: WorkloadCertificates) -> None:
    before = kept.authority.read_text()
    kept.authority.unlink()

    assert (ORDERS, RELAY) == kept.ensure(now=NOW)
    assert before != kept.authority.read_text()
    assert {kept.authority.read_text()} == {(kept.folder(part) / identity.AUTHORITY).read_text() for part in kept.parts}


def test_its_authority_is_not_the_one_that_browsers_trust_and_signs_for_no_name_outside(
    kept: WorkloadCertificates, layout: Layout
) -> None:
    authority = x509.load_pem_x509_certificate(kept.authority.read_bytes())
    constraint = authority.extensions.get_extension_for_class(x509.NameConstraints)

    assert layout.authority != kept.authority
    assert constraint.critical
    assert [x509.DNSName("weft")] == constraint.value.permitted_subtrees
    assert 0o600 == (layout.secrets / "workload-ca.key").stat().st_mode & 0o777


def test_every_part_that_takes_or_makes_calls_has_one() -> None:
    services = {identity.service(one.name) for one in mesh_parts.SERVICES}
    workers = {Identity("worker", one.process) for one in mesh_parts.WORKERS}

    assert services | workers < set(IDENTITIES)
    assert {identity.GATEWAY, identity.CONTROL_PLANE, identity.SUPERVISOR, RELAY} < set(IDENTITIES)
    assert len(IDENTITIES) == len({str(part) for part in IDENTITIES})
