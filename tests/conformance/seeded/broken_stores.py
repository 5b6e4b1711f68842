"""Stores that break the contract, each in one way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import pytest

from posthouse.backends import open_store
from posthouse.backends.sqlite.store import MemoryDisk
from posthouse.clock import Instant
from posthouse.contracts.store import Books, LaneIn, LaneOut, Member, Rows, Store, Tail
from posthouse.errors import PosthouseError, StorageError
from posthouse.protocol.epoch import Identity
from posthouse.protocol.inbox import Request, RequestState
from posthouse.protocol.lane import number_of
from posthouse.protocol.outbox import Call, CallState
from posthouse.testing import ManualClock
from posthouse.testing.conformance import MakeStore, StoreSuite
from tests.conformance.seeded import broken_streams
from tests.conformance.seeded.sound_stores import Page, Sound

# --- steps and handlers --------------------------------------------------------------------------------


class KeepsWhatFailed(Sound):
    """Commits what a step wrote before it failed."""

    def commit(
        self, step: Callable[[Books], Any], *, name: str, flush: bool = False, weight: int = 1
    ) -> asyncio.Future[Any]:
        """Catch the failure too early."""

        def kept(books: Books) -> Any:
            try:
                return step(books)
            except PosthouseError as error:
                return error

        async def told() -> Any:
            result = await self.inner.commit(kept, name=name, flush=flush, weight=weight)
            if isinstance(result, PosthouseError):
                raise result
            return result

        return asyncio.ensure_future(told())


class DropsTheCanceled(Sound):
    """Does not run a step for which nobody waits any more."""

    def commit(
        self, step: Callable[[Books], Any], *, name: str, flush: bool = False, weight: int = 1
    ) -> asyncio.Future[Any]:
        """Start too late."""

        async def later() -> Any:
            await asyncio.sleep(0)
            return await asyncio.shield(self.inner.commit(step, name=name, flush=flush, weight=weight))

        return asyncio.ensure_future(later())


class EndsInTwo(Sound):
    """Commits the user's rows in one transaction, and what ends the delivery in another."""

    async def tail(self) -> Tail:
        """Break it in two."""
        store, tail = self, await self.inner.tail()

        class Broken(_PassingOn):
            def end(self, step: Callable[[Books], Any]) -> asyncio.Future[Any]:
                tail.end(lambda books: None)
                return store.inner.commit(step, name="end")

        return Broken(tail)  # pyright: ignore[reportReturnType]


class _PassingOn:
    def __init__(self, tail: Tail) -> None:
        self.inner = tail
        self.execute = tail.execute
        self.executemany = tail.executemany
        self.give_up = tail.give_up

    def end(self, step: Callable[[Books], Any]) -> asyncio.Future[Any]:
        """Pass it on."""
        return self.inner.end(step)


class KeepsWhatWasGivenUp(Sound):
    """Commits what was given up."""

    async def tail(self) -> Tail:
        """Give up the wrong way."""
        passing_on = _PassingOn(await self.inner.tail())
        passing_on.give_up = lambda: passing_on.end(lambda books: None) and None
        return passing_on  # pyright: ignore[reportReturnType]


class WaitsForEver(Sound):
    """Lets a handler hold the slot for as long as it likes."""

    @property
    def hold_limit(self) -> float:
        """Lie."""
        return 1000.0

    @hold_limit.setter
    def hold_limit(self, limit: float) -> None:
        self.inner.hold_limit = 1000.0


class LeaksTheSlot(Sound):
    """Gives the slot to one who waits no more."""

    def __init__(self, make: Callable[[], Store]) -> None:
        super().__init__(make)
        self.leaked: list[asyncio.Future[Tail]] = []

    async def tail(self) -> Tail:
        """Wait although nobody asks for it any more."""
        waits = asyncio.ensure_future(self.inner.tail())
        self.leaked.append(waits)
        return await asyncio.shield(waits)

    async def close(self) -> None:
        """End the test all the same."""
        for waits in self.leaked:
            waits.cancel()
        await super().close()


class ServesTheLastFirst(Sound):
    """Gives the slot to who came last."""

    def __init__(self, make: Callable[[], Store]) -> None:
        super().__init__(make)
        self.pile: list[asyncio.Future[Tail]] = []
        self.serving: asyncio.Task[None] | None = None

    async def tail(self) -> Tail:
        """Lie on a pile."""
        waiter = asyncio.get_running_loop().create_future()
        self.pile.append(waiter)
        if self.serving is None:
            self.serving = asyncio.ensure_future(self.serve())
        return await waiter

    async def serve(self) -> None:
        """Take from its top."""
        for _ in range(50):
            await asyncio.sleep(0)
        while self.pile:
            tail = await self.inner.tail()
            waiter = self.pile.pop()
            if waiter.cancelled():
                tail.give_up()
            else:
                waiter.set_result(tail)
        self.serving = None


class ReadsTheLatest(Sound):
    """Reads what is there now, and not one moment."""

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Rows]:
        """Look anew each time."""
        store = self

        class Broken:
            async def execute(self, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
                async with store.inner.reading() as rows:
                    return await rows.execute(sql, values)

        yield Broken()  # pyright: ignore[reportReturnType]


class ReadsWhatIsNotCommitted(Sound):
    """Reads by a handler's transaction, and so may write."""

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Rows]:
        """Take the slot."""
        tail = await self.inner.tail()
        try:
            yield tail
        finally:
            await tail.end(lambda books: None)


class AnotherEachTime(Sound):
    """Is a new store whenever it is opened."""

    count = 0

    @property
    def identity(self) -> Identity:
        """Lie."""
        return Identity(f"{self.inner.identity.id[:-4]}{self.count:04}", self.inner.identity.epoch)

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Count."""
        AnotherEachTime.count += 1
        self.count = AnotherEachTime.count
        await super().open(schema=schema)


class TakesChangedScripts(Sound):
    """Does not notice that a script was changed."""

    async def open(self, *, schema: Sequence[str] = ()) -> None:
        """Try without it."""
        try:
            await super().open(schema=schema)
        except StorageError as error:
            if "was changed" not in str(error):
                raise
            await super().open()


class LosesAtClosing(Sound):
    """Ends without the steps that were given."""

    def commit(
        self, step: Callable[[Books], Any], *, name: str, flush: bool = False, weight: int = 1
    ) -> asyncio.Future[Any]:
        """Wait a while first."""

        async def later() -> Any:
            for _ in range(20):
                await asyncio.sleep(0)
            return await self.inner.commit(step, name=name, flush=flush, weight=weight)

        return asyncio.ensure_future(later())


# --- the caller's side -----------------------------------------------------------------------------------


class ForgetsRanges(Page):
    """Keeps only the floor of what is final."""

    def save_lane_out(self, lane: LaneOut) -> None:
        """Lose the ranges."""
        kept = msgspec.structs.replace(lane, final=type(lane.final)(lane.final.floor))
        self.books.save_lane_out(kept)


class ForgetsTheEpochOfOutcomes(Page):
    """Writes outcomes without the epoch that they are of."""

    def set_calls(self, rows: Iterable[tuple[Any, bytes, int, bool, int]]) -> None:
        """Lose it."""
        self.books.set_calls([(state, outcome, 0, parked, place) for state, outcome, _, parked, place in rows])


class TakesBlockedKeys(Page):
    """Numbers calls whose key is not free."""

    def take_waiting(self, service: str, limit: int) -> list[Call]:
        """Take them whatever their keys are."""
        calls = [call for call in self.books.calls_listed(service=service, limit=1000) if call.place == 0]
        for call in calls[-limit:]:
            self.books.drop_waiting(call.id)
        return calls[::-1][:limit]


class LeavesWhatItTook(Page):
    """Hands out what waits, and leaves it there."""

    def take_waiting(self, service: str, limit: int) -> list[Call]:
        """Put them back."""
        calls = self.books.take_waiting(service, limit)
        self.books.add_waiting(calls)
        return calls


class FindsWaitingKeysFree(Page):
    """Takes a key for free while a call of it waits."""

    def key_is_free(self, service: str, key: str) -> bool:
        """Look at the numbered ones only."""
        calls = self.books.calls_listed(service=service, limit=1000)
        return not any(call.key == key and call.place and not call.state.final for call in calls if key)


class ListsTheFinal(Page):
    """Tells final calls as unsettled."""

    def unsettled(self, lane: LaneOut, *, after: int = -1, limit: int = 1000) -> list[Call]:
        """Return all of them."""
        base = lane.lane << 40
        return self.books.calls_at(range(base + max(after + 1, lane.final.floor), base + lane.next))[:limit]


class ForgetsTheUndecided(Page):
    """Forgets calls whose delivery may be run again."""

    def forget_calls(self, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
        """Decide the delivery before."""
        for each in self.books.requests_listed(decided=False):
            self.books.set_requests([(RequestState.DONE, 0.0, b"", each.place)])
        return self.books.forget_calls(lane=lane, below=below, before=before, keep_bytes=keep_bytes)


class KeepsAllBytes(Page):
    """Forgets only what is old."""

    def forget_calls(self, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
        """Have no limit."""
        return self.books.forget_calls(lane=lane, below=below, before=before, keep_bytes=1 << 40)


class ForgetsAboveTheNumber(Page):
    """Does not look at the number."""

    def forget_calls(self, *, lane: int, below: int, before: Instant, keep_bytes: int) -> int:
        """Take one more."""
        return self.books.forget_calls(lane=lane, below=below + 1, before=before, keep_bytes=keep_bytes)


# --- the replier's side ----------------------------------------------------------------------------------


class HasNoLaneOfItsOwn(Page):
    """Knows only the lanes of others."""

    def lanes_in(self) -> list[LaneIn]:
        """Leave it out."""
        return [lane for lane in self.books.lanes_in() if lane.lane]


class GoesBackAnEpoch(Page):
    """Takes the last epoch that it heard of for the newest."""

    heard: ClassVar[dict[str, int]] = {}

    def hear_epoch(self, store: str, epoch: int) -> None:
        """Remember it beside."""
        self.heard[store] = epoch

    def newest_epoch(self, store: str) -> int:
        """Return what was heard last."""
        return self.heard.pop(store, self.books.newest_epoch(store))


class OverwritesRequests(Page):
    """Stores a request in the place of another."""

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Make room."""
        for each in requests:
            number = each.place & ((1 << 40) - 1)
            self.books.forget_requests(each.place >> 40, below=0, ranges=[(number, number)])
        self.books.add_requests(requests)


class ClaimsWhatIsNotDue(Page):
    """Hands out requests before they are due."""

    def claimable(self, operation: str, now: Instant, limit: int, *, suspects: bool = False) -> list[Request]:
        """Look into the future."""
        return self.books.claimable(operation, now + 3600, limit, suspects=suspects)


class RunsSuspectsWithTheOthers(Page):
    """Hands out requests that killed an instance together with the others."""

    def claimable(self, operation: str, now: Instant, limit: int, *, suspects: bool = False) -> list[Request]:
        """Mix them."""
        found = self.books.claimable(operation, now, limit, suspects=True)
        return found if suspects else [*found, *self.books.claimable(operation, now, limit)][:limit]


class LetsTheSuspendedRest(Page):
    """Never hands out a suspended request."""

    def claimable(self, operation: str, now: Instant, limit: int, *, suspects: bool = False) -> list[Request]:
        """Leave them out."""
        found = self.books.claimable(operation, now, limit, suspects=suspects)
        return [each for each in found if each.state is not RequestState.SUSPENDED]


class ClaimsFromOthers(Page):
    """Takes a request from the one who runs it."""

    def claim(self, instance: str, places: Sequence[int]) -> None:
        """Put it back before."""
        for each in self.books.requests_at(places):
            if each.state is RequestState.RUNNING:
                self.books.set_requests([(RequestState.RECEIVED, each.due, b"", each.place)])
        self.books.claim(instance, places)


class CountsNoAttempt(Page):
    """Claims without a new attempt, so that the one before still holds the request."""

    def claim(self, instance: str, places: Sequence[int]) -> None:
        """Store them anew."""
        for each in self.books.requests_at(places):
            if each.state in (RequestState.RECEIVED, RequestState.SUSPENDED):
                claimed = msgspec.structs.replace(each, state=RequestState.RUNNING, instance=instance)
                OverwritesRequests(self.books).add_requests([claimed])


class DecidesForAnyAttempt(Page):
    """Lets a former attempt decide."""

    def decide(self, place: int, *, attempt: int, **decision: Any) -> bool:
        """Look up which one it has to be."""
        for each in self.books.requests_at([place]):
            attempt = each.attempt
        return self.books.decide(place, attempt=attempt, **decision)


class DecidesForAnyInstance(Page):
    """Lets another instance decide."""

    def decide(self, place: int, *, instance: str, **decision: Any) -> bool:
        """Look up which one it has to be."""
        for each in self.books.requests_at([place]):
            instance = each.instance
        return self.books.decide(place, instance=instance, **decision)


class DecidesTwice(Page):
    """Changes what was decided."""

    def decide(self, place: int, *, instance: str, attempt: int, state: RequestState, outcome: bytes, **_: Any) -> bool:
        """Write it over."""
        self.books.set_requests([(state, 0.0, outcome, place)])
        return True


class ForgetsTooLittle(Page):
    """Looks only at the floor."""

    def forget_requests(self, lane: int, *, below: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Leave the ranges."""
        self.books.forget_requests(lane, below=below)


class GivesNumbersAgain(Page):
    """Numbers a dead letter by what is there."""

    def dead_letters(self, **asked: Any) -> list[Any]:
        """Count anew."""
        return [
            msgspec.structs.replace(letter, number=number)
            for number, letter in enumerate(self.books.dead_letters(**asked), start=1)
        ]


class ForgetsKeysEarly(Page):
    """Forgets keys that are still good."""

    def forget_keys(self, before: Instant) -> list[Any]:
        """Forget more than was asked for."""
        return self.books.forget_keys(before + 3600)


class KeepsThemWaiting(Page):
    """Writes who asked again, and lets the request wait on."""

    def ask_again(self, rows: Iterable[tuple[int, int, str, int]], now: Instant) -> None:
        """Put back what they were due."""
        rows = list(rows)
        before = {row.place: row for row in self.books.requests_at([place for *_, place in rows])}
        self.books.ask_again(rows, now)
        self.books.set_requests([(row.state, row.due, row.outcome, row.place) for row in before.values()])


class WakesAllThatIsAskedAgain(Page):
    """Has whatever rests run again when it is asked for again."""

    def ask_again(self, rows: Iterable[tuple[int, int, str, int]], now: Instant) -> None:
        """Wake it."""
        rows = list(rows)
        self.books.ask_again(rows, now)
        resting = [row for row in self.books.requests_at([each[3] for each in rows]) if row.state == 3]
        self.books.set_requests([(RequestState.RECEIVED, now, b"", row.place) for row in resting])


class RevivesTheUnasked(Page):
    """Runs again what an operator wants, whoever asked for it in which life."""

    def revive(self, places: Sequence[int], due: Instant) -> list[int]:
        """Set it."""
        parked = [row.place for row in self.books.requests_at(places) if row.state == 4]
        self.books.set_requests([(RequestState.RECEIVED, due, b"", place) for place in parked])
        return parked


class HoldsAndKeepsClaims(Page):
    """Holds what waits, and leaves what runs to who runs it."""

    def hold(self, lane: int) -> None:
        """Claim it again."""
        running = [row for row in self.books.requests_listed(lane=lane) if row.state == 2]
        self.books.hold(lane)
        for row in running:
            self.books.forget_requests(lane, below=0, ranges=[(number_of(row.place), number_of(row.place))])
        self.books.add_requests(running)


class LetsLeasesRunOn(Page):
    """Takes nobody for dead whose lease is over."""

    def dead(self, now: Instant) -> list[str]:
        """Look only at the rows."""
        return [instance for instance in self.books.dead(0.0) if instance]


class OverlooksTheLeftBehind(Page):
    """Does not see rows of those who are no members."""

    def dead(self, now: Instant) -> list[str]:
        """Look only at the members."""
        members = {member.instance for member in self.books.members()}
        return [instance for instance in self.books.dead(now) if instance in members]


class ForgetsToRenew(Page):
    """Enters an instance, and renews no lease."""

    def beat(self, instance: str, until: Instant) -> None:
        """Enter it once."""
        if all(member.instance != instance for member in self.books.members()):
            self.books.beat(instance, until)

    def members(self) -> list[Member]:
        """Pass it on."""
        return self.books.members()


class HoldsAnsweredKeys(Page):
    """Takes a key for held until what was answered is final."""

    def key_is_free(self, service: str, key: str) -> bool:
        """Look at the answered ones too."""
        return not any(call.key == key and not call.state.final for call in self._towards(service) if key)

    def take_waiting(self, service: str, limit: int) -> list[Call]:
        """Leave what stands behind an answered one."""
        held = {call.key for call in self._towards(service) if call.state is CallState.ANSWERED}
        calls = self.books.take_waiting(service, limit)
        self.books.add_waiting([call for call in calls if call.key in held])
        return [call for call in calls if call.key not in held]

    def _towards(self, service: str) -> list[Call]:
        return self.books.calls_listed(service=service, limit=1000)


class FindsTheNewestHolder(Page):
    """Names the newest of those that hold a key."""

    def key_holder(self, service: str, key: str) -> Call | None:
        """Take the first of a list that begins with the newest."""
        calls = self.books.calls_listed(service=service, final=False, limit=1000)
        return next((call for call in calls if call.key == key and call.place and key), None)


def with_page(page: type[Page]) -> type[Sound]:
    """Return a sound store with these books."""
    return type(page.__name__, (Sound,), {"page": page})


FAULTS: Final[dict[type[Any], str]] = {
    **broken_streams.FAULTS,
    KeepsWhatFailed: "test_a_step_that_fails_has_written_nothing_and_takes_nobody_along",
    DropsTheCanceled: "test_what_was_committed_stays_although_nobody_waits_for_it_any_more",
    EndsInTwo: "test_when_the_step_that_ends_it_fails_nothing_is_kept",
    KeepsWhatWasGivenUp: "test_what_is_given_up_is_rolled_back",
    WaitsForEver: "test_one_that_holds_the_slot_for_too_long_is_rolled_back_and_the_others_go_on",
    LeaksTheSlot: "test_one_that_is_canceled_while_it_waits_keeps_the_slot_from_nobody",
    ServesTheLastFirst: "test_the_slot_goes_to_who_came_first",
    ReadsTheLatest: "test_who_reads_sees_one_moment_and_holds_nobody_up",
    ReadsWhatIsNotCommitted: "test_who_reads_cannot_write",
    AnotherEachTime: "test_a_store_is_the_same_when_it_is_opened_again",
    TakesChangedScripts: "test_a_script_that_was_run_cannot_be_changed",
    LosesAtClosing: "test_closing_finishes_the_steps_that_were_given",
    ForgetsRanges: "test_a_lane_out_is_as_it_was_saved",
    ForgetsTheEpochOfOutcomes: "test_setting_a_call_writes_its_outcome_and_leaves_the_rest",
    TakesBlockedKeys: "test_of_a_key_only_the_first_is_taken_and_only_while_none_is_under_way",
    LeavesWhatItTook: "test_those_that_wait_are_taken_out_in_order_each_once",
    FindsWaitingKeysFree: "test_a_key_is_free_when_none_of_it_waits_or_is_under_way",
    HoldsAnsweredKeys: "test_a_key_is_free_when_none_of_it_waits_or_is_under_way",
    FindsTheNewestHolder: (
        "test_a_key_is_held_by_the_first_that_is_numbered_and_not_answered_else_by_the_oldest_that_waits"
    ),
    ListsTheFinal: "test_unsettled_calls_are_those_of_the_lane_that_are_not_final_in_order",
    ForgetsTheUndecided: "test_calls_that_are_not_final_or_whose_delivery_is_undecided_stay",
    KeepsAllBytes: "test_the_newest_final_calls_stay_up_to_so_many_bytes",
    ForgetsAboveTheNumber: "test_the_newest_final_calls_stay_up_to_so_many_bytes",
    HasNoLaneOfItsOwn: "test_the_lane_of_the_store_to_itself_is_always_there",
    GoesBackAnEpoch: "test_the_newest_epoch_of_a_caller_is_the_highest_that_was_heard_of",
    OverwritesRequests: "test_a_place_is_taken_once_and_the_slip_leaves_nothing",
    ClaimsWhatIsNotDue: "test_claimable_are_those_of_the_operation_that_are_due_the_one_that_is_due_first_first",
    RunsSuspectsWithTheOthers: "test_claimable_are_those_of_the_operation_that_are_due_the_one_that_is_due_first_first",
    LetsTheSuspendedRest: "test_claimable_are_those_of_the_operation_that_are_due_the_one_that_is_due_first_first",
    ClaimsFromOthers: "test_one_that_runs_cannot_be_claimed_from_the_one_who_runs_it",
    CountsNoAttempt: "test_a_claim_makes_requests_running_ones_of_the_instance_with_one_attempt_more",
    DecidesForAnyAttempt: "test_who_does_not_hold_a_request_changes_nothing",
    DecidesForAnyInstance: "test_who_does_not_hold_a_request_changes_nothing",
    DecidesTwice: "test_who_does_not_hold_a_request_changes_nothing",
    ForgetsTooLittle: "test_forgotten_are_those_below_a_number_and_those_in_ranges_of_that_lane",
    GivesNumbersAgain: "test_a_number_is_not_given_again",
    ForgetsKeysEarly: "test_keys_whose_time_is_over_go_a_thousand_at_once",
    KeepsThemWaiting: "test_what_was_last_asked_for_in_an_earlier_life_may_run_when_it_is_asked_for_again",
    WakesAllThatIsAskedAgain: "test_what_was_last_asked_for_in_an_earlier_life_may_run_when_it_is_asked_for_again",
    RevivesTheUnasked: "test_what_is_revived_is_told_and_nothing_that_its_caller_has_not_asked_for_in_this_life",
    HoldsAndKeepsClaims: "test_what_is_undecided_in_a_lane_that_is_held_waits_and_its_claims_are_void",
    LetsLeasesRunOn: "test_who_does_not_beat_is_dead_when_its_lease_is_over",
    OverlooksTheLeftBehind: "test_who_is_no_member_and_has_left_rows_is_dead",
    ForgetsToRenew: "test_who_has_beaten_is_a_member_until_it_leaves",
}
"""Each, and the test that is there to catch it."""

KINDS: Final[dict[str, type[Sound]]] = {
    kind.__name__: with_page(kind) if issubclass(kind, Page) else kind for kind in (Sound, *FAULTS)
}
CATCHERS: Final = {kind.__name__: test for kind, test in FAULTS.items()}


class TestBrokenStore(StoreSuite):
    """The suite, over all of them and a sound one."""

    patience = 0.3  # much is waited for here that never comes

    @pytest.fixture(params=KINDS)
    def fault(self, request: pytest.FixtureRequest) -> str:
        """Name the fault of this run."""
        return request.param

    @pytest.fixture
    def make_store(self, fault: str, clock: ManualClock, tmp_path: Path) -> Iterator[MakeStore]:
        """Give what makes stores with this fault on one fresh disk."""
        with MemoryDisk(tmp_path.name):

            def make(instance: str) -> Any:
                url = f"memory:{tmp_path.name}"
                return KINDS[fault](lambda: open_store(url, service="prices", instance=instance, clock=clock))

            yield make
