"""From what a user names, "app.py" or "shop.app:prices", to the services in it.

Importing a program runs its top level and nothing else: a Service holds declarations only. Whatever
goes wrong on the way is told as one error with the line of the user's own file that it came from,
never as a traceback through ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from posthouse.declare.service import Service
from posthouse.errors import ApplicationError, DeclarationError, PosthouseError
from posthouse.runtime.layers import nearest

if TYPE_CHECKING:
    from types import ModuleType

_HERE: Final = str(Path(__file__).parents[1])
_HOW: Final = "Name it as FILE.py, FILE.py:SERVICE or package.module:SERVICE."


def load_app(target: str) -> list[Service]:
    """Return the services that a user named, in the order of their declaration.

    The folder of the program goes to the head of the import path, so that its files find each other.

    Args:
        target: "FILE.py", "FILE.py:NAME", "package.module" or "package.module:NAME", where NAME is
            the variable that holds the service, or the service's own name.

    Raises:
        ApplicationError: there is no such file, module or service, or importing it failed; the text
            begins with the file and line.
        DeclarationError: something that it declares cannot work. So with our other errors: IllegalNameError,
            NotBuiltError.
    """
    place, name = place_and_name(target)
    module = load_module(place)
    if name:
        return [_named(module, name, place)]
    found = services_in(module)
    if not found:
        raise ApplicationError(
            f"{place} declares no service", hint='Declare one at its top level: prices = Service("prices").'
        )
    return found


def load_all(targets: Sequence[str]) -> list[Service]:
    """Return the services of several targets, each once.

    Raises:
        ApplicationError: as `load_app`; or two different services have one name.
    """
    found: dict[str, Service] = {}
    for target in targets:
        for service in load_app(target):
            if found.setdefault(service.name, service) is not service:
                raise ApplicationError(
                    f"two services are named {service.name!r}", hint="Give one of them another name."
                )
    return list(found.values())


def load_module(place: str) -> ModuleType:
    """Import the program and return its module.

    Raises:
        ApplicationError: it cannot be found, or not be imported.
    """
    importlib.invalidate_caches()
    file = file_of(place)
    if file is None:
        return _imported(place, Path.cwd())
    root = file.parent
    parts = [file.stem]
    while (root / "__init__.py").is_file():  # within a package its modules import each other by the package's name
        parts.insert(0, root.name)
        root = root.parent
    return _imported(".".join(parts), root, file)


def services_in(module: ModuleType) -> list[Service]:
    """Return the services that the top level of a module holds, each once.

    Raises:
        ApplicationError: two different services have one name.
    """
    found: dict[str, Service] = {}
    for value in vars(module).values():
        for service in cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,):
            if isinstance(service, Service) and found.setdefault(service.name, service) is not service:
                raise ApplicationError(
                    f"{module.__file__ or module.__name__}: two services are named {service.name!r}",
                    hint="Give one of them another name.",
                )
    return list(found.values())


def place_and_name(target: str) -> tuple[str, str]:
    """Return the file or module that a target names, and the service in it; empty for all of them.

    Raises:
        ApplicationError: it names no program.
    """
    place, colon, name = target.partition(":")
    if not place or (colon and not name):
        raise ApplicationError(f"{target!r} names no program", hint=_HOW)
    return place, name


def file_of(place: str) -> Path | None:
    """Return the program's file; None when a module is named, which is found when it is imported.

    Raises:
        ApplicationError: there is no such file, or it cannot be read.
    """
    if not (place.endswith(".py") or "/" in place or place.startswith(".")):
        return None
    try:
        file = Path(place).absolute()
        is_directory, is_file = file.is_dir(), file.is_file()
        if is_file:
            file.open("rb").close()
    except OSError as error:
        raise ApplicationError(f"{place} cannot be read: {error.strerror}", hint="May this user read it?") from error
    if is_directory:
        raise ApplicationError(f"{place} is a directory", hint="Name the file in it that declares the services.")
    if not is_file:
        meant = nearest(file.name, [each.name for each in file.parent.glob("*.py")] if file.parent.is_dir() else [])
        raise ApplicationError(f"there is no file {place}{meant}", hint="Is the path right, seen from here?")
    return file


def _imported(name: str, root: Path, file: Path | None = None) -> ModuleType:
    """Import by name, with `root` at the head of the path; by its file where the name is taken already."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        if file is None or _is_free(name, file):
            return importlib.import_module(name)
        return _from_file(f"posthouse_app.{file.stem}", file)
    except ModuleNotFoundError as error:
        if file is None and error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ApplicationError(f"there is no module {error.name!r}", hint=_HOW) from None
        raise _failed(error, root) from error
    except SystemExit as error:
        raise _failed(RuntimeError(f"it ended the process (exit {error.code})"), root, error) from error
    except DeclarationError:  # says itself where it stands, and what to write instead
        raise
    except PosthouseError as error:
        filename, line = _place(error, root)
        error.args = (f"{filename}:{line}: {error}",)
        raise
    except Exception as error:  # the user's own top level may raise anything: all of it is told the same way
        raise _failed(error, root) from error


def _is_free(name: str, file: Path) -> bool:
    """Tell whether importing `name` gives this file, and not one of the same name from elsewhere."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__file__", None) == str(file)
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    if "." in name:
        return True
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin == str(file)


def _from_file(name: str, file: Path) -> ModuleType:
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(file):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ApplicationError(f"{file} is no Python file", hint=_HOW)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _named(module: ModuleType, name: str, place: str) -> Service:
    known = {variable: value for variable, value in vars(module).items() if isinstance(value, Service)}
    by_own_name = {service.name: service for service in services_in(module)}
    service = known.get(name) or by_own_name.get(name)
    if service is not None:
        return service
    if hasattr(module, name):
        what = type(getattr(module, name)).__name__
        raise ApplicationError(f"{place}:{name} is no Service, it is {what}", hint=_offer(by_own_name))
    raise ApplicationError(
        f"{place} has no service {name!r}{nearest(name, [*known, *by_own_name])}", hint=_offer(by_own_name)
    )


def _offer(services: dict[str, Service]) -> str:
    return f"It declares: {', '.join(services)}." if services else "It declares no service at its top level."


def _failed(error: BaseException, root: Path, raised: BaseException | None = None) -> ApplicationError:
    """Return the error for a program that cannot be imported: where, what, and the line itself."""
    match error:
        case SyntaxError(filename=str(filename), lineno=int(line)):
            text, what = (error.text or "").rstrip(), f"{type(error).__name__}: {error.msg}"
        case _:
            filename, line = _place(raised or error, root)
            text = linecache.getline(filename, line).rstrip() if filename else ""
            what = f"{type(error).__name__}: {error}"
    where = f"{filename}:{line}: " if filename else ""
    shown = f"\n  {line:>4} | {text.strip()}" if text and line else ""
    hint = "Mend that line; --debug shows how it was reached."
    if isinstance(error, ModuleNotFoundError):
        hint = f"Install {error.name!r} where posthouse runs ({sys.executable}), or correct the import."
    return ApplicationError(f"{where}{what}{shown}", hint=hint)


def _place(error: BaseException, root: Path) -> tuple[str, int]:
    """Return the user's own line that led to an error: the deepest one below the program's folder."""
    frames = [
        (frame.filename, frame.lineno or 0)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_HERE, "<frozen "))
    ]
    own = [frame for frame in frames if frame[0].startswith(str(root)) and "site-packages" not in frame[0]]
    return (own or frames or [("", 0)])[-1]
