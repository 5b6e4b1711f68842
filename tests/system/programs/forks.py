"""A SyncClient at module level, used before and after a fork, as under a server that forks its workers.

It is run with a data directory, and prints one JSON object: what parent and child were answered.
"""

from __future__ import annotations

import json
import os
import sys

from msgspec import Struct

from posthouse import Service
from posthouse.sync import connect


class Step(Struct):
    name: str


echo_service = Service("echo")


@echo_service.handler
def echo(step: Step) -> str:
    return f"{step.name} by {os.getpid()}"


client = connect(echo_service, serve=True, transport=f"sqlite:{sys.argv[1]}")


def ask(name: str) -> str:
    return client.call(echo, Step(name), timeout="20s")


def main() -> None:
    before = ask("before")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answers = [ask(f"child {number}") for number in range(3)]
        client.close()
        os.write(writer, json.dumps({"child": answers, "pid": os.getpid()}).encode())
        os._exit(0)
    os.close(writer)
    after = [ask(f"parent {number}") for number in range(3)]
    _pid, status = os.waitpid(child, 0)
    told = b"".join(iter(lambda: os.read(reader, 65536), b""))
    client.close()
    print(json.dumps({"before": before, "after": after, "status": status, **json.loads(told or b"{}")}))


main()
