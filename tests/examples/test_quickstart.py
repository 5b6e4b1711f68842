"""The quickstart is the program that the docs begin with, and does what they say, by `posthouse dev` and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.cli_program import PATIENCE, Program, post

APP = Path(__file__).parents[2] / "examples" / "quickstart" / "app.py"

pytestmark = pytest.mark.system


def curl(url: str, data: str) -> object:
    """Do what the docs say: `curl URL --json DATA`; without curl, the same by hand."""
    if shutil.which("curl") is None:
        return post(url, json.loads(data))[1]
    done = subprocess.run(
        ["curl", "--silent", "--show-error", url, "--json", data],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(done.stdout)


def test_an_order_is_answered_and_audit_hears_of_it(tmp_path: Path):
    with Program("dev", str(APP), "--bind", "127.0.0.1:0", "--data", str(tmp_path / "data"), cwd=tmp_path) as dev:
        gateway = dev.event("ready")["gateway"]

        answer = curl(f"{gateway}/orders", '{"sku":"tea","qty":2}')

        assert answer == {"sku": "tea", "total": 19.0}
        dev.line(lambda line: line.strip() == "audited Price(sku='tea', total=19.0)", "that audit heard it")


def test_it_keeps_to_what_was_promised_of_a_first_program():
    lines = [line for line in APP.read_text().splitlines() if line.strip()]

    assert len(lines) <= 25
