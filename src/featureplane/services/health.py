"""What can be asked of a running service over HTTP: `/metrics`, `/healthz`, `/readyz`.

Served by Starlette and uvicorn (extra `ops`) from a thread of its own, on this machine alone unless asked
otherwise. Leans on `marketdata` and `telemetry`. Changes nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from featureplane.errors import ExtraUnavailable, SettingError, StateError
from featureplane.services.marketdata import MarketDataService
from featureplane.telemetry import exposition, require_prometheus

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["WebServer", "bind_tcp", "health_app", "require_web"]

_ANSWER_S: Final = 1.0
_START_S: Final = 10.0
_BACKLOG: Final = 64


def require_web() -> None:
    """Raise `ExtraUnavailable` where nothing can be served."""
    try:
        import starlette  # noqa: F401, PLC0415 - an extra
        import uvicorn  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise ExtraUnavailable("starlette with uvicorn", "ops", str(error)) from error
    require_prometheus()


def bind_tcp(address: str, *, remote: bool = False, option: str = "--metrics") -> socket.socket:
    """A socket that listens at `HOST:PORT`; port 0 is any that is free.

    Raises `SettingError` for no address, for one beyond this machine without `remote`, and for a port that
    is in use.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise SettingError(f"{option} {address}", hint="an address and a port, like 127.0.0.1:8000")
    host = host.removeprefix("[").removesuffix("]")
    if not remote and not _is_loopback(host):
        raise SettingError(
            f"--metrics {address} could be reached from elsewhere",
            hint="127.0.0.1 is this machine; --remote if others are to ask, there is no password",
        )
    found = _resolved(host, int(port), f"{option} {address}")
    made = socket.socket(found[0], socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(found[1])
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            why, hint = "the port is in use", "stop what listens there, or name another port"
        else:
            why, hint = error.strerror or str(error), "is it an address of this machine?"
        raise SettingError(f"{option} {address}: {why}", hint=hint) from None
    return made


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _resolved(host: str, port: int, asked: str) -> tuple[int, Any]:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise SettingError(f"{asked}: {error}", hint="a host that has an address") from None
    return family, where


def health_app(service: MarketDataService) -> Starlette:
    """The application; it asks between two messages, and says so where that takes too long."""
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415 - as above
    from starlette.routing import Route  # noqa: PLC0415 - as above

    def metrics(_request: Request) -> Response:
        text, kind = exposition(service.picture(_ANSWER_S))
        return Response(text, media_type=kind)

    def healthz(_request: Request) -> Response:
        about = {"messages": service.messages, "frames": service.frames, "over": service.is_over}
        return JSONResponse(about, status_code=503 if service.is_over else 200)

    def readyz(_request: Request) -> Response:
        try:
            waits, versions, astray = service.ask(
                lambda: (
                    service.readiness.look(),
                    service.rollout.about(),
                    None if service.pilot is None else service.pilot.astray,
                ),
                _ANSWER_S,
            )
        except (TimeoutError, StateError) as error:
            why = str(error) or "a message takes longer than that"
            return JSONResponse({"ready": False, "why": why}, status_code=503)
        ready = not any(waits.values()) and astray is None
        symbols = {symbol: why or "ready" for symbol, why in waits.items()}
        answer: dict[str, object] = {"ready": ready, "symbols": symbols}
        if astray is not None:
            answer["why"] = astray
        if versions["candidate"] is not None:  # whoever waits for it consumes the active set meanwhile
            answer |= {name: versions[name] for name in ("active", "candidate", "consuming", "waiting")}
        return JSONResponse(answer, status_code=200 if ready else 503)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
    )


class WebServer:
    """Serves an application on a socket that listens, from `start` to `stop`."""

    def __init__(self, app: Starlette, bound: socket.socket, name: str) -> None:
        import uvicorn  # noqa: PLC0415 - an extra

        self._socket, self._name = bound, name
        how: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "ws": "none"}
        self._server = uvicorn.Server(uvicorn.Config(app, http="h11", loop="asyncio", **how))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Serve; what asks is answered from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was asked is answered before."""
        self._server.should_exit = True
        self._thread.join(_START_S)
        self._socket.close()
