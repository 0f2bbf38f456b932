"""The page that a run is watched on: the labelling page's server, with other requests.

    GET  /               the page
    GET  /assets/NAME    its style and scripts, nothing from outside
    GET  /api/session    {"token"}: what the other requests must carry
    POST /api/run        {} -> {"name", "state", "curves", "looks"}
    POST /api/look       {"step"} -> a look at tokens
    POST /api/flights    {"step"} -> a look at flights, of a run that learns to fly

Nothing is ever written, and no file but the run's own figures and looks is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

# First: it says what to install where these libraries are missing.
from llm_gym.feedback.labelling.server import PAGES, SHARED, Nothing, plain_app  # isort: skip

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, StrictInt

from llm_gym.feedback.labelling.guard import Guard, new_token
from llm_gym.feedback.labelling.limits import Bounds
from llm_gym.stages.watch.view import NoSuchLookError, WatchedRun

OWN_PAGES = Path(__file__).resolve().parent / "pages"
TOKENS = ("tokens.css", "tokens.js", "quantities.js", "alternatives.js")
"""Files of the page that other pages with tokens have, too."""

_SCRIPTS = (
    *TOKENS,
    *("watch.css", "watch.js", "chart.js", "findings.js", "followed.js"),
    *("flight.css", "flight.js", "scene.js", "lines.js"),
)
ASSETS = (*(PAGES / name for name in SHARED), *(OWN_PAGES / name for name in _SCRIPTS))


class _Step(Nothing):
    step: Annotated[StrictInt, Field(ge=0, lt=2**63)]


def create_app(run: WatchedRun, *, host: str = "127.0.0.1") -> Guard:
    """The web application.

    Args:
        run: What is watched.
        host: The address that the server will listen on.

    Returns:
        An ASGI application.
    """
    token = new_token()
    app = plain_app(token, ASSETS)

    @app.get("/")
    def page() -> Response:
        name = "flight.html" if run.flies else "watch.html"
        return Response((OWN_PAGES / name).read_bytes(), media_type="text/html; charset=utf-8")

    # Responses made here: FastAPI would look into every number of a look, twice.
    @app.post("/api/run")
    def summary(body: Nothing) -> JSONResponse:
        return JSONResponse(run.summary())

    @app.post("/api/look")
    def look(body: _Step) -> JSONResponse:
        return JSONResponse(run.look(body.step))

    @app.post("/api/flights")
    def flights(body: _Step) -> JSONResponse:
        return JSONResponse(run.flights(body.step))

    @app.exception_handler(NoSuchLookError)
    def missing(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 404)

    return Guard(Bounds(app), token=token, host=host)
