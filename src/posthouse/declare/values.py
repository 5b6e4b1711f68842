"""The values that a handler may be given beside its own types: Reply, Gap, Principal, HttpRequest."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")


class Reply(Generic[_Req, _Rep]):
    """What came of a request that was sent earlier.

    Attributes:
        id: of the request.
        request: its data.
    """

    __slots__ = ("_outcome", "id", "request")

    id: str
    request: _Req

    def __init__(self, id: str, request: _Req, outcome: _Rep | Exception) -> None:
        self.id = id
        self.request = request
        self._outcome = outcome

    def get(self) -> _Rep:
        """Return the data, or raise what `call` would have raised.

        Raises:
            Reject: the handler's own no.
            NotDoneError: it is decided that it is not done.
        """
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Gap(Struct, frozen=True):
    """Events that a subscription will never be given, because their retention ended.

    Attributes:
        event: its name.
        publisher: the service that published them.
        first: the number of the first one that is missing.
        last: the number of the last one.
    """

    event: str
    publisher: str
    first: int
    last: int


class Principal(Struct, frozen=True):
    """The person or program behind the first HTTP request.

    Attributes:
        subject: who it is, as the authentication names it.
        tenant: on whose behalf; empty for none.
        scopes: what it may do.
    """

    subject: str
    tenant: str = ""
    scopes: frozenset[str] = frozenset()


class HttpRequest(Struct, frozen=True):
    """As a request type: the whole HTTP request, for a handler that needs headers or the exact bytes.

    Attributes:
        method: upper case.
        path: as it was asked for, decoded.
        query: the last value of each parameter.
        headers: names in lower case; never Authorization or Cookie.
        body: the bytes, as they came.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
