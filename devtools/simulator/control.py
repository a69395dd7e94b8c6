"""The control API under /_simulator/: the account to read, the faults to set. It needs no key."""

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from devtools.simulator.account import Account
from devtools.simulator.faults import Fault, FaultBoard


def app(account: Account, faults: FaultBoard) -> Starlette:
    """Returns the control API of one account and one board of faults."""

    async def read_account(_: Request) -> Response:
        return _json(account.entries())

    async def clear_account(_: Request) -> Response:
        account.clear()
        return Response(status_code=204)

    async def summary(_: Request) -> Response:
        return _json(account.summary())

    async def read_faults(_: Request) -> Response:
        return _json(faults.all())

    async def set_fault(request: Request) -> Response:
        try:
            fault = msgspec.json.decode(await request.body(), type=Fault)
        except msgspec.DecodeError as error:
            return _json({"error": str(error)}, status=400)
        faults.set(request.path_params["target"], fault)
        return _json(fault)

    async def clear_faults(request: Request) -> Response:
        faults.clear(request.path_params.get("target"))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/_simulator/account", read_account, methods=["GET"]),
            Route("/_simulator/account", clear_account, methods=["DELETE"]),
            Route("/_simulator/account/summary", summary),
            Route("/_simulator/faults", read_faults, methods=["GET"]),
            Route("/_simulator/faults", clear_faults, methods=["DELETE"]),
            Route("/_simulator/faults/{target}", set_fault, methods=["PUT"]),
            Route("/_simulator/faults/{target}", clear_faults, methods=["DELETE"]),
        ]
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
