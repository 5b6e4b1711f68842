"""What runs where, in as few lines as that takes: services, their transport, each route with its curl."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from posthouse.cli.sample import curl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posthouse.contracts.registry import Contract, OperationRecord
    from posthouse.runtime.settings import Settings


def base_url(bind: str) -> str:
    """Return the address that a person types for what listens on `bind`."""
    host, _, port = bind.rpartition(":")
    if host in {"0.0.0.0", "[::]"}:  # noqa: S104 - shown, not bound
        host = "127.0.0.1"
    return f"http://{host}:{port}"


def routes(contracts: Sequence[Contract], settings: Settings) -> list[OperationRecord]:
    """Return the operations that the gateway serves."""
    return [
        operation
        for contract in contracts
        for operation in contract.operations
        if operation.http and not settings.route(operation.http).hide
    ]


def banner(contracts: Sequence[Contract], settings: Settings, *, bind: str) -> str:
    """Return the lines that a person sees when all is up; without `bind` there is no gateway."""
    names = ", ".join(contract.service for contract in contracts) or "no service"
    served = routes(contracts, settings) if bind else []
    base = base_url(bind) if bind else ""
    lines = [f"{names} on {_short(settings.transport)}" + (f", gateway on {base}" if bind else "")]
    width = max((len(operation.http) for operation in served), default=0)
    lines += [f"  {operation.http:{width}}  {curl(operation, base)}" for operation in served]
    if bind and not served:
        lines.append('  no routes yet: declare one with @service.handler(http="POST /orders")')
    return "\n".join(lines)


def _short(transport: str) -> str:
    """Return the URL with its path as seen from here, where that is shorter."""
    scheme, _, place = transport.partition(":")
    if place.startswith("/") and Path(place).is_relative_to(Path.cwd()):
        return f"{scheme}:{Path(place).relative_to(Path.cwd())}"
    return transport


def facts(contracts: Sequence[Contract], settings: Settings, *, bind: str) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "services": [contract.service for contract in contracts],
        "transport": settings.transport,
        "gateway": base_url(bind) if bind else "",
        "routes": {operation.http: operation.name for operation in routes(contracts, settings)},
    }
