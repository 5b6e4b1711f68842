"""The demo: real webhooks, services in processes of their own, and one of them killed every half second.

    make demo                                  or: python examples/webhooks/demo.py
    make demo ARGS="--seed 7 --kills 40"       another storm, and a longer one
    make demo ARGS="--keep"                    keeps the directory with the stores and the log

`posthouse up` runs the gateway and the services of app.py on a fresh directory. Recorded deliveries go
through the gateway, while processes are killed (kill -9) at random moments, the gateway too, and the
transport is deleted once under all of them. When all is quiet, the services' own stores are read. The last
line is JSON; the exit status is 0 only if nothing is lost and nothing was done twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import NoReturn

from ledger import Ledger
from sender import HERE, Sender, recorded, shared_secret
from storm import Storm
from system import System

PARTS = ("gateway", "relay", "stats", "chat", "guard", "directory", "board")
CONNECTIONS = 16
RATE = 60.0
"""Deliveries a second: it rains for about as long as it storms."""

PATIENCE = 45.0
"""Seconds for everything to be done, after all was sent."""

NEWS = 2.0
"""Seconds between two lines that say how far it is."""

START = time.monotonic()


def say(text: str) -> None:
    """Say what happens now, with the seconds since the start."""
    print(f"{time.monotonic() - START:5.1f} s  {text}", flush=True)


def main() -> int:
    """Run the demo, and clean up whatever happens."""
    options = argparse.ArgumentParser(description="Real webhooks through services that are killed all the time.")
    options.add_argument("--seed", type=int, default=1, help="of who is killed when [default: 1]")
    options.add_argument("--kills", type=int, default=30, help="how many [default: 30]")
    options.add_argument("--rounds", type=int, default=3, help="how often each recording is sent [default: 3]")
    options.add_argument("--keep", action="store_true", help="keep the directory with stores and log")
    chosen = options.parse_args()

    signal.signal(signal.SIGTERM, end)
    folder = Path(tempfile.mkdtemp(prefix="posthouse-"))
    try:
        return play(folder, seed=chosen.seed, kills=chosen.kills, rounds=chosen.rounds)
    except RuntimeError as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; no process is left")
        return 130
    finally:
        if chosen.keep:
            say(f"Everything that was written is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def play(folder: Path, *, seed: int, kills: int, rounds: int) -> int:
    """Start, send, kill, wait, stop, and read the stores; return the exit status."""
    rng = Random(seed)
    deliveries = recorded(rounds, rng)
    kinds = len({delivery.kind for delivery in deliveries})
    board = folder / "board.txt"
    ledger = Ledger(folder, board, deliveries)
    port = free_port()

    say(f"Starting a gateway and {len(PARTS) - 1} services, each a process of its own, on {folder}")
    with System(HERE / "app.py", data=folder, port=port, board=board, tell=say) as system:
        system.wait_until_ready()
        say(f"Ready: http://127.0.0.1:{port}/github")

        sender = Sender("127.0.0.1", port, secret=shared_secret())
        status, code = sender.forge(deliveries[0])
        say(f"A forged delivery, signed with a guessed secret: {status} {code}")
        if status != 401:
            raise RuntimeError("the forged delivery was not refused with 401")

        say(f"Sending {len(deliveries)} deliveries of {kinds} kinds, {RATE:g} a second; {kills} kills meanwhile")
        began = time.monotonic()
        storm = Storm(system, PARTS, kills=kills, rng=rng, tell=say)
        with progress(sender, ledger, len(deliveries)):
            storm.begin()
            try:
                sender.send_all(deliveries, connections=CONNECTIONS, rate=RATE)
                say(f"All {len(deliveries)} are taken, after {sender.again} were sent again")
                storm.over()
            finally:
                storm.calm()
            system.wait_until_whole()
            say("No more kills. Waiting until all is done")
            if not quiet_in_time(system):
                say(f"It is not quiet after {PATIENCE:g} s. The last lines of the log:")
                print("\n".join(system.log()[-20:]))
        seconds = time.monotonic() - began
        dead = system.dead_letters()
        say("Stopping")
    if system.alive():
        raise RuntimeError(f"these processes are left: {system.alive()}")
    say("Stopped; no process is left")
    return report(ledger, system, sender, wipes=storm.wipes, dead=dead, seconds=seconds)


def report(ledger: Ledger, system: System, sender: Sender, *, wipes: int, dead: int, seconds: float) -> int:
    """Print what is in the stores; return the exit status."""
    lines = ledger.lines()
    lost, double = sum(line.lost for line in lines), sum(line.double for line in lines)
    print("\nWhat the services have in their own stores:\n")
    print(f"  {'service':<11}{'what it did':<15}{'should':>8}{'has':>8}{'lost':>8}{'double':>8}")
    for line in lines:
        print(f"  {line.service:<11}{line.what:<15}{line.expected:>8}{line.found:>8}{line.lost:>8}{line.double:>8}")
    print("\nSome of what stands in them:\n")
    for service, what in (("chat", "told talk"), ("chat", "told push"), ("guard", "raised alarm")):
        print(f"  {service:<11}{ledger.last(service, what)}")
    missed, twice = ledger.board()
    print(f"\nBeside them the board, by events, which are queued: {missed} were lost, {twice} came twice")
    print(f"Killed: {', '.join(f'{part} {count}' for part, count in sorted(system.kills.items()))}")

    result = {
        "received": sender.taken,
        "effects": sum(line.found for line in lines),
        "lost": lost,
        "double": double,
        "kills": system.kills.total(),
        "wipes": wipes,
        "seconds": round(seconds, 1),
        "sent_again": sender.again,
        "dead_letters": dead,
        "ended_otherwise": len(system.ended),
        "events": {"lost": missed, "twice": twice},
    }
    print(f"\n{json.dumps(result)}")
    return 0 if lost == double == dead == 0 else 1


def quiet_in_time(system: System) -> bool:
    """Wait until nothing is under way, for PATIENCE at most; return whether it is so.

    One look finds what it counts at different moments, so it is quiet when two of them find nothing.
    """
    until = time.monotonic() + PATIENCE
    nothing = 0
    while nothing < 2:
        if time.monotonic() > until:
            return False
        nothing = 0 if system.under_way() else nothing + 1
    return True


@contextmanager
def progress(sender: Sender, ledger: Ledger, wanted: int) -> Generator[None]:
    """Say how far it is, every now and then, as long as the block lasts."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(NEWS):
            say(f"  {sender.taken} of {wanted} taken, {ledger.count()} of {ledger.expected} effects")

    teller = threading.Thread(target=tell, name="progress")
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def end(number: int, _frame: FrameType | None) -> NoReturn:
    """End in order on SIGTERM, as on Ctrl-C: what was started must not stay."""
    sys.exit(128 + number)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
