"""What the parts of the control socket share: how a request is read, and how it is refused.

Leans on `errors`; Starlette (extra `ops`) is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from featureplane.errors import FeaturePlaneError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["ANSWER_S", "body_of", "refusal"]

ANSWER_S: Final = 10.0
"""How long a service may take to come to the end of a message."""

_BODY_BYTES_MAX: Final = 1 << 16


def refusal(error: FeaturePlaneError, status: int) -> Response:
    """An error as an answer."""
    from starlette.responses import JSONResponse  # noqa: PLC0415 - an extra

    return JSONResponse({"error": str(error), "hint": error.hint}, status_code=status)


async def body_of(request: Request) -> bytes:
    """What was sent; nothing, where that is more than anybody means."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_BYTES_MAX:
            return b""
    return body
