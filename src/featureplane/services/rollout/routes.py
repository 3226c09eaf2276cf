"""The rollout over the control socket: where it stands, and a change of it, done between two messages.

Leans on `pilot`; Starlette (extra `ops`) is loaded when it is asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from featureplane.errors import FeaturePlaneError, SettingError, StateError
from featureplane.services.answers import ANSWER_S, body_of, refusal
from featureplane.services.rollout.steps import Asked, versions_named

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from featureplane.services.marketdata import MarketDataService
    from featureplane.services.rollout.pilot import RolloutPilot

__all__ = ["rollout_routes"]


def rollout_routes(service: MarketDataService) -> list[Route]:
    """What can be asked and told of the rollout."""
    from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - an extra
    from starlette.responses import JSONResponse  # noqa: PLC0415 - as above
    from starlette.routing import Route  # noqa: PLC0415 - as above

    def pilot() -> RolloutPilot:
        if service.pilot is None:
            raise StateError("this service follows no rollout", hint="`featureplane run` does")
        return service.pilot

    async def seen(_request: Request) -> Response:
        try:
            answer = await run_in_threadpool(service.ask, lambda: pilot().about(), ANSWER_S)
        except (FeaturePlaneError, TimeoutError) as error:
            return _refused(error)
        return JSONResponse(answer)

    def changed(body: bytes) -> dict[str, Any]:
        """In a thread of its own: files are read here, and the loop asked for no more than the change."""
        steers, asked = pilot(), _asked(body)
        versions = versions_named(asked, allow_code=steers.allow_code)
        return service.ask(lambda: steers.change(asked, versions), ANSWER_S)

    async def told(request: Request) -> Response:
        body = await body_of(request)
        try:
            answer = await run_in_threadpool(changed, body)
        except (FeaturePlaneError, TimeoutError) as error:
            return _refused(error)
        return JSONResponse(answer)

    return [Route("/rollout", seen), Route("/rollout", told, methods=["POST"])]


def _asked(body: bytes) -> Asked:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if said is None:
        raise SettingError("no change of a rollout", hint="`featureplane rollout` asks for them")
    return Asked.from_json(said)


def _refused(error: FeaturePlaneError | TimeoutError) -> Response:
    if isinstance(error, FeaturePlaneError):
        return refusal(error, 409)
    why = "the message at hand takes too long; what was asked may still be done behind it"
    return refusal(StateError(why, hint="`featureplane rollout status` says where it stands"), 504)
