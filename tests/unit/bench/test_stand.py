"""What the benches compare with is what they say it is."""

import re
from pathlib import Path

from bench import contracts, written
from gateway import compiler
from gateway.envoy import names
from gateway.envoy.edge import Edge
from gateway.envoy.filters import CHAIN

#: Links of the chain that the Envoy written by hand does without: its routes take headers off, it takes any JSON, and
#: it knows no lanes, which are off in the other one as well.
OWN = {names.HEADERS, names.STRICT_JSON, names.LANE}


def test_the_gateway_written_by_hand_has_the_filters_of_the_compiled_one_in_their_order() -> None:
    text = (Path(written.__file__).parent / "envoy" / "handwritten.yaml").read_text()
    listed = re.findall(r"^ {18}- name: (\S+)$", text.split("http_filters:")[1].split("route_config:")[0], re.MULTILINE)
    called = {
        "details": names.REFUSAL,
        "limit_by_address": names.ADDRESS_LIMIT,
        "token_and_frame": names.GUARD,
        "limit_by_subject": names.SUBJECT_LIMIT,
    }

    assert [link.name for link in CHAIN if link.name not in OWN] == [called.get(name, name) for name in listed]


def test_generated_contracts_keep_every_rule() -> None:
    made = compiler.compile_contracts(contracts.generate(2, prefix="made"), Edge())

    assert 2 * contracts.METHODS_PER_SERVICE == made.methods
