"""Filters that see some answers only: Envoy asks before it shows one, which costs a fraction of entering a script."""

from collections.abc import Mapping, Sequence
from typing import Any

from weft_protos.xds import envoy

Predicate = Mapping[str, Any]


def having(header: str, regex: str) -> Predicate:
    """Answers with a header that the whole of the regex matches."""
    name = envoy("type.matcher.v3.HttpResponseHeaderMatchInput", header_name=header)
    return _single(header, name, {"safe_regex": {"google_re2": {}, "regex": regex}})


def of_calls(state: str) -> Predicate:
    """Answers to calls that a filter has noted this state of, whatever it is."""
    key = envoy("extensions.matching.common_inputs.network.v3.FilterStateInput", key=state)
    return _single(state, key, {"safe_regex": {"google_re2": {}, "regex": ".*"}})


def only(name: str, config: Any, seen: Sequence[Predicate]) -> Any:
    """A filter's config with which it is shown every request, and the answers that one of the predicates holds for."""
    skip = envoy("extensions.filters.common.matcher.action.v3.SkipFilter")
    unseen = {
        "predicate": {"not_matcher": {"or_matcher": {"predicate": list(seen)}} if len(seen) > 1 else seen[0]},
        "on_match": {"action": {"name": "skip", "typed_config": skip}},
    }
    return envoy(
        "extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config={"name": name, "typed_config": config},
        xds_matcher={"matcher_list": {"matchers": [unseen]}},
    )


def _single(name: str, read: Any, value: Mapping[str, Any]) -> Predicate:
    return {"single_predicate": {"input": {"name": name, "typed_config": read}, "value_match": value}}
