"""The commands that look into stores, and change something there by hand, with services that run, die and are gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.backends import open_store
from posthouse.clock import SystemClock
from posthouse.protocol.epoch import Identity
from tests.system.cli_program import PATIENCE, Program, Ran, Watched, posthouse

pytestmark = pytest.mark.system

APP = """
import asyncio
from pathlib import Path
from msgspec import Struct
from posthouse import Context, NotDoneError, OutcomeUnknownError, Service

class Order(Struct):
    sku: str

shop, prices, stock = Service("shop"), Service("prices"), Service("stock")

@stock.handler
async def take(order: Order) -> bool:
    if order.sku == "slow":
        print("takes slow", flush=True)
        await asyncio.sleep(3600)
    return True

@prices.handler(attempts=1, exhausted="park")
async def quote(order: Order, ctx: Context) -> str:
    await ctx.call(take, order, timeout="100ms")
    if order.sku == "broken" and not Path("mended").exists():
        raise ValueError("no price for broken")
    return f"{order.sku} costs 5"

@prices.handler(attempts=1)
async def guess(order: Order) -> str:
    raise ValueError("cannot guess")

@shop.handler
async def buy(order: Order, ctx: Context) -> str:
    try:
        return await ctx.call(quote, order, timeout="100ms")
    except OutcomeUnknownError:
        return "nobody knows"
    except NotDoneError as error:
        return f"not done: {error}"

@shop.handler
async def ask(order: Order, ctx: Context) -> str:
    try:
        return await ctx.call(guess, order)
    except NotDoneError:
        return "no"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "posthouse.toml").write_text('grace = "100ms"')  # some handlers never end
    return tmp_path


@pytest.fixture
def serving(place: Path) -> Iterator[Program]:
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        yield program
        program.signal(signal.SIGTERM)
        assert program.ended() == 0


def run(place: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a command, and return its records."""
    return posthouse(*arguments, "--json", cwd=place).records


def send(place: Path, operation: str, sku: str) -> str:
    return run(place, "send", operation, json.dumps({"sku": sku}))[0]["id"]


def until(ask: Callable[[], Ran], good: Callable[[Ran], bool]) -> Ran:
    """Ask again and again, until the answer is good; each time costs a process, so nothing needs to sleep."""
    deadline = time.monotonic() + PATIENCE
    while not good(answer := ask()):
        assert time.monotonic() < deadline, f"it never came true: {answer}"
    return answer


def why(place: Path, id: str, says: str) -> Ran:
    """Wait until `messages why` says something."""
    return until(lambda: posthouse("messages", "why", id, cwd=place), lambda ran: says in ran.out)


def looked_at(place: Path, service: str) -> tuple[Identity, list[str]]:
    """Return who a store is, and its members."""

    async def look() -> tuple[Identity, list[str]]:
        store = open_store(f"sqlite:{place / '.posthouse'}", service=service, instance="test", clock=SystemClock())
        await store.look()
        try:
            return store.identity, [each.instance for each in await store.read(lambda books: books.members())]
        finally:
            await store.close()

    return asyncio.run(look())


# --- looking ----------------------------------------------------------------------------------------------


def test_a_request_that_rests_is_shown_from_both_sides_and_looking_changes_no_store(serving: Program, place: Path):
    id = send(place, "shop.buy", "slow")
    serving.line(lambda line: line == "takes slow\n", "that the stock works")
    text = why(place, id, "stock runs it")
    before = [looked_at(place, service) for service in ("shop", "prices", "stock")]
    assert [(identity.epoch, len(members)) for identity, members in before] == [(1, 1)] * 3

    [seen] = run(place, "messages", "get", id[:16])
    [quote] = seen["inside"]
    [take] = quote["inside"]
    shown = posthouse("messages", "get", id, cwd=place)
    listed = {row["operation"]: row for row in run(place, "messages", "ls")}
    running = run(place, "messages", "ls", "--state", "running")
    outbox = {(row["caller"], row["service"]): row for row in run(place, "outbox")}
    inbox = run(place, "inbox", "prices")
    lanes = {(row["caller"], row["service"]): row for row in run(place, "lanes", "ls")}

    assert text.status == 1
    assert f"attempt 1, on instance {take['request']['instance']['id'][:8]} (pid {serving.process.pid} on" in text.out
    assert (seen["caller"], seen["operation"], seen["data"]) == ("cli", "shop.buy", {"sku": "slow"})
    assert [seen["request"]["state"], quote["request"]["state"], take["request"]["state"]] == [
        "suspended",
        "suspended",
        "running",
    ]
    assert (quote["call"]["state"], quote["call"]["wanted_by"], quote["work"]) == ("open", "handler", id)
    assert f"{take['id']}  stock.take  open, running there" in shown.out
    assert {name: row["state"] for name, row in listed.items()} == {
        "shop.buy": "suspended",
        "prices.quote": "open",
        "stock.take": "open",
    }
    assert [row["id"] for row in running] == [take["id"]]
    assert outbox["prices", "stock"]["states"] == {"open": 1}
    assert [(row["operation"], row["state"], row["requests"]) for row in inbox] == [("prices.quote", "suspended", 1)]
    lane = lanes["shop", "prices"]
    assert (lane["next"], lane["pending"], lane["bound_to_this"], lane["there"]["next"]) == (1, 1, True, 1)
    assert [looked_at(place, service) for service in ("shop", "prices", "stock")] == before


def test_a_call_that_times_out_tells_how_to_see_how_it_stands(place: Path):
    posthouse("_announce", "app.py", cwd=place)

    pending = posthouse("call", "shop.buy", '{"sku": "tea"}', "--timeout", "0.2s", "--json", cwd=place)

    *_, error = pending.err.splitlines()
    told = json.loads(error)
    assert (pending.status, told["code"]) == (3, "call.pending")
    assert f"`posthouse messages why {told['id']}`" in told["hint"]
    lying = posthouse("messages", "why", told["id"], cwd=place)
    assert (lying.status, "which may lie in a queue: there are 1 for shop.buy" in lying.out) == (1, True)
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        done = why(place, told["id"], "done by shop")
    assert done.status == 0
    assert run(place, "messages", "get", told["id"])[0]["outcome"]["data"] == "tea costs 5"


def test_where_the_replier_is_not_there_or_has_died_it_is_said(place: Path):
    posthouse("_announce", "app.py", cwd=place)
    with Program("run", "app.py:shop", "app.py:prices", cwd=place) as asking:
        asking.event("ready")
        id = send(place, "prices.quote", "slow")
        nobody = why(place, id, "nobody serves stock now")
        with Program("run", "app.py:stock", cwd=place) as stock, Watched(stock.event("ready")["pid"]) as watched:
            stock.line(lambda line: line == "takes slow\n", "that the stock works")
            stock.process.kill()
            assert watched.all_gone()
            gone = why(place, id, "is gone, and no other is there")

    assert nobody.status == gone.status == 1
    assert "do: Start stock" in nobody.out
    assert "(attempt 1) is gone" in gone.out


def test_what_no_store_knows_is_status_2_and_a_short_beginning_of_several_is_too(serving: Program, place: Path):
    ids = [send(place, "prices.quote", "tea") for _ in range(2)]
    why(place, ids[1], "done by prices")

    unknown = posthouse("messages", "why", "no-such-id", cwd=place)
    several = posthouse("messages", "get", ids[0][:4], cwd=place)
    no_store = posthouse("inbox", "pricse", cwd=place)

    assert (unknown.status, several.status, no_store.status) == (2, 2, 4)
    assert "no store here knows a request or an event 'no-such-id'" in unknown.err
    assert ids[0] in several.err
    assert "did you mean 'prices'" in no_store.err


# --- dead letters -----------------------------------------------------------------------------------------


def test_a_parked_request_is_replayed_once_its_cause_is_mended_and_its_caller_is_told(serving: Program, place: Path):
    ids = [send(place, "shop.buy", "broken") for _ in range(2)]
    for id in ids:
        why(place, id, "parked at prices after")
    letters = run(place, "dead", "ls", "--operation", "prices.quote")

    again = posthouse("dead", "replay", letters[0]["id"], cwd=place)
    back = until(
        lambda: posthouse("dead", "ls", "--json", cwd=place),
        lambda ran: (
            {letter["attempts"] for letter in ran.records} == {letters[1]["attempts"], letters[0]["attempts"] + 1}
        ),
    ).records
    (place / "mended").touch()
    dry = posthouse("dead", "replay", "--cause", letters[0]["cause"][:6], "--dry-run", cwd=place)
    replayed = posthouse("dead", "replay", "--cause", letters[0]["cause"], cwd=place)
    told = [why(place, id, "done by shop") for id in ids]

    assert {letter["cause"] for letter in [*letters, *back]} == {letters[0]["cause"]}
    assert (again.out, dry.out, replayed.out) == ("1 replayed\n", "2 would be replayed\n", "2 replayed\n")
    assert [ran.status for ran in told] == [0, 0]
    assert [run(place, "messages", "get", id)[0]["outcome"]["data"] for id in ids] == ["broken costs 5"] * 2
    assert posthouse("dead", "ls", cwd=place).status == 0


def test_a_parked_request_that_is_dropped_is_not_done_for_its_caller(serving: Program, place: Path):
    id = send(place, "shop.buy", "broken")
    why(place, id, "parked at prices")
    [letter] = run(place, "dead", "ls")

    dropped = posthouse("dead", "drop", letter["id"], "stock:9", "--json", cwd=place)
    why(place, id, "done by shop")

    assert dropped.records == [{"id": letter["id"], "outcome": "dropped"}, {"id": "stock:9", "outcome": "unknown"}]
    [seen] = run(place, "messages", "get", id)
    assert seen["outcome"]["data"].startswith("not done: prices.quote was given up by an operator")


def test_a_failed_request_is_replayed_only_as_a_new_one(serving: Program, place: Path):
    id = send(place, "shop.ask", "tea")
    why(place, id, "done by shop")
    [letter] = run(place, "dead", "ls")

    shown = posthouse("dead", "show", id, cwd=place)
    left = posthouse("dead", "replay", letter["id"], cwd=place)
    [anew] = run(place, "dead", "replay", letter["id"], "--as-new")
    why(place, anew["new_id"], "parked at prices")  # nobody waits for the new one, so it is left to an operator

    assert f"dead letter  {letter['id']}" in shown.out
    assert "that of a call which its handler made" in shown.err
    assert (left.status, left.out) == (1, "0 replayed\n")
    assert "--as-new" in left.err
    assert (letter["state"], anew["outcome"]) == ("failed", "replayed")
    [new] = run(place, "dead", "ls")
    assert (new["message_id"], new["data"], new["cause"]) == (anew["new_id"], {"sku": "tea"}, letter["cause"])


def test_letters_of_queues_and_of_stores_are_in_one_list(place: Path):
    queued = APP.replace("@prices.handler(attempts=1)", '@prices.handler(attempts=1, mode="queued", exhausted="park")')
    (place / "app.py").write_text(queued)
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        send(place, "prices.guess", "tea")
        send(place, "prices.quote", "broken")
        letters = until(lambda: posthouse("dead", "ls", "--json", cwd=place), lambda ran: len(ran.records) == 2).records
        dropped = posthouse("dead", "drop", *(letter["id"] for letter in letters), cwd=place)

    assert {(letter["operation"], letter["kept"], letter["id"]) for letter in letters} == {
        ("prices.guess", "queue", "1"),
        ("prices.quote", "store", "prices:1"),
    }
    assert dropped.out == "2 dropped\n"


# --- lanes ------------------------------------------------------------------------------------------------


def test_a_lane_to_a_replier_that_is_gone_for_good_is_retired_and_handlers_go_on(place: Path):
    posthouse("_announce", "app.py", cwd=place)
    with Program("run", "app.py:shop", cwd=place) as shop:
        shop.event("ready")
        id = send(place, "shop.buy", "tea")
        why(place, id, "nobody serves prices now")

        said = posthouse("lanes", "retire", "shop->prices", cwd=place)
        still = posthouse("messages", "why", id, cwd=place)
        [done] = run(place, "lanes", "retire", "shop->prices", "--yes")
        why(place, id, "done by shop")

    assert (said.status, "1 would be unknown, 0 would be not done" in said.out) == (1, True)
    assert "nobody serves prices now" in still.out
    assert done["done"]
    assert run(place, "messages", "get", id)[0]["outcome"]["data"] == "nobody knows"
    [unknown] = run(place, "messages", "ls", "--state", "unknown")
    assert done["unknown"] == [unknown["id"]]
    assert "unknown: an operator has retired the lane" in posthouse("messages", "why", unknown["id"], cwd=place).out


def test_in_prod_a_lane_goes_over_to_another_store_only_when_an_operator_says_so(place: Path):
    prod = ["--env", "prod", "--transport", f"sqlite:{place / '.posthouse'}"]
    with Program("run", "app.py", *prod, cwd=place) as program:
        program.event("ready")
        why(place, send(place, "shop.buy", "tea"), "done by shop")
        program.signal(signal.SIGTERM)
        assert program.ended() == 0
    lost = looked_at(place, "prices")[0].id
    for file in (place / ".posthouse" / "stores").glob("prices.db*"):
        file.unlink()
    with Program("run", "app.py", *prod, cwd=place) as program:
        program.event("ready")
        new = looked_at(place, "prices")[0].id
        id = send(place, "shop.buy", "milk")
        other = why(place, id, "another store of prices")

        unknown = posthouse("lanes", "map", "shop->prices", "nothing", cwd=place)
        retire = posthouse("lanes", "retire", "shop->prices", "--yes", cwd=place)
        said = posthouse("lanes", "map", "shop->prices", new[:8], cwd=place)
        done = posthouse("lanes", "map", "shop->prices", new, "--yes", cwd=place)
        twice = posthouse("lanes", "map", "shop->prices", new, "--yes", cwd=place)
        why(place, id, "done by shop")

    assert f"another store of prices ({lost[:8]}) than is here now ({new[:8]})" in other.out
    assert f"posthouse lanes map 'shop->prices' {new[:8]}" in other.out
    assert (unknown.status, new in unknown.err) == (2, True)
    assert (retire.status, "so its store is not gone" in retire.err) == (2, True)
    assert (said.status, "--yes does it" in said.err) == (1, True)
    assert (done.status, "one request is asked of it" in done.out) == (0, True)
    assert "already" in twice.err
    assert run(place, "messages", "get", id)[0]["outcome"]["data"] == "milk costs 5"


# --- stores that are damaged, or copies ---------------------------------------------------------------------


def damage_a_page(path: Path) -> None:
    """Overwrite a page that nothing but a look at everything would read."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        [[page]] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'posthouse_keys_by_until'")
        [[size]] = database.execute("PRAGMA page_size")
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))


def test_doctor_says_of_each_store_whether_it_is_whole_and_where_it_should_be(place: Path):
    with Program("run", "app.py", cwd=place) as program:
        program.event("ready")
        why(place, send(place, "shop.buy", "tea"), "done by shop")
        good = {row["name"]: row for row in run(place, "doctor")}
        program.signal(signal.SIGTERM)
        assert program.ended() == 0
    copy = place / "copy"
    shutil.copytree(place / ".posthouse", copy)
    (copy / "stores" / "prices.db").write_bytes(os.urandom(4096))
    damage_a_page(copy / "stores" / "stock.db")

    bad = posthouse("doctor", "--data", str(copy), "--json", cwd=place)
    verdicts = {row["name"]: row for row in bad.records}
    others = posthouse("messages", "ls", "--data", str(copy), cwd=place)

    assert [good[f"store {service}"]["verdict"] for service in ("shop", "prices", "stock")] == ["ok"] * 3
    assert "whole" in good["store shop"]["text"]
    assert bad.status == 3
    assert [verdicts[f"store {service}"]["verdict"] for service in ("shop", "prices", "stock")] == [
        "care",
        "bad",
        "bad",
    ]
    assert "lies elsewhere" in verdicts["store shop"]["text"]
    assert "; damaged: " in verdicts["store stock"]["text"]
    assert "the store of prices cannot be read, and is left out" in others.err


def test_nothing_is_changed_by_hand_in_a_store_that_lies_elsewhere_than_before(place: Path):
    posthouse("_announce", "app.py", cwd=place)
    with Program("run", "app.py:shop", cwd=place) as shop:
        shop.event("ready")
        why(place, send(place, "shop.buy", "tea"), "nobody serves prices now")
    shutil.copytree(place / ".posthouse" / "stores", place / "copy" / "stores")

    refused = posthouse("lanes", "retire", "shop->prices", "--yes", "--data", "copy", cwd=place)

    assert (refused.status, "Start shop once" in refused.err) == (3, True)
    assert looked_at(place, "shop")[0].epoch == 1
