"""The page for people: a small web server in front of a desk.

    GET  /                  the page
    GET  /assets/NAME       its style, scripts and icon: files beside this one, nothing from outside
    GET  /api/session       {"token"}: what the other requests must carry
    POST /api/next          {"rater"} -> {"question", "summary"}
    POST /api/vote          {"rater", "question_id", "verdict", ...} -> the same, for the next one
    POST /api/undo          {"rater", "vote_id"} -> the same, with the question taken back
    GET  /results           the page for the projector, where the desk has results
    POST /api/results       {} -> {"results", "join"}: how the votes stand, and where phones join in
    POST /api/seat          {"rater", "device"} -> {"rater"}: a name that no other device has

A GET changes nothing. Even to ask for a question is a POST: the store then keeps it for that rater.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, Response
    from jinja2 import Environment, FileSystemLoader
    from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise ImportError(
        f"a page in the browser needs {error.name}: pip install 'llm-gym[label]' "
        "(llm-gym label --terminal works without)"
    ) from error

from llm_gym.feedback.labelling import qr
from llm_gym.feedback.labelling.addresses import addresses_elsewhere, url_of
from llm_gym.feedback.labelling.guard import SESSION, Guard, new_token
from llm_gym.feedback.labelling.limits import MOST_HEADERS, Bounds, PatientProtocol
from llm_gym.feedback.labelling.questions import (
    ConflictError,
    Desk,
    Question,
    Reply,
    UnknownQuestionError,
    checked_rater,
)
from llm_gym.feedback.labelling.seats import Seats
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.files.untrusted import pieces

PAGES = Path(__file__).resolve().parent / "pages"
SHARED = ("base.css", "icon.svg", "text.js", "transport.js")
"""Files of the page that other pages have, too."""

_OWN = ("label.css", "label.js", "memory.js", "results.css", "results.js")
ASSETS = tuple(PAGES / name for name in (*SHARED, *_OWN))
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


_Number = Annotated[StrictInt, Field(ge=0, lt=2**63)]  # what SQLite gives a row


class Nothing(BaseModel):
    """A request that says nothing; those that say something have fields beside."""

    model_config = ConfigDict(extra="forbid")


class _Body(Nothing):
    rater: StrictStr


class _Vote(_Body):
    question_id: _Number
    fingerprint: StrictStr
    verdict: StrictStr | StrictFloat | StrictInt
    shown_first: StrictInt
    seconds: StrictFloat | StrictInt
    key: StrictStr


class _Undo(_Body):
    vote_id: _Number


class _Seat(_Body):
    device: StrictStr


def create_app(desk: Desk, *, rater: str = "", host: str = "127.0.0.1") -> Guard:
    """The web application.

    Args:
        desk: Hands out the questions and takes the replies.
        rater: Name that the page assumes; empty lets it ask.
        host: The address that the server will listen on.

    Returns:
        An ASGI application.
    """
    rater = checked_rater(rater) if rater else ""
    token = new_token()
    app = plain_app(token, ASSETS)
    template = Environment(loader=FileSystemLoader(PAGES), autoescape=True).get_template(
        "label.html"
    )
    guard = Guard(Bounds(app), token=token, host=host)
    seats = Seats()

    def state(name: str, question: Question | None) -> JSONResponse:
        # A response made here: FastAPI would look into every piece of a long text, twice.
        return JSONResponse({"question": _shown(question), "summary": vars(desk.summary(name))})

    @app.get("/")
    def page() -> HTMLResponse:
        return HTMLResponse(template.render(rater=rater, shared=bool(guard.key)))

    @app.post("/api/seat")
    def seat(body: _Seat) -> dict[str, str]:
        return {"rater": seats.take(body.rater, body.device)}

    @app.post("/api/next")
    def next_question(body: _Body) -> JSONResponse:
        name = checked_rater(body.rater)
        return state(name, desk.next(name))

    @app.post("/api/vote")
    def vote(body: _Vote) -> JSONResponse:
        name = checked_rater(body.rater)
        desk.answer(name, Reply(**body.model_dump(exclude={"rater"})))
        return state(name, desk.next(name))

    @app.post("/api/undo")
    def undo(body: _Undo) -> JSONResponse:
        name = checked_rater(body.rater)
        question = desk.undo(name, body.vote_id)
        return state(name, question if question is not None else desk.next(name))

    if isinstance(desk, StoreDesk):
        _add_results(app, desk, guard, host)
    return guard


def _add_results(app: FastAPI, desk: StoreDesk, guard: Guard, host: str) -> None:
    """The page for the projector."""

    @app.get("/results")
    def page() -> Response:
        return Response((PAGES / "results.html").read_bytes(), media_type="text/html")

    @app.post("/api/results")
    def results(body: Nothing, request: Request) -> JSONResponse:
        port = request.scope["server"][1]
        return JSONResponse(
            {"results": desk.results().to_dict(), "join": _ways_in(guard, host, port)}
        )


def _ways_in(guard: Guard, host: str, port: int) -> list[dict[str, Any]]:
    """Addresses at which phones may find the page, each with its QR code."""
    ways = [(way.interface, guard.address(way.url)) for way in addresses_elsewhere(host, port)]
    return [
        {"interface": interface, "url": url, **qr.drawing(url)._asdict()} for interface, url in ways
    ]


def plain_app(token: str, assets: Sequence[Path]) -> FastAPI:
    """An application that hands out files and a token, and says in a sentence what it refuses.

    Args:
        token: What requests that are no GET must carry.
        assets: Files of a page, by their names below `/assets/`.

    Returns:
        It, to be given its page and the requests of that.
    """
    # The pages that FastAPI would add by itself load scripts from the internet.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    by_name = {path.name: path for path in assets}

    @app.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in by_name:
            return JSONResponse({"error": "There is no such file."}, 404)
        path = by_name[name]
        return Response(path.read_bytes(), media_type=_KINDS[path.suffix])

    @app.get(SESSION)
    def session() -> dict[str, str]:
        return {"token": token}

    @app.exception_handler(ValueError)
    @app.exception_handler(TypeError)
    def refuse(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, UnknownQuestionError):
            status = 404
        else:
            status = 409 if isinstance(error, ConflictError) else 400
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return JSONResponse({"error": f"The request cannot be read: {place}: {first['msg']}."}, 400)

    @app.exception_handler(HTTPException)
    def unfit(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(OSError)
    def unavailable(_: Request, error: Exception) -> JSONResponse:
        # A store that is locked, a disk that is full: the page keeps the vote and tries again.
        return JSONResponse({"error": str(error)}, 503)

    return app


def _shown(question: Question | None) -> dict[str, Any] | None:
    if question is None:
        return None
    return {
        "id": question.id,
        "kind": question.kind,
        "fingerprint": question.fingerprint,
        "shown_first": question.shown_first,
        "prompt": pieces(question.prompt),
        "answers": [pieces(answer) for answer in question.answers],
    }


# ------------------------------------------------------------------ running it


def serve(app: Guard, listener: socket.socket) -> None:
    """Answers requests until Ctrl-C, which ends it as `KeyboardInterrupt`."""
    _uvicorn(app).run(sockets=[listener])


class BackgroundServer:
    """The server in a thread of its own, for a program that goes on meanwhile.

    Args:
        app: From `create_app`.
        listener: From `listen`.

    Attributes:
        url: Where a browser on this machine finds it.
    """

    def __init__(self, app: Guard, listener: socket.socket) -> None:
        self.url = app.address(url_of(listener))
        self._server = _uvicorn(app)
        # A daemon: a person who never answers must not keep the program from ending.
        self._thread = Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True, name="labelling"
        )
        self._thread.start()

    def close(self) -> None:
        """Stops answering. May be called twice."""
        self._server.should_exit = True
        self._thread.join()


def _uvicorn(app: Guard) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        h11_max_incomplete_event_size=MOST_HEADERS,
        log_config=None,  # uvicorn's own would close every handler of the program's logging
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,  # browsers keep connections open
    )
    return uvicorn.Server(config)
