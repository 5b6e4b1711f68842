"""All code in README.md, docs/ and the pages of examples/ runs, and does what the page shows.

A page is read as a person reads it, from the top, in one empty folder:

- **A ```python block** is run, each in a process and a folder of its own, as the module "app"; it must end
  by itself. What only a program started by hand should do stands below `if __name__ == "__main__":`.
- **Commands** are lines that begin with "$ " in an indented or a ```console block. Of them `posthouse` and
  `curl` are run, in order. `app.py` is the last python block before them. `posthouse dev`, `up`, `run` and
  `gateway` go on running; `dev` and `up` end what ran before. Port 8080 stands for whichever is free.
- **What is printed** below a command must be said, in this order. Lines may be left out; "..." stands for
  anything. Times, ids and process numbers need not be the same. A block after a line that ends in "shows"
  is what the program that serves prints.

A comment right before a block says otherwise:

    <!-- goes on -->                         it is run together with the python block before it
    <!-- from: examples/webhooks/app.py -->  it is not run: it is an excerpt of that file, to the letter
    <!-- change: OLD => NEW -->              a person would have changed app.py so, before this block
    <!-- not run: needs a Flask app -->      it is not run, for the reason named

docs/decisions/ is not read: what a decision shows was so when it was taken.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.examples.pages import Block, blocks_of
from tests.examples.reader import PATIENCE, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md"))
    if page.exists() and "decisions" not in page.parts
)
_AS_APP = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path('app.py', run_name='app')"


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path, so that the sockets of what runs in it lie there too."""
    with tempfile.TemporaryDirectory(prefix="page-", dir="/tmp") as name:
        yield Path(name)


def run_program(text: str, folder: Path) -> None:
    """Run a python block.

    Raises:
        AssertionError: it failed.
    """
    (folder / "app.py").write_text(text + "\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _AS_APP],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def programs_of(blocks: list[Block]) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each program of a page: a python block, with what it goes on from."""
    so_far = ""
    for block in blocks:
        if block.language != "python" or block.marks.keys() & {"not run", "from"}:
            continue
        so_far = f"{so_far}\n\n{block.text}" if "goes on" in block.marks else block.text
        yield block.line, so_far


def run_programs(page: Path, folder: Path) -> None:
    """Run the python blocks of a page."""
    for number, (line, text) in enumerate(programs_of(blocks_of(page))):
        place = folder / str(number)
        place.mkdir()
        try:
            run_program(text, place)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{page}:{line}: {error}") from None


def check_excerpts(page: Path) -> None:
    """Compare the blocks that come from a file with that file."""
    for block in blocks_of(page):
        if source := block.marks.get("from"):
            whole = (ROOT / source).read_text()
            found = block.text in whole or textwrap.indent(block.text, "    ") in whole
            assert found, f"{page}:{block.line}: this is not in {source}"


def read(page: Path, folder: Path) -> None:
    """Do what a page says, from its top to its end."""
    blocks = [block for block in blocks_of(page) if "not run" not in block.marks]
    followed = [block for block in blocks if any(runnable(command) for command in commands_of(block))]
    if not followed:
        return
    written = ""
    with Reader(folder) as reader:
        for block in blocks:
            if block.language == "python":
                app = block.text
                if app != written:
                    reader.write_app(app)
                    written = app
            try:
                if change := block.marks.get("change"):
                    reader.change_app(change)
                for command, shown in block.commands() if block.is_console else ():
                    if runnable(command):
                        reader.type(command, shown)
                if not block.language and not block.is_console and block.before.endswith("shows"):
                    reader.hear(block.text.splitlines())
            except (AssertionError, subprocess.TimeoutExpired) as error:
                raise AssertionError(f"{page}:{block.line}: {error}") from None


def commands_of(block: Block) -> list[str]:
    """Return the commands of a block; none when it is no console."""
    return [command for command, _ in block.commands()] if block.is_console else []


def runnable(command: str) -> bool:
    """Say whether a command is run; one with a pipe, a variable or a place to fill in is for people."""
    program, _, rest = command.partition(" ")
    if program == "curl" and shutil.which("curl") is None:
        return False
    return program in {"posthouse", "curl"} and not any(sign in rest for sign in ("|", "$", " && ", "..."))


@pytest.mark.parametrize("page", PAGES)
def test_every_program_of_a_page_runs(page: str, folder: Path):
    run_programs(ROOT / page, folder)


@pytest.mark.parametrize("page", PAGES)
def test_every_excerpt_of_a_page_is_what_its_file_says(page: str):
    check_excerpts(ROOT / page)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_say_what_it_shows(page: str, folder: Path):
    read(ROOT / page, folder)


@pytest.mark.parametrize(("page", "example"), [("README.md", "quickstart"), ("examples/article/README.md", "article")])
def test_a_page_shows_its_example_to_the_letter(page: str, example: str):
    program = (ROOT / "examples" / example / "app.py").read_text().rstrip("\n")

    assert program in [block.text for block in blocks_of(ROOT / page)]


# --- the test of the test: pages with a fault --------------------------------------------------------

GOOD = """\
# A page

```python
from msgspec import Struct
from posthouse import Service

class Order(Struct):
    sku: str

prices = Service("prices")

@prices.handler
async def quote(order: Order) -> str:
    print("asked for", order.sku)
    return order.sku.upper()
```

    $ posthouse dev app.py
    prices on sqlite:.posthouse, gateway on http://127.0.0.1:8080

and then

    $ posthouse call prices.quote '{"sku": "tea"}'
    "TEA"
    $ rm -rf nothing

and the first terminal shows

    asked for tea

<!-- change: upper => title -->

    $ posthouse call prices.quote '{"sku": "tea"}'
    "Tea"
"""


def page_with(old: str, new: str, folder: Path) -> Path:
    assert old in GOOD
    page = folder / "page.md"
    page.write_text(GOOD.replace(old, new))
    (folder / "at work").mkdir()
    return page


def test_a_page_without_fault_passes(folder: Path):
    page = page_with("A page", "A good page", folder)

    run_programs(page, folder)
    read(page, folder / "at work")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"TEA"\n', '"TEAPOT"\n'),
        ("prices on sqlite", "shop on sqlite"),
        ("asked for tea", "asked for coffee"),
        ("upper => title", "upper => lower"),
    ],
)
def test_a_page_that_shows_what_is_not_said_fails(old: str, new: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.examples.reader.PATIENCE", 3.0)
    page = page_with(old, new, folder)

    with pytest.raises(AssertionError, match=r"page\.md:\d+"):
        read(page, folder / "at work")


def test_a_page_with_a_program_that_fails_fails(folder: Path):
    page = page_with("sku: str\n", "sku: strr\n", folder)

    with pytest.raises(AssertionError, match=r"(?s)page\.md:4.*strr"):
        run_programs(page, folder)


def test_a_program_that_is_marked_is_not_run_or_goes_on(folder: Path):
    page = page_with("```python", "<!-- not run: a fragment -->\n```python\nnonsense(", folder)
    page.write_text(
        page.read_text() + "\n```python\none = 1\n```\n\n<!-- goes on -->\n```python\nassert one == 1\n```\n"
    )

    run_programs(page, folder)


def test_an_excerpt_that_is_not_in_its_file_fails(folder: Path):
    page = folder / "page.md"
    excerpt = "<!-- from: examples/quickstart/app.py -->\n```python\n    sku: str\n    qty: int = {}\n```\n"

    page.write_text(excerpt.format(1))
    check_excerpts(page)
    page.write_text(excerpt.format(2))
    with pytest.raises(AssertionError, match="not in examples/quickstart"):
        check_excerpts(page)
