"""From results to what a person reads, and to JSON."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import ROOT, Measure, Results, Target, summary

_VERSIONS = (("nats-server", "-v"), ("redis-server", "-v"))


def text_of(results: Results) -> str:
    """Return a job's tables, one a measure, and beneath them what we aim at."""
    job = results.job
    parts = [f"## {job.name}: {job.title}"]
    if job.note:
        parts.append(job.note)
    for measure in job.measures:
        if rows := _rows(results, measure):
            parts.append("\n".join(rows))
    if verdicts := [row for target in job.targets if (row := _verdict(results, target))]:
        parts.append("\n".join(["| aim | measured | reached |", "|---|---|---|", *verdicts]))
    parts += [f"Skipped: {name}: {why}." for name, why in results.skipped.items()]
    if disturbed := {name: number for name, number in results.disturbed.items() if number}:
        shown = ", ".join(f"{name} {number}" for name, number in disturbed.items())
        parts.append(f"Runs kept although another process used the CPU: {shown}.")
    return "\n\n".join(parts)


def json_of(results: Sequence[Results]) -> dict[str, Any]:
    """Return everything that was measured, with the machine that it was measured on."""
    return {
        "machine": machine(),
        "jobs": {
            each.job.name: {
                "results": {
                    name: {
                        measure.key: summary([reading[measure.key] for reading in readings])
                        for measure in each.job.measures
                        if measure.key in readings[0]
                    }
                    for name, readings in each.readings.items()
                },
                "targets": [found for target in each.job.targets if (found := _judge(each, target))],
                "disturbed": each.disturbed,
                "skipped": each.skipped,
            }
            for each in results
        },
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import os

    import apsw

    cpu = ""
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line), ""
        )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "servers": [said for argv in _VERSIONS if (said := _version(argv))],
        "commit": commit.stdout.strip(),
    }


def _version(argv: tuple[str, str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def _rows(results: Results, measure: Measure) -> list[str]:
    rows = [f"| {measure.label} | min | median | max | ratio |", "|---|---|---|---|---|"]
    base = 0.0
    for name, readings in results.readings.items():
        values = [reading[measure.key] * measure.scale for reading in readings if measure.key in reading]
        if values:
            found = summary(values)
            base = base or found["median"]
            ratio = f"{found['median'] / base:.2f}" if base else ""
            rows.append(f"| {name} | {' | '.join(_shown(found[key]) for key in ('min', 'median', 'max'))} | {ratio} |")
    return rows if len(rows) > 2 else []


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


def _judge(results: Results, target: Target) -> dict[str, Any]:
    """Return what was aimed at and what was measured; empty where one side was not measured."""
    ours = _median(results, target.who, target.measure)
    theirs = _median(results, target.peer, target.peer_measure or target.measure) if target.peer else 1.0
    if not ours or not theirs:
        return {}
    measured = ours / theirs
    reached = measured <= target.bound if target.most else measured >= target.bound
    measure = next(measure for measure in results.job.measures if measure.key == target.measure)
    return {
        "what": f"{target.who}: {measure.label}",
        "bound": ("at most " if target.most else "at least ")
        + (f"{target.bound:g}x {_of_peer(target)}" if target.peer else _shown(target.bound * measure.scale)),
        "measured": f"{measured:.2f}x" if target.peer else _shown(measured * measure.scale),
        "reached": reached,
    }


def _of_peer(target: Target) -> str:
    return "itself at the start" if target.peer == target.who else target.peer


def _verdict(results: Results, target: Target) -> str:
    found = _judge(results, target)
    if not found:
        return ""
    return f"| {found['what']}, {found['bound']} | {found['measured']} | {'yes' if found['reached'] else 'NO'} |"


def _median(results: Results, who: str, key: str) -> float:
    values = [reading[key] for reading in results.readings.get(who, []) if key in reading]
    return median(values) if values else 0.0
