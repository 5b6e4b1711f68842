"""The whole contract of a store, as one suite."""

from __future__ import annotations

from posthouse.testing.conformance.stores.calls import CallTests
from posthouse.testing.conformance.stores.commits import CommitTests
from posthouse.testing.conformance.stores.feeds import FeedTests
from posthouse.testing.conformance.stores.lanes import LaneTests
from posthouse.testing.conformance.stores.letters import KeyTests, LetterTests
from posthouse.testing.conformance.stores.members import MemberTests
from posthouse.testing.conformance.stores.people import PeopleTests
from posthouse.testing.conformance.stores.requests import RequestTests
from posthouse.testing.conformance.stores.streams import StreamTests
from posthouse.testing.conformance.stores.tails import TailTests


class StoreSuite(
    CommitTests,
    TailTests,
    MemberTests,
    LaneTests,
    CallTests,
    RequestTests,
    StreamTests,
    FeedTests,
    LetterTests,
    KeyTests,
    PeopleTests,
):
    """What `posthouse.contracts.store.Store` promises. Give it the fixture `make_store`."""
