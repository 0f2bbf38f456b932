"""The page on which models answer side by side: the labelling page's server, with other requests.

    GET  /               the page
    GET  /assets/NAME    its style and scripts, nothing from outside
    GET  /api/session    {"token"}: what the other requests must carry
    POST /api/table      {} -> {"models", "scorer", "turns", ...}
    POST /api/say        {"prompt"} -> {"turn"}
    POST /api/turn       {"turn", "seen"} -> the turn, as soon as there is more of it than was seen
    POST /api/scores     {"turn", "model"} -> {"scores"}: for each token, if the answer ended there
    POST /api/stop       {} -> {}
    POST /api/reset      {} -> {}

Nothing is written to disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

# First: it says what to install where these libraries are missing.
from llm_gym.feedback.labelling.server import PAGES, SHARED, Nothing, plain_app  # isort: skip

from fastapi.responses import JSONResponse, Response
from pydantic import Field, StrictInt, StrictStr

from llm_gym.feedback.labelling.guard import Guard, new_token
from llm_gym.feedback.labelling.limits import Bounds
from llm_gym.stages.chat_page.table import Table
from llm_gym.stages.watch.server import OWN_PAGES as WATCH_PAGES
from llm_gym.stages.watch.server import TOKENS

_OWN = Path(__file__).resolve().parent / "pages"
ASSETS = (
    *(PAGES / name for name in SHARED),
    *(WATCH_PAGES / name for name in TOKENS),
    *(_OWN / name for name in ("chat.css", "chat.js", "column.js")),
)
_PATIENCE = 5.0  # seconds that a request waits for a model; the page has more
_Number = Annotated[StrictInt, Field(ge=0, lt=2**31)]


class _Prompt(Nothing):
    prompt: StrictStr


class _Turn(Nothing):
    turn: _Number
    seen: Annotated[StrictInt, Field(ge=-1, lt=2**31)]


class _Scores(Nothing):
    turn: _Number
    model: _Number


def create_app(table: Table, *, host: str = "127.0.0.1") -> Guard:
    """The web application.

    Args:
        table: Who answers.
        host: The address that the server will listen on.

    Returns:
        An ASGI application.
    """
    token = new_token()
    app = plain_app(token, ASSETS)

    @app.get("/")
    def page() -> Response:
        return Response((_OWN / "chat.html").read_bytes(), media_type="text/html")

    # Responses made here: FastAPI would look into every number of an answer, twice.
    @app.post("/api/table")
    def overview(body: Nothing) -> JSONResponse:
        return JSONResponse(table.overview())

    @app.post("/api/say")
    def say(body: _Prompt) -> dict[str, int]:
        return {"turn": table.say(body.prompt)}

    @app.post("/api/turn")
    def turn(body: _Turn) -> JSONResponse:
        return JSONResponse(table.turn(body.turn, body.seen, _PATIENCE))

    @app.post("/api/scores")
    def scores(body: _Scores) -> dict[str, Any]:
        return {"scores": table.scores(body.turn, body.model)}

    @app.post("/api/stop")
    def stop(body: Nothing) -> dict[str, str]:
        table.stop()
        return {}

    @app.post("/api/reset")
    def reset(body: Nothing) -> dict[str, str]:
        table.reset()
        return {}

    return Guard(Bounds(app), token=token, host=host)
