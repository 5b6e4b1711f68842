"""The peers' own environment: found, or made when it is first needed.

POSTHOUSE_BENCH_PEERS names one that is there already. Else it is made once, beside ours, from
`peers/requirements.txt`. Where it cannot be made, the peers are skipped and posthouse is measured alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VARIABLE = "POSTHOUSE_BENCH_PEERS"
REQUIREMENTS = Path(__file__).resolve().parent / "peers" / "requirements.txt"


def interpreter() -> Path | None:
    """Return the peers' interpreter, or None."""
    if named := os.environ.get(VARIABLE):
        python = Path(named) / "bin" / "python"
        if python.exists():
            return python
        print(f"{VARIABLE} names {named}, which has no bin/python: no peers", file=sys.stderr)
        return None
    return _made(Path(sys.prefix) / "bench-peers")


def _made(folder: Path) -> Path | None:
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    uv = Path(sys.prefix) / "bin" / "uv"
    print(f"Making an environment for the peers in {folder} ...", file=sys.stderr, flush=True)
    try:
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", REQUIREMENTS], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"It could not be made ({error}): no peers", file=sys.stderr)
        return None
    stamp.write_text(wanted)
    return python
