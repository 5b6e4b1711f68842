"""The errors: one tree, a stable code on each, and the same class again after a journey."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from posthouse import errors
from posthouse.errors import (
    ConfigError,
    FailedError,
    HttpError,
    InvalidDataError,
    NotDoneError,
    NotStoredError,
    PendingError,
    PosthouseError,
    QueueFullError,
    Reject,
    Retry,
    every_error,
    told,
)

ALL = list(every_error())
NAMES = [kind.__name__ for kind in ALL]


class CardRefused(Reject):
    code = "card.refused"
    status = 402

    def __init__(self, bank: str, *, limit: int) -> None:
        super().__init__(f"{bank} says no", limit=limit)
        self.bank = bank


class Clash(Reject):
    """Has the code of one of ours, and is listed."""

    code = "queue.full"


# --- the tree -----------------------------------------------------------------------------------------


def test_every_error_of_the_module_is_in_the_tree_and_each_once():
    defined = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
    }

    assert set(NAMES) == defined - {"Retry"}
    assert len(NAMES) == len(set(NAMES))


def test_no_two_have_the_same_code():
    codes = [kind.code for kind in ALL]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_each_has_a_code_of_its_own_a_docstring_and_a_status(kind: type[PosthouseError]):
    assert "code" in vars(kind)
    assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?", kind.code)
    assert kind.__doc__
    assert "__doc__" in vars(kind)
    assert 400 <= kind.status <= 599
    assert isinstance(kind.hint, str)
    assert isinstance(kind.transient, bool)


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_its_name_says_that_it_is_an_error(kind: type[PosthouseError]):
    assert kind.__name__.endswith("Error") or kind is Reject


def test_a_class_that_a_user_derives_is_not_ours():
    assert CardRefused not in ALL


def test_what_may_be_repeated_unchanged_is_nothing_that_was_decided():
    assert not any(kind.transient for kind in ALL if issubclass(kind, (NotDoneError, ConfigError, HttpError)))


def test_retry_is_an_order_and_not_one_of_them():
    order = Retry("closed", after="5s")

    assert not isinstance(order, PosthouseError)
    assert (str(order), order.reason, order.after) == ("closed", "closed", "5s")


def test_a_time_out_of_ours_is_a_time_out_of_pythons():
    assert issubclass(PendingError, TimeoutError)


def test_an_error_carries_values():
    full = QueueFullError("prices.quote", 5)
    reject = Reject("no", code="card.odd", status=409, why="limit")

    assert (full.queue, full.capacity) == ("prices.quote", 5)
    assert str(full) == "queue 'prices.quote' is at its capacity of 5 messages"
    assert (reject.code, reject.status, reject.details) == ("card.odd", 409, {"why": "limit"})
    assert Reject.code == "rejected"


def test_two_rejects_do_not_share_their_details():
    one, other = Reject(), Reject()
    one.details["why"] = 1

    assert other.details == {}


def test_a_hint_and_an_id_of_its_own_stay_with_the_one_that_has_them():
    error = FailedError("no", hint="look here", message_id="1")

    assert (error.hint, error.message_id) == ("look here", "1")
    assert FailedError.hint != "look here"
    assert FailedError.message_id is None


# --- the journey --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_each_is_told_as_the_class_that_it_was(kind: type[PosthouseError]):
    error = told(kind.code, "text", message_id="1")

    assert type(error) is kind
    assert str(error) == "text"
    assert (error.code, error.status, error.hint) == (kind.code, kind.status, kind.hint)
    assert error.message_id == "1"


@pytest.mark.parametrize("kind", ALL, ids=NAMES)
def test_what_was_told_has_every_value_that_its_class_promises(kind: type[PosthouseError]):
    """Its constructor's arguments stayed behind; who reads them must find something all the same."""
    error: Any = told(kind.code, "text")

    promised = [name for base in kind.__mro__ for name in inspect.get_annotations(base)]
    for name in promised:
        assert hasattr(error, name), name
    assert repr(error)


def test_a_listed_reject_is_told_as_its_class_with_all_that_it_had():
    said = CardRefused("Bank", limit=5)

    error = told(
        said.code, str(said), status=said.status, details=said.details, message_id="1", rejects=(Clash, CardRefused)
    )

    assert type(error) is CardRefused
    assert (str(error), error.code, error.status) == ("Bank says no", "card.refused", 402)
    assert error.details == {"limit": 5}
    assert error.message_id == "1"


def test_a_status_of_its_own_beats_that_of_the_class():
    error = told("card.refused", "no", status=451, rejects=(CardRefused,))

    assert error.status == 451
    assert CardRefused.status == 402


def test_a_hint_of_its_own_beats_that_of_the_class():
    assert told("queue.full", "full", hint="call Bob").hint == "call Bob"


def test_a_listed_reject_wins_over_one_of_ours():
    assert type(told("queue.full", "full", rejects=(Clash,))) is Clash
    assert type(told("queue.full", "full")) is QueueFullError


def test_a_code_that_nobody_knows_is_a_reject_with_that_code():
    error = told("card.unheard", "no", status=418, details={"a": 1})

    assert type(error) is Reject
    assert (error.code, error.status, error.details) == ("card.unheard", 418, {"a": 1})


def test_details_are_a_copy():
    details = {"a": 1}
    error = told("rejected", "no", details=details)
    assert isinstance(error, Reject)
    error.details["b"] = 2

    assert details == {"a": 1}


def test_a_pending_error_bears_the_id_to_wait_again():
    error = told("call.pending", "later", message_id="7")

    assert isinstance(error, PendingError)
    assert error.id == "7"


def test_what_was_told_is_caught_as_what_it_is():
    with pytest.raises(NotStoredError):
        raise told("data.invalid", "$.qty")
    assert isinstance(told("data.invalid", "$.qty"), InvalidDataError)
    assert isinstance(told("handler.failed", "no"), NotDoneError)


@pytest.mark.parametrize("status", [0, 200, 399, 600])
def test_a_reject_has_the_status_of_an_error(status: int):
    with pytest.raises(ValueError, match=str(status)):
        Reject("no", status=status)
