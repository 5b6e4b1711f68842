"""A client at module level, as under Flask; it is used and never closed."""

from __future__ import annotations

import sys

from posthouse import Operation
from posthouse.errors import UnknownServiceError
from posthouse.sync import connect

post = connect("web", transport=f"sqlite:{sys.argv[1]}")
try:
    post.call(Operation("nobody.home", str, str), "x")
except UnknownServiceError as told:
    print(told.code)
