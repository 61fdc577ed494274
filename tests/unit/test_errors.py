"""The tree of errors: one root, stable codes, messages that say what to do next."""

from __future__ import annotations

import json
import pickle
import re
from decimal import Decimal

import pytest

from novadex import errors
from novadex.errors import NovaDexError, ValidationError


def tree(kind: type[NovaDexError]) -> list[type[NovaDexError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


OF_THE_MODULE = [kind for kind in tree(NovaDexError) if kind.__module__ == errors.__name__]
CODES = {
    "NovaDexError": ("NOVADEX", False),
    "ConfigurationError": ("CONFIGURATION", False),
    "KeyUnknownError": ("KEY_UNKNOWN", False),
    "UsageError": ("USAGE", False),
    "ValidationError": ("INVALID_VALUE", False),
    "NotFoundError": ("NOT_FOUND", False),
    "ConflictError": ("CONFLICT", False),
    "AccessError": ("ACCESS", False),
    "NotAuthenticatedError": ("NOT_AUTHENTICATED", False),
    "SessionEndedError": ("SESSION_ENDED", False),
    "RenewalNeededError": ("RENEWAL_NEEDED", False),
    "ReauthenticationNeededError": ("REAUTHENTICATION_NEEDED", False),
    "PermissionDeniedError": ("PERMISSION_DENIED", False),
    "SignInOffError": ("SIGN_IN_OFF", False),
    "UnavailableError": ("UNAVAILABLE", True),
    "OverloadedError": ("OVERLOADED", True),
    "RateLimitedError": ("RATE_LIMITED", True),
    "TimeoutExceededError": ("TIMEOUT", True),
    "IntegrityFaultError": ("INTEGRITY_FAULT", False),
}


def make(kind: type[NovaDexError]) -> NovaDexError:
    details = {"field": "price"} if issubclass(kind, ValidationError) else {}
    return kind("price must be above 0, got '-1'.", hint="Send a positive price.", value=Decimal(-1), **details)


def test_codes_are_stable_and_say_whether_a_retry_can_help() -> None:
    """Programs depend on them."""
    assert {kind.__name__: (kind.code, kind.retryable) for kind in OF_THE_MODULE} == CODES
    assert len({kind.code for kind in OF_THE_MODULE}) == len(OF_THE_MODULE)


def test_the_tree_at_the_top_of_the_file_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = [
        (len(match["indent"]), match["name"])
        for match in re.finditer(r"^(?P<indent>[ |]*(?:\+- )?)(?P<name>\w+Error)\b", errors.__doc__, re.MULTILINE)
    ]
    assert {name for _, name in drawn} == {kind.__name__ for kind in OF_THE_MODULE}
    above: dict[int, str] = {}
    for depth, name in drawn:
        above = {indent: parent for indent, parent in above.items() if indent < depth}
        if above:
            assert getattr(errors, name).__base__.__name__ == above[max(above)]
        above[depth] = name


@pytest.mark.parametrize("kind", OF_THE_MODULE)
def test_an_error_says_what_and_what_next(kind: type[NovaDexError]) -> None:
    error = make(kind)
    assert str(error) == "price must be above 0, got '-1'. Send a positive price."
    assert str(kind("Nothing there.", **({"field": "x"} if kind is ValidationError else {}))) == "Nothing there."


@pytest.mark.parametrize("kind", OF_THE_MODULE)
def test_an_error_goes_to_json(kind: type[NovaDexError]) -> None:
    content = json.loads(json.dumps(make(kind).as_dict()))
    assert content["code"] == kind.code
    assert content["message"] == "price must be above 0, got '-1'."
    assert content["hint"] == "Send a positive price."
    assert content["retryable"] is kind.retryable
    assert content["details"]["value"] == "-1"


@pytest.mark.parametrize("kind", OF_THE_MODULE)
def test_an_error_survives_the_way_to_another_process(kind: type[NovaDexError]) -> None:
    error = make(kind)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is kind
    assert (again.message, again.hint, again.details) == (error.message, error.hint, error.details)


def test_a_validation_error_names_the_field() -> None:
    error = ValidationError("price is missing.", field="price")
    assert error.field == "price"
    assert error.details == {"field": "price"}


@pytest.mark.parametrize("kind", OF_THE_MODULE)
def test_every_class_says_what_it_means(kind: type[NovaDexError]) -> None:
    assert kind.__doc__
    assert kind.__doc__.strip().endswith((".", "."))
