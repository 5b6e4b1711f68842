"""Looks into our own programs while they are measured: which functions take the time.

"cprofile" counts every call and slows the program down, most where functions are small; "py-spy"
samples from outside and hardly does. Neither's runs are to be compared with others.
"""

from __future__ import annotations

import pstats
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

KINDS = ("cprofile", "py-spy")
TOP = 30


class Profiler:
    """Profiles what it is told to.

    Args:
        kind: "cprofile", "py-spy", or empty for none.
        peers: the interpreter beside which py-spy may be installed.
    """

    def __init__(self, kind: str, peers: Path | None) -> None:
        self._kind = kind
        self._folder = Path(tempfile.mkdtemp(prefix="bench-profile-")) if kind else Path()
        self._files: dict[str, list[Path]] = {}
        self._spies: dict[int, subprocess.Popen[bytes]] = {}
        beside = str(peers.parent) if peers else None
        self._spy = shutil.which("py-spy", path=beside) or shutil.which("py-spy")
        if kind == "py-spy" and self._spy is None:
            raise SystemExit("py-spy is not installed, neither in the peers' environment nor on the PATH")

    def prepare(self, name: str, env: dict[str, str]) -> None:
        """Make a program that is about to start profile itself."""
        if self._kind == "cprofile":
            env["BENCH_CPROFILE"] = str(self._next(name))

    def attach(self, name: str, pid: int) -> None:
        """Begin to sample a program that was started."""
        if self._kind == "py-spy" and self._spy:
            argv = [self._spy, "record", "--pid", str(pid), "--rate", "500", "--format", "raw", "--nonblocking"]
            argv += ["--output", str(self._next(name))]
            self._spies[pid] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def detach(self, pid: int) -> None:
        """Stop to sample."""
        if spy := self._spies.pop(pid, None):
            try:
                spy.wait(5)  # it ends when what it looks at has ended
            except subprocess.TimeoutExpired:
                spy.send_signal(signal.SIGINT)
                spy.wait(10)

    def report(self) -> str:
        """Return what was found, and forget it."""
        texts = [self._text(name, [file for file in files if file.exists()]) for name, files in self._files.items()]
        self._files.clear()
        return "\n\n".join(texts)

    def close(self) -> None:
        """Remove what was written."""
        if self._kind:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _next(self, name: str) -> Path:
        files = self._files.setdefault(name, [])
        files.append(self._folder / f"{name.replace(' ', '-')}-{len(files)}")
        return files[-1]

    def _text(self, name: str, files: list[Path]) -> str:
        if not files:
            return f"### {name}: nothing was recorded"
        if self._kind == "py-spy":
            return f"### {name}\n{_of_samples(files)}"
        import io

        out = io.StringIO()
        stats = pstats.Stats(*map(str, files), stream=out)
        stats.strip_dirs().sort_stats("tottime").print_stats(TOP)
        return f"### {name}\n{out.getvalue().strip()}"


def _of_samples(files: list[Path]) -> str:
    """Return a table: the share of samples in a function itself, and in it with all that it called."""
    own, whole, total = Counter[str](), Counter[str](), 0
    for file in files:
        for line in file.read_text(errors="replace").splitlines():
            stack, _, number = line.rpartition(" ")
            if "<frozen importlib" in stack:
                continue  # job 6 measures the start
            frames = [frame.rpartition(":")[0] or frame for frame in stack.split(";")]  # by function, not by line
            count = int(number)
            total += count
            own[frames[-1]] += count
            for frame in set(frames):
                whole[frame] += count
    rows = [f"{'itself':>7} {'whole':>7}  function ({total} samples)"]
    for frame, count in own.most_common(TOP):
        rows.append(f"{count / total:7.1%} {whole[frame] / total:7.1%}  {frame}")
    rows.append("  most with all that they call:")
    for frame, count in whole.most_common(TOP):
        rows.append(f"{own[frame] / total:7.1%} {count / total:7.1%}  {frame}")
    return "\n".join(rows)
