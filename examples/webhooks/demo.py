"""The demo: real webhooks, services in processes of their own, and one of them killed on the way.

    make demo                              or: python examples/webhooks/demo.py
    make demo ARGS="--kill chat --keep"    kills another one, and keeps what it wrote

`posthouse up` runs the gateway and the five services of app.py on a fresh directory. All recorded
deliveries go through the gateway, one service is killed (kill -9) while it is at work, and when all is
quiet the services' own books are read. The last line is JSON; the exit status is 0 only if nothing
is missing from the books.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ledger import Ledger
from sender import HERE, Sender, recorded, shared_secret
from system import System

SERVICES = ("relay", "stats", "chat", "guard", "directory")
CONNECTIONS = 8
PATIENCE = 45.0
"""Seconds for everything to be handled, after all was sent."""

START = time.monotonic()


def say(text: str) -> None:
    """Say what happens now, with the seconds since the start."""
    print(f"{time.monotonic() - START:5.1f} s  {text}", flush=True)


def main() -> int:
    """Run the demo, and clean up whatever happens."""
    options = argparse.ArgumentParser(description="Real webhooks through five services, one of which is killed.")
    options.add_argument("--kill", default="relay", choices=SERVICES, help="which one [default: relay]")
    options.add_argument("--keep", action="store_true", help="keep the directory with queues, books and logs")
    chosen = options.parse_args()

    signal.signal(signal.SIGTERM, end)
    folder = Path(tempfile.mkdtemp(prefix="posthouse-"))
    try:
        return play(folder, kill=chosen.kill)
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


def play(folder: Path, *, kill: str) -> int:
    """Start, send, kill, wait, stop, and read the books; return the exit status."""
    deliveries = recorded()
    kinds = len({delivery.kind for delivery in deliveries})
    books = folder / "books"
    ledger = Ledger(books, deliveries)
    port = free_port()

    say(f"Starting a gateway and {len(SERVICES)} services, each a process of its own, on {folder}")
    with System(HERE / "app.py", data=folder, port=port, books=books, tell=say) as system:
        system.wait_until_ready()
        say(f"Ready: http://127.0.0.1:{port}/github")

        sender = Sender("127.0.0.1", port, secret=shared_secret())
        status, code = sender.forge(deliveries[0])
        say(f"A forged delivery, signed with a guessed secret: {status} {code}")
        if status != 401:
            raise RuntimeError("the forged delivery was not refused with 401")

        say(f"Sending {len(deliveries)} deliveries of {kinds} kinds, {CONNECTIONS} at a time")
        began = time.monotonic()

        def on_taken(count: int) -> None:
            if count == len(deliveries) // 3:
                say(f"{count} are in. kill -9 {system.pids[kill]}: {kill} dies in the middle of its work")
                os.kill(system.pids[kill], signal.SIGKILL)
            elif count % 100 == 0:
                say(f"{count} are in")

        sender.send_all(deliveries, connections=CONNECTIONS, taken=on_taken)
        repeated = f", {sender.again} after being sent again" if sender.again else ""
        say(f"All {len(deliveries)} are in{repeated}. Waiting until every service has done its part")

        if not quiet_in_time(system, ledger):
            say(f"The queues are not empty after {PATIENCE:g} s. The last lines of the log:")
            print("\n".join(system.log()[-20:]))
        seconds = time.monotonic() - began
        system.wait_until_restarted(kill)
        dead = system.dead_letters()
        say("Stopping")
    if system.alive():
        raise RuntimeError(f"these processes are left: {system.alive()}")
    say("Stopped; no process is left")
    return report(ledger, dead=dead, killed=kill, again=sender.again, seconds=seconds)


def report(ledger: Ledger, *, dead: int, killed: str, again: int, seconds: float) -> int:
    """Print what is in the books; return the exit status."""
    lines = ledger.lines()
    lost = ledger.lost()
    print("\nWhat the services have in their own books:\n")
    print(f"  {'service':<11}{'heard':<11}{'should':>8}{'has':>8}{'lost':>8}{'twice':>8}")
    for line in lines:
        missing = line.expected - line.found
        print(f"  {line.service:<11}{line.event:<11}{line.expected:>8}{line.found:>8}{missing:>8}{line.again:>8}")
    print(f"  {'directory':<11}{'questions':<11}{'':>8}{ledger.asked():>8}")
    duplicates = sum(line.again for line in lines)
    if duplicates:
        print("\n  twice: came again because of the kill, was known by its number, and was entered once")
    print("\nAnd some of what stands in them:\n")
    for service, event in (("chat", "discussed"), ("chat", "pushed"), ("guard", "alerted"), ("directory", "asked")):
        print(f"  {service:<11}{ledger.last(service, event)}")

    handled = Counter[str]()
    for line in lines:
        handled[line.service] += line.found
    result = {
        "received": handled["relay"],
        "handled": handled,
        "lost": lost,
        "duplicates": duplicates,
        "dead_letters": dead,
        "sent_again": again,
        "killed": killed,
        "seconds": round(seconds, 2),
    }
    print(f"\n{json.dumps(result)}")
    return 0 if lost == 0 and dead == 0 else 1


def quiet_in_time(system: System, ledger: Ledger) -> bool:
    """Wait until all queues are empty, for PATIENCE at most; return whether they are.

    The books are cheap to look at, and queues that are not empty are looked at again when the books are complete.
    """
    until = time.monotonic() + PATIENCE
    while system.stored():
        if time.monotonic() > until:
            return False
        soon = time.monotonic() + 1.0
        while ledger.lost() and time.monotonic() < soon:
            time.sleep(0.02)
    return True


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
