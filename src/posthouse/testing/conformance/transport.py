"""The whole transport contract, as one suite."""

from __future__ import annotations

from posthouse.testing.conformance.capacity import CapacityTests
from posthouse.testing.conformance.delivery import DeliveryTests
from posthouse.testing.conformance.direct import DirectTests
from posthouse.testing.conformance.inspection import InspectionTests
from posthouse.testing.conformance.letters import LetterTests
from posthouse.testing.conformance.reset import ResetTests
from posthouse.testing.conformance.settling import SettlingTests
from posthouse.testing.conformance.topics import TopicTests
from posthouse.testing.conformance.waiting import WaitingTests


class TransportSuite(
    DeliveryTests,
    SettlingTests,
    WaitingTests,
    TopicTests,
    CapacityTests,
    LetterTests,
    InspectionTests,
    DirectTests,
    ResetTests,
):
    """What `posthouse.contracts.transport.Transport` promises.

    Give it the fixture `make_transport`; and `wipe_engine`, unless nothing can wipe the engine.
    """
