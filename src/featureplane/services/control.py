"""Switches of a running service, over a socket in the file system: who may open that file may use them.

    GET  /strategies          in which form each runs
    POST /strategies/NAME     {"form": "legacy" | "shared" | "off"}
    GET  /rollout             where it stands
    POST /rollout             a change of it

Never a port. A switch is thrown between two messages, and answered then; throwing it again changes nothing.
Leans on `marketdata` and `health`; asking needs no extra.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from featureplane.errors import FeaturePlaneError, NoService, SettingError, StateError, UnknownStrategy
from featureplane.services.answers import ANSWER_S, body_of, refusal
from featureplane.services.marketdata import MarketDataService
from featureplane.services.rollout.routes import rollout_routes

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

__all__ = ["ask_service", "bind_unix", "check_unix", "control_app"]

_WAIT_S: Final = 15.0
_PATH_BYTES_MAX: Final = 107
_BACKLOG: Final = 16


def bind_unix(path: Path) -> socket.socket:
    """A socket that listens at that place in the file system, for its owner alone.

    A socket that nobody listens at any more is replaced. Raises `SettingError` for a place where somebody
    does, that is something else, or that cannot be had.
    """
    check_unix(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        made.bind(str(path))
        path.chmod(0o600)  # WHY before it listens: nobody can have come in
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        hint = "name a file in a folder of yours, or `off`"
        raise SettingError(f"--control {path}: {error.strerror or error}", hint=hint) from None
    return made


def check_unix(path: Path) -> None:
    """Raise `SettingError` as `bind_unix` does, for what can be seen without changing anything."""
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        hint = f"at most {_PATH_BYTES_MAX} bytes, that is how such names are"
        raise SettingError(f"--control {path}: too long", hint=hint)
    at = next(one for one in (path.absolute().parent, *path.absolute().parents) if one.exists())
    if not at.is_dir() or not os.access(at, os.W_OK):
        hint = "name a file in a folder of yours, or `off`"
        raise SettingError(f"--control {path}: {at} is no folder to write to", hint=hint)
    if path.is_symlink() or path.exists():
        _check_left(path)


def _check_left(path: Path) -> None:
    """Refuse anything but what a service left that did not end in order."""
    mode = path.lstat().st_mode
    if not stat.S_ISSOCK(mode):
        raise SettingError(f"--control {path}: there is a file", hint="name another place, or `off`")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
        there.settimeout(1.0)
        try:
            there.connect(str(path))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                why = error.strerror or str(error)
                raise SettingError(f"--control {path}: {why}", hint="name another place, or `off`") from None
            return
    hint = "one service a place: give this one another --control"
    raise SettingError(f"--control {path}: a service answers there", hint=hint)


def control_app(service: MarketDataService) -> Starlette:
    """The application; errors are JSON with `error` and `hint`."""
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - as above
    from starlette.responses import JSONResponse  # noqa: PLC0415 - as above
    from starlette.routing import Route  # noqa: PLC0415 - as above

    def forms(_request: Request) -> Response:
        return JSONResponse({"strategies": service.forms()})

    def throw(name: str, form: str) -> dict[str, object]:
        changed = service.set_form(name, form)
        return {"strategy": name, "form": form, "changed": changed, "message": service.runner.messages}

    async def switch(request: Request) -> Response:
        form = _form_in(await body_of(request))
        if form is None:
            return refusal(SettingError("no form", hint='{"form": "legacy" | "shared" | "off"}'), 422)
        name = request.path_params["name"]
        try:
            answer = await run_in_threadpool(service.ask, lambda: throw(name, form), ANSWER_S)
        except UnknownStrategy as error:
            return refusal(error, 404)
        except FeaturePlaneError as error:
            return refusal(error, 409)
        except TimeoutError:
            why = "the message at hand takes too long; the switch is thrown behind it"
            return refusal(StateError(why, hint="ask again: throwing it twice changes nothing"), 504)
        except Exception as error:  # noqa: BLE001 - what a strategy raises at its start; it was not switched
            return refusal(StateError(f"{type(error).__name__}: {error}", hint="the old one goes on"), 409)
        return JSONResponse(answer)

    return Starlette(
        routes=[
            *rollout_routes(service),
            *shadow_routes(service),
            Route("/strategies", forms),
            Route("/strategies/{name:path}", switch, methods=["POST"]),
        ]
    )


def shadow_routes(service: MarketDataService) -> list[Route]:
    """What can be asked and told of the shadow."""
    from starlette.responses import JSONResponse  # noqa: PLC0415 - an extra
    from starlette.routing import Route  # noqa: PLC0415 - as above

    off = StateError("this service has no shadow", hint="HFT_FEATURE_SHADOW_PARITY=1 gives it one")

    def seen(_request: Request) -> Response:
        shadow, fset = service.shadow, service.fset
        if shadow is None or fset is None:
            return refusal(off, 409)
        return JSONResponse(shadow.about(fset))

    def last(request: Request) -> Response:
        symbol, pilot = request.path_params.get("symbol"), service.pilot
        found = None if pilot is None else pilot.candidate.last_mismatch(symbol)
        if service.shadow is None and found is None:
            return refusal(off, 409)
        if found is None and service.shadow is not None:
            found = service.shadow.last(symbol)
        return JSONResponse({"last": found})

    async def told(request: Request) -> Response:
        if service.shadow is None:
            return refusal(off, 409)
        try:
            service.shadow.sample_every = _number_in(await body_of(request), "sample_every")
        except SettingError as error:
            return refusal(error, 422)
        return JSONResponse({"sample_every": service.shadow.sample_every})

    return [
        Route("/shadow", seen),
        Route("/shadow", told, methods=["POST"]),
        Route("/shadow/last", last),
        Route("/shadow/last/{symbol:path}", last),
    ]


def _number_in(body: bytes, name: str) -> int:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    number = said.get(name) if isinstance(said, dict) else None
    if type(number) is not int:
        raise SettingError(f"no {name}", hint=f'{{"{name}": 64}}')
    return number


def _form_in(body: bytes) -> str | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    form = said.get("form") if isinstance(said, dict) else None
    return form if isinstance(form, str) else None


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_WAIT_S)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_WAIT_S)
        self.sock.connect(str(self._path))


def ask_service(path: Path, where: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    """What the service that listens there answers; with a body it is told something.

    Raises `NoService` where nobody listens, `StateError` where no service answers in time and for what it
    refuses, with its hint.
    """
    connection = _Connection(path)
    try:
        parts = "/".join(quote(part, safe="") for part in where.split("/"))
        if body is None:
            connection.request("GET", f"/{parts}")
        else:
            connection.request("POST", f"/{parts}", json.dumps(body))
        answer = connection.getresponse()
        said = json.loads(answer.read())
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoService(str(path), error.strerror or type(error).__name__) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = "is it busy, or another program? --control names the place `featureplane run` was given"
        raise StateError(f"{path}: no service answers ({why})", hint=hint) from None
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise StateError(str(said.get("error")), hint=said.get("hint"))
    return dict(said)
