"""A route that the host refuses."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("administrators", methods=["GET"])
async def administrators(req: Request) -> Response:
    return Response("never")
