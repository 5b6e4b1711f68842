"""What a process has one of, and everybody in it uses.

A host makes them, opens and closes them; those who send and receive are given them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from posthouse.contracts.transport import Transport
    from posthouse.runtime.caller import Caller
    from posthouse.runtime.directory import Directory
    from posthouse.runtime.seams import Seams
    from posthouse.runtime.settler import Settler


@dataclass(frozen=True, slots=True)
class Parts:
    """The shared parts of a process.

    Attributes:
        seams: time, chance, ids, tasks.
        transport: carries messages.
        directory: what is known of the registry.
        caller: volatile messages, and requests that wait for replies.
        settler: outcomes on their way to the transport.
    """

    seams: Seams
    transport: Transport
    directory: Directory
    caller: Caller
    settler: Settler
