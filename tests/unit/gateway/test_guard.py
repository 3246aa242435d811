"""What the guard's script does with a call's token."""

from typing import Any

from gateway.envoy import names
from gateway.envoy.filters import guard

from .script_run import NOW_S, Runner
from .script_run import run as run

HEADER = {"typ": "at+jwt", "alg": "ES256", "kid": "k1"}
CLAIMS = {
    "iss": "weft-identity",
    "aud": "weft",
    "sub": "ann-1_B",
    "sid": "s",
    "jti": "j",
    "scope": "orders.read",
    "iat": NOW_S,
    "exp": NOW_S + 300,
}
#: What is said of one fault each; which tokens are refused at all is tried in Envoy itself, by test_tokens_agree.
FAULTS: list[tuple[str, str | None, dict[str, Any], dict[str, Any]]] = [
    ("good", None, {}, {}),
    ("typ", "The token is not an access token (typ must be at+jwt)", {"typ": "JWT"}, {}),
    ("alg", "The token is not signed with ES256", {"alg": "RS256"}, {}),
    ("crit", "The token has a critical extension nobody here understands", {"crit": ["b64"]}, {}),
    ("kid", "The token does not name its key", {"kid": ""}, {}),
    ("field", "The token's header says more than alg, kid and typ", {"jku": "http://x"}, {}),
    ("sub", "The token's subject is missing or malformed", {}, {"sub": "users/ann"}),
    ("act", "The token's actor is malformed", {}, {"act": {"sub": ""}}),
    ("sid", "The token does not name its session and itself", {}, {"sid": ""}),
    ("aud", "The token is of another issuer or audience", {}, {"aud": "x"}),
    ("scope", "The token's scopes are missing or malformed", {}, {"scope": "*"}),
    ("iat", "The token does not say when it was issued and when it expires", {}, {"iat": "now"}),
    ("future", "The token was issued in the future", {}, {"iat": NOW_S + 6, "exp": NOW_S + 300}),
    ("nbf", "The token is not valid yet", {}, {"nbf": NOW_S + 6}),
    ("lifetime", "The token is good for too long, or for no time", {}, {"iat": NOW_S - 1, "exp": NOW_S + 300}),
    ("short", "The token is good for too long, or for no time", {}, {"iat": NOW_S + 3, "exp": NOW_S + 3}),
]


def _verified(header: dict[str, Any], payload: dict[str, Any], number: int = 0) -> dict[str, Any]:
    """A call with what jwt_authn found in a token; each number is another token, as the header has it."""
    found = {names.JWT: {names.JWT_HEADER: header, names.JWT_PAYLOAD: payload}}
    return {"headers": {"authorization": f"Bearer e30.{number:04}.{'A' * 86}"}, "dynamic": found}


def test_a_refused_token_is_told_what_is_wrong_with_it(run: Runner) -> None:
    cases = [
        {"name": name} | _verified(HEADER | header, CLAIMS | changed, number)
        for number, (name, _, header, changed) in enumerate(FAULTS)
    ]

    report = run(guard, "envoy_on_request", cases)

    assert {name: sentence for name, sentence, _, _ in FAULTS} == {
        name: found.get("respond body") for name, found in report.items()
    }
    assert {("401", "TOKEN_INVALID")} == {
        (found["respond :status"], found[f"respond {names.REASON}"])
        for found in report.values()
        if "respond :status" in found
    }


def test_the_last_second_is_the_same_for_the_gateway_and_for_the_services(run: Runner) -> None:
    # jwt_authn lets a token live one second longer than an instance does.
    cases = [{"name": str(age), "now_ms": (NOW_S + 300 + age) * 1000} | _verified(HEADER, CLAIMS) for age in (4, 5, 6)]

    report = run(guard, "envoy_on_request", cases)

    assert {"4": None, "5": "TOKEN_EXPIRED", "6": "TOKEN_EXPIRED"} == {
        age: found.get(f"respond {names.REASON}") for age, found in report.items()
    }


def test_a_token_without_claims_or_header_is_refused_and_an_error_too(run: Runner) -> None:
    cases: list[dict[str, Any]] = [
        {"name": "public"},
        {"name": "headerless", "dynamic": {names.JWT: {names.JWT_PAYLOAD: CLAIMS}}},
        {"name": "claimless", "dynamic": {names.JWT: {names.JWT_HEADER: HEADER}}},
        {"name": "bearerless", "dynamic": _verified(HEADER, CLAIMS)["dynamic"]},
        {"name": "broken", "dynamic": {names.JWT: 7}},
    ]

    report = run(guard, "envoy_on_request", cases)

    assert {
        "public": None,
        "headerless": "TOKEN_INVALID",
        "claimless": "TOKEN_INVALID",
        "bearerless": "TOKEN_INVALID",
        "broken": "GATEWAY_SCRIPT",
    } == {name: found.get(f"respond {names.REASON}") for name, found in report.items()}
    assert report["broken"]["log"].startswith("guard: ")


def test_a_token_that_passed_is_looked_up_by_its_header_until_it_expires(run: Runner) -> None:
    # jwt_authn never finds another thing in the same token; what the script looks at again is refused here.
    sound, unsound = _verified(HEADER, CLAIMS), _verified(HEADER | {"typ": "JWT"}, CLAIMS)
    cases: list[dict[str, Any]] = [
        {"name": "refused"} | unsound,
        {"name": "refused-again"} | unsound,
        {"name": "passed"} | sound,
        {"name": "looked-up"} | unsound,
        {"name": "another"} | _verified(HEADER | {"typ": "JWT"}, CLAIMS, 1),
        {"name": "headerless", "dynamic": unsound["dynamic"]},
        {"name": "expired", "now_ms": (NOW_S + 300) * 1000} | unsound,
    ]

    report = run(guard, "envoy_on_request", cases)

    refused = {name for name, found in report.items() if f"respond {names.REASON}" in found}
    assert {"refused", "refused-again", "another", "headerless", "expired"} == refused


def test_who_calls_is_noted_whether_the_token_is_new_known_or_refused(run: Runner) -> None:
    nobody = _verified(HEADER, CLAIMS | {"sub": "users/ann"}, 2)
    cases: list[dict[str, Any]] = [
        {"name": "new"} | _verified(HEADER, CLAIMS),
        {"name": "known", "headers": _verified(HEADER, CLAIMS)["headers"]},
        {"name": "refused"} | _verified(HEADER | {"typ": "JWT"}, CLAIMS, 1),
        {"name": "malformed"} | nobody,
        {"name": "public"},
    ]

    report = run(guard, "envoy_on_request", cases)

    assert {"new": "ann-1_B", "known": "ann-1_B", "refused": "ann-1_B", "malformed": None, "public": None} == {
        name: found.get(f"state {names.SUBJECT}") for name, found in report.items()
    }


def test_tokens_that_passed_are_forgotten_before_they_fill_the_memory(run: Runner) -> None:
    cases = [{"name": str(number)} | _verified(HEADER, CLAIMS, number) for number in range(names.TOKENS_MAX + 1)]
    cases += [{"name": "first"} | _verified(HEADER | {"typ": "JWT"}, CLAIMS, 0)]
    cases += [{"name": "last"} | _verified(HEADER | {"typ": "JWT"}, CLAIMS, names.TOKENS_MAX)]

    report = run(guard, "envoy_on_request", cases)

    assert ["first"] == [name for name, found in report.items() if f"respond {names.REASON}" in found]
    assert "TOKEN_INVALID" == report["first"][f"respond {names.REASON}"]
