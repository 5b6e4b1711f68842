"""J3: HTTP through a gateway to a service in another process and back, 64 connections, by wrk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from benchmarks.bench import Bench, Job, Measure, Participant, Reading, Target, free_port
from benchmarks.child import Child
from benchmarks.talk import order

CONNECTIONS, SECONDS, WARM_UP = 64, 4, 1
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def _ours(path: str) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, port = f"sqlite:{bench.place()}/data", free_port()
        service = bench.ours("behind", where, look="service behind the gateway")
        service.expect("READY")
        gateway = bench.command(
            sys.executable,
            "-m",
            "posthouse.cli",
            "gateway",
            "--bind",
            f"127.0.0.1:{port}",
            "--transport",
            where,
            look="gateway",
        )
        return _measured(bench, port, path, gateway, service)

    return once


def _web(app: str) -> Callable[[Bench], Reading]:
    def once(bench: Bench) -> Reading:
        where, mark, port = bench.nats(), bench.mark(), free_port()
        service = bench.peer("nats_calls", "serve", where, mark, 0)
        service.expect("READY")
        argv = [bench.peers, "-m", "uvicorn", f"benchmarks.peers.{app}:app", "--port", port]
        argv += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"]
        gateway = bench.command(*argv, WEB_NATS=where, WEB_SUBJECT=mark)
        return _measured(bench, port, "/order", gateway, service)

    return once


def _measured(bench: Bench, port: int, path: str, gateway: Child, service: Child) -> Reading:
    url = f"http://127.0.0.1:{port}{path}"
    body = json.dumps(order(7))
    _wait_for_answer(url, body.encode(), gateway)
    script = bench.place() / "post.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[{body}]==]\n'
    )
    _wrk(url, str(script), WARM_UP)
    before = gateway.cpu, service.cpu
    reading = _wrk(url, str(script), max(1, round(SECONDS * bench.scale)))
    requests = reading.pop("requests")
    reading["cpu_gateway"] = (gateway.cpu - before[0]) / requests
    reading["cpu_service"] = (service.cpu - before[1]) / requests
    return reading


def _wait_for_answer(url: str, body: bytes, gateway: Child) -> None:
    end = time.monotonic() + 20
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200 and json.loads(answer.read())["id"] == 7:
                    return
                trouble = f"it answers {answer.status}"
        except (urllib.error.URLError, OSError) as error:
            trouble = str(error)
        if time.monotonic() > end:
            raise RuntimeError(f"{gateway.argv} does not answer POST {url}: {trouble}{gateway.last_words}")
        time.sleep(0.05)


def _wrk(url: str, script: str, seconds: int) -> Reading:
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", script, url]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=seconds + 30).stdout
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return {
        "rate": float(_found(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "p50": _seconds(_found(r"50%\s+([\d.]+)(us|ms|s|m)", text)),
        "p99": _seconds(_found(r"99%\s+([\d.]+)(us|ms|s|m)", text)),
        "errors": float(wrong[1] if wrong else 0) + sum(float(each) for each in (lost.groups() if lost else ())),
        "requests": float(_found(r"(\d+) requests in", text)[1]),
    }


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk did not say {pattern}: {text}")
    return match


def _seconds(match: re.Match[str]) -> float:
    return float(match[1]) * _UNITS[match[2]]


VOLATILE, QUEUED = "posthouse gateway, volatile", "posthouse gateway, queued"
JOURNALED = "posthouse gateway, journaled"
STARLETTE, FASTAPI = "Starlette + nats-py", "FastAPI + nats-py"
_NEEDS = ("wrk", "nats-server", "peers", "nats", "uvicorn")

JOB = Job(
    name="j3",
    title="HTTP through a gateway to a service in another process and back, 64 connections",
    note="posthouse and FastAPI check the body against its types before it is passed on; Starlette passes bytes.",
    participants=(
        Participant(STARLETTE, _web("starlette_gateway"), (*_NEEDS, "starlette")),
        Participant(FASTAPI, _web("fastapi_gateway"), (*_NEEDS, "fastapi")),
        Participant(VOLATILE, _ours("/volatile"), ("wrk",)),
        Participant(QUEUED, _ours("/queued"), ("wrk",)),
        Participant(JOURNALED, _ours("/journaled"), ("wrk",)),
    ),
    measures=(
        Measure("rate", "HTTP requests/s"),
        Measure("p50", "p50 ms", 1e3),
        Measure("p99", "p99 ms", 1e3),
        Measure("cpu_gateway", "CPU of the gateway, us a request", 1e6),
        Measure("cpu_service", "CPU of the service, us a request", 1e6),
        Measure("errors", "answers other than 2xx"),
    ),
    targets=(
        Target("rate", VOLATILE, 1.0, STARLETTE),
        Target("rate", QUEUED, 1.0, FASTAPI),
        Target("rate", JOURNALED, 4_000),
    ),
)
