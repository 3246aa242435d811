from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.signed import Signer

SIGNER = Signer(b"k" * 32, purpose="test")


@given(st.text(), st.binary())
def test_what_was_signed_is_read_back(context: str, payload: bytes) -> None:
    assert payload == SIGNER.verify(context, SIGNER.sign(context, payload))


@given(st.text(), st.binary(), st.integers(0), st.integers(1, 255))
def test_one_changed_byte_is_refused(context: str, payload: bytes, place: int, flip: int) -> None:
    signed = bytearray(SIGNER.sign(context, payload))
    signed[place % len(signed)] ^= flip

    assert SIGNER.verify(context, bytes(signed)) is None


@given(st.binary(max_size=40))
def test_what_nobody_signed_is_refused(data: bytes) -> None:
    assert SIGNER.verify("context", data) is None


@given(st.text(min_size=1), st.binary(max_size=8))
def test_context_and_payload_cannot_be_shifted_against_each_other(context: str, payload: bytes) -> None:
    signed = SIGNER.sign(context, payload)
    head = context[-1].encode()

    assert SIGNER.verify(context[:-1], signed[:32] + head + payload) is None


def test_a_signature_holds_for_one_key_and_one_purpose() -> None:
    signed = SIGNER.sign("context", b"payload")

    assert Signer(b"k" * 32, purpose="other").verify("context", signed) is None
    assert Signer(b"l" * 32, purpose="test").verify("context", signed) is None
