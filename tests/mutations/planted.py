"""The faults: what each changes in the code, and which test is there for it.

Most are a broken variant of the model (see tests/model) or of a rule of docs/explanation/protocol.md, as somebody
could have written it. A text that is to be replaced must stand in its file once; where it does not, the code has
moved on, and the fault must move with it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

JOURNAL: Final = "src/posthouse/runtime/journal"
STEPS: Final = "src/posthouse/runtime/steps"
STORE: Final = "src/posthouse/backends/sqlite/store"
SYSTEM: Final = "tests/system"

STORM: Final = f"{SYSTEM}/test_journaled_storm.py::test_nothing_is_lost_doubled_or_mixed_up_in_a_storm_of_kills"
STOPPED: Final = f"{SYSTEM}/test_journaled_storm.py::test_who_was_stopped_beyond_its_lease_decides_nothing_any_more"
WIPE: Final = f"{SYSTEM}/test_journaled_wipe.py"
DRAIN: Final = f"{SYSTEM}/test_journaled_drain.py"
POISON: Final = f"{SYSTEM}/test_journaled_poison.py"
FOREIGN: Final = f"{SYSTEM}/test_journaled_foreign.py"
GROWTH: Final = f"{SYSTEM}/test_journaled_growth.py"
NEWS: Final = "tests/sim/test_news.py::test_no_world_loses_an_event_or_has_one_twice"
LIFE: Final = "tests/unit/runtime/test_journal_life.py"  # the storms find some only by chance


class Fault(NamedTuple):
    """One planted fault.

    Attributes:
        name: what is wrong with it.
        test: what must find it.
        changes: (file, what stands there, what stands there instead).
    """

    name: str
    test: str
    changes: tuple[tuple[str, str, str], ...]


FAULTS: Final = (
    Fault(
        "the reply leaves before the commit",
        STORM,
        (
            (
                f"{JOURNAL}/ends.py",
                "    def _decide(self, endings: Sequence[Ending]) -> None:\n",
                """    def _decide(self, endings: Sequence[Ending]) -> None:
        answers = []
        for ending in endings:
            for work, decision in zip(ending.works, ending.decisions, strict=True):
                message = work.message
                if message.kind is Kind.REQUEST:
                    stamps = message.lane
                    back = None if stamps is None else stamps_back(stamps, self._store.identity, stamps.floor)
                    outcome = outcome_of(decision.outcome)
                    reply = reply_to(message, outcome, back, source=self._here.service, now=self._here.now())
                    store = "" if stamps is None else stamps.caller_store
                    answers.append(Answer(message.reply_to, store, reply))
        self._courier.answer(answers)
        self._duties.count(1)
        self._loop.call_later(0.02, self._decide_later, endings)

    def _decide_later(self, endings: Sequence[Ending]) -> None:
        self._duties.count(-1)
""",
            ),
        ),
    ),
    Fault(
        "whoever lost the claim commits all the same",
        STOPPED,
        (
            (
                f"{STORE}/requests.py",
                "        return sql.connection.changes() == 1\n\n    def put_back",
                "        return True\n\n    def put_back",
            ),
        ),
    ),
    Fault(
        "the effect is not in the transaction of the outcome",
        STORM,
        (
            (
                f"{SYSTEM}/programs/journaled_storm.py",
                'await db.execute("INSERT INTO effects (op, value, run) VALUES (?, ?, ?)", (order.op, run, run))',
                "pass",
            ),
            (
                f"{SYSTEM}/programs/journaled_storm.py",
                """        db = await ctx.transaction()
        if order.does == "kept no":
""",
                """        if order.does != "kept no":
            from tests.history.events import Effect

            note(Effect(order.op, service, sequence=0, value=run, run=run))
            await asyncio.sleep(0.02)
        db = await ctx.transaction()
        if order.does == "kept no":
""",
            ),
        ),
    ),
    Fault(
        "nobody takes over the calls of the dead",
        STORM,
        ((f"{JOURNAL}/relay.py", "gone = set(books.dead(self._here.now()))", "gone: set[str] = set()"),),
    ),
    Fault(
        "nobody takes over what the dead ran",
        STORM,
        ((f"{JOURNAL}/inbox.py", "        if dead:\n", "        if dead and not dead:\n"),),
    ),
    Fault(
        "deposits are settled before they are adopted",
        STORM,
        (
            (
                f"{JOURNAL}/journal.py",
                "                arrived.append(Arrived(message, delivery.frame, delivery))\n",
                """                from posthouse.contracts.transport import ACCEPTED

                self._settler.add(delivery, ACCEPTED)
                arrived.append(Arrived(message, delivery.frame))
""",
            ),
            (
                f"{JOURNAL}/journal.py",
                "                self.inbox.arrive(self._opened(deliveries))\n",
                """                opened = self._opened(deliveries)
                asyncio.get_running_loop().call_later(0.02, self.inbox.arrive, opened)
""",
            ),
        ),
    ),
    Fault(
        "what is sent again has a new number",
        STORM,
        (
            (
                f"{JOURNAL}/relay.py",
                "            message = self._stamped(call, lane)\n",
                """            message = self._stamped(call, lane)
            from msgspec.structs import replace

            message = replace(message, lane=replace(message.lane, number=message.lane.number + 100_000))
""",
            ),
        ),
    ),
    Fault(
        "a request with a key does not wait for the one before it",
        STORM,
        ((f"{STEPS}/asking.py", "    return books.key_is_free(asked.service, asked.key)", "    return True"),),
    ),
    Fault(
        "an answer is final before its handler has committed",
        STORM,
        ((f"{STEPS}/applying.py", "holds=standing.wants.holds)", "holds=False)"),),
    ),
    Fault(
        "an id that was used before is used again",
        STORM,
        ((f"{STEPS}/asking.py", "    if asked.once:\n", "    if asked.once and not asked.once:\n"),),
    ),
    Fault(
        "a deposit that comes again is adopted again",
        STORM,
        ((f"{STEPS}/receiving.py", "        if key is not None:\n", "        if key is not None and not key:\n"),),
    ),
    Fault(
        "a decided request that comes again is swallowed",
        STORM,
        (
            (
                f"{STEPS}/receiving.py",
                "                decided.append((place_of(lane.lane, number), message, stamps))\n",
                "                pass\n",
            ),
        ),
    ),
    Fault(
        "a request that comes again is run again",
        f"{LIFE}::test_a_request_that_comes_again_when_all_of_it_is_forgotten_is_not_run",
        (
            (
                "src/posthouse/protocol/inbox.py",
                "    if known is None:\n        return Verdict.OVER if forgotten.holds(number) else Verdict.NEW\n",
                "    if known is None:\n        return Verdict.NEW\n",
            ),
        ),
    ),
    Fault(
        "a handler that asked is not given the answer to its earlier run",
        STORM,
        (
            (
                f"{STEPS}/deciding.py",
                "number),))\n    if calls:\n        end_calls(books, calls, result.lanes, result.unwanted)",
                "number),))\n    if calls:\n        pass",
            ),
        ),
    ),
    Fault(
        "nothing is sent a second time",
        f"{WIPE}::test_journaled_requests_that_wait_in_the_queue_outlive_its_wipe",
        (
            (
                f"{JOURNAL}/relay.py",
                "        places = [sent.place for sent in due]\n        for sent in due:",
                "        places: list[int] = []\n        for sent in due:",
            ),
        ),
    ),
    Fault(
        "a drain does not give back what outlasts it",
        DRAIN,
        (
            (
                f"{JOURNAL}/ending.py",
                "        self._again(work, claim, after=0.0, failures=claim.failures)\n\n    # --- carrying out",
                "        return\n\n    # --- carrying out",
            ),
        ),
    ),
    Fault(
        "a deadly request is run for ever",
        POISON,
        ((f"{STEPS}/taking_over.py", "            if deaths >= DEATHS:\n", "            if deaths >= 1000:\n"),),
    ),
    Fault(
        "a stuck process stays",
        POISON,
        (("src/posthouse/runtime/start.py", "limit=watchdog.LIMIT", "limit=1e6"),),
    ),
    Fault(
        "a request for another store is taken",
        FOREIGN,
        (
            (
                f"{STEPS}/receiving.py",
                "        if meant is not _US:\n",
                "        if meant is not Meant.US and not meant:\n",
            ),
        ),
    ),
    Fault(
        "a second store is not refused at start",
        FOREIGN,
        ((f"{JOURNAL}/journals.py", "            self._must_be_ours(service, store)\n", ""),),
    ),
    Fault(
        "what is acked is not forgotten",
        GROWTH,
        (
            (
                f"{STEPS}/receiving.py",
                "        self._books.forget_requests(lane.lane, below=max(before, acked.floor), ranges=ranges)\n",
                "",
            ),
        ),
    ),
    Fault(
        "what is settled is kept for ever",
        GROWTH,
        (
            (
                f"{STEPS}/forgetting.py",
                "        dropped += books.forget_calls(\n",
                "        dropped += 0 and books.forget_calls(\n",
            ),
        ),
    ),
    Fault(
        "the floor of a feed is above the highest event that was had",
        NEWS,
        (
            (
                f"{STEPS}/deciding.py",
                "        feed.over.add_all(numbers)\n",
                "        feed.over = type(feed.over)(max(feed.over.floor, *(number + 1 for number in numbers)), [])\n",
            ),
        ),
    ),
    Fault(
        "that an event was had is not in the transaction of its effect",
        NEWS,
        (
            (f"{STEPS}/deciding.py", "    result.are_over(books)\n    if tells:", "    if tells:"),
            (
                f"{JOURNAL}/ends.py",
                "    def _were_decided(self, endings: Sequence[Ending], done: asyncio.Future[Decided]) -> None:\n",
                """    def _were_decided(self, endings: Sequence[Ending], done: asyncio.Future[Decided]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._store.commit(done.result().are_over, name="over")
""",
            ),
        ),
    ),
    Fault(
        "an event leaves before it is on the disk",
        NEWS,
        ((f"{JOURNAL}/publisher.py", 'name="tell", flush=True', 'name="tell"'),),
    ),
    Fault(
        "a publisher names only the stream of its present life",
        "tests/unit/runtime/test_journal_pulling.py",
        ((f"{STEPS}/pulling.py", "for epoch in self._epochs\n        ]", "for epoch in self._epochs[-1:]\n        ]"),),
    ),
    Fault(
        "events are sent to who asks before they are on the disk",
        "tests/unit/runtime/test_journal_pulling.py",
        ((f"{JOURNAL}/publisher.py", 'name="answer pull", flush=True', 'name="answer pull"'),),
    ),
    Fault(
        "where a stream begins is not written when old events are dropped",
        "tests/unit/runtime/test_journal_gaps.py",
        ((f"{STEPS}/telling.py", "            stream.first = stream.next if first < 0 else first\n", ""),),
    ),
)
