"""What a function says of itself: the type that it takes, the context, the type that it gives back.

The annotations are the contract, so a function without them is refused, where it stands. They may
be text (`from __future__ import annotations`) and may name what is defined inside a function.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from posthouse.declare.marks import AwaitedContext, BlockingContext
from posthouse.declare.target import ContextKind
from posthouse.declare.wrong import place_of, wrong
from posthouse.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHAPE: Final = "write `async def name(data: Order, ctx: Context) -> Price`, or a plain `def` with SyncContext"


class Signature(Struct, frozen=True, eq=False):
    """What a function takes and gives.

    Attributes:
        name: of the function.
        place: "app.py:12".
        data: the type of its first parameter.
        reply: the type of its result, without Reject; None for none.
        is_async: whether its result is awaited.
        context: which second argument it takes.
    """

    name: str
    place: str
    data: Any
    reply: Any
    is_async: bool
    context: ContextKind


def read(function: Callable[..., Any]) -> Signature:
    """Return what a function takes and gives.

    Raises:
        DeclarationError: it is no function of `(data)` or `(data, ctx)` with annotations, or its
            context is of the wrong kind.
    """
    place = place_of(function)
    if not isinstance(function, (types.FunctionType, types.MethodType)):
        raise wrong(f"{function!r} is not a function", "decorate an `async def` or a plain `def`")
    name = function.__name__
    parameters = list(inspect.signature(function).parameters.values())
    positional = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    needed = [each for each in positional if each.default is each.empty]
    extra = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    if not positional or len(needed) > 2 or extra:
        count = "no parameter" if not parameters else f"the parameters ({', '.join(map(str, parameters))})"
        raise wrong(
            f"handler {name!r} has {count}: it is given the data, and a context if it wants one", _SHAPE, where=place
        )
    hints = _hints(function, name, place)
    data, *rest = positional[:2]
    for each in (data, *rest):
        if each.name not in hints and (each in needed or each is data):
            raise wrong(f"handler {name!r} does not say of which type {each.name!r} is", _SHAPE, where=place)
    if "return" not in hints:
        do = "write `-> None` if it gives nothing back, or `-> Price`"
        raise wrong(f"handler {name!r} does not say what it returns", do, where=place)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))
    return Signature(
        name=name,
        place=place,
        data=hints[data.name],
        reply=_without_rejects(hints["return"]),
        is_async=is_async,
        context=_context(hints[rest[0].name], is_async, name, place) if rest and rest[0] in needed else "none",
    )


def item_of(batch: Any, name: str, place: str) -> Any:
    """Return T of `list[T]`, which a batch handler takes.

    Raises:
        DeclarationError: it takes something else.
    """
    arguments = typing.get_args(batch)
    if typing.get_origin(batch) is not list or len(arguments) != 1:
        do = "a batch handler takes a list: write `rows: list[Row]`, or leave batch= out"
        raise wrong(f"handler {name!r} has batch=, and takes {batch!r}", do, where=place)
    return arguments[0]


def _context(kind: Any, is_async: bool, name: str, place: str) -> ContextKind:
    if isinstance(kind, type) and issubclass(kind, AwaitedContext):
        if is_async:
            return "async"
        do = "write `ctx: SyncContext` (from posthouse.sync), or make it `async def`"
        raise wrong(
            f"handler {name!r} is a plain `def` and takes a Context, whose verbs it cannot await", do, where=place
        )
    if isinstance(kind, type) and issubclass(kind, BlockingContext):
        if not is_async:
            return "sync"
        do = "write `ctx: Context`, or make it a plain `def`"
        raise wrong(
            f"handler {name!r} is `async def` and takes a SyncContext, which would block the loop", do, where=place
        )
    raise wrong(f"the second parameter of handler {name!r} is of the type {kind!r}, not a context", _SHAPE, where=place)


def _without_rejects(kind: Any) -> Any:
    """Return a reply type without Reject, which travels as an error and not as data."""
    if kind is type(None) or _is_reject(kind):
        return None
    if typing.get_origin(kind) not in {types.UnionType, typing.Union}:
        return kind
    kept = tuple(each for each in typing.get_args(kind) if not _is_reject(each))
    if not kept or kept == (type(None),):
        return None
    return typing.Union[kept]  # noqa: UP007 - made of values


def _is_reject(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Reject)


def _hints(function: Callable[..., Any], name: str, place: str) -> Mapping[str, Any]:
    """Return the annotations, evaluated; text is read as Python would read it where the function stands."""
    try:
        return typing.get_type_hints(function, localns=_names_around(function), include_extras=True)
    except NameError as error:
        missing = f"{error.name!r}, which is not defined" if error.name else "something that is not defined"
        do = "define it before the handler, and import it at run time too, not only under TYPE_CHECKING"
        raise wrong(f"an annotation of handler {name!r} names {missing}", do, where=place) from error
    except (TypeError, SyntaxError, AttributeError) as error:
        raise wrong(f"an annotation of handler {name!r} cannot be read: {error}", _SHAPE, where=place) from error


def _names_around(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return what is defined in the functions around this one that run now; None at the top of a module.

    A type that is defined inside a function and named as text can be found nowhere else.
    """
    inner = inspect.unwrap(function)
    if "." not in inner.__qualname__:
        return None
    names: dict[str, Any] = {}
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the documented way to the callers' names
    while frame is not None:
        around = f"{frame.f_code.co_qualname}."
        if frame.f_globals is inner.__globals__ and inner.__qualname__.startswith(around):
            names = {**frame.f_locals, **names}  # the innermost, which comes first, wins
        frame = frame.f_back
    return names
