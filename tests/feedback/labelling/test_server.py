from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient

from llm_gym.feedback.labelling.addresses import is_loopback, listen, url_of
from llm_gym.feedback.labelling.guard import KEY_HEADER, TOKEN_HEADER
from llm_gym.feedback.labelling.server import ASSETS, PAGES, create_app
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.feedback.labelling.conftest import fill

HOST = "127.0.0.1:8123"
ORIGIN = {"Origin": f"http://{HOST}"}


class Page:
    """What the page's script does, without a browser."""

    def __init__(self, desk, rater="Ada", **options):
        self.app = create_app(desk, **options)
        self.client = TestClient(self.app, base_url=f"http://{HOST}")
        self.rater = rater
        self.token = self.session(self.app.key).json()["token"]

    def session(self, key):
        return self.client.get("/api/session", headers={KEY_HEADER: key})

    def post(self, path, *, headers=None, **body):
        headers = {TOKEN_HEADER: self.token} if headers is None else headers
        return self.client.post(f"/api/{path}", json={"rater": self.rater, **body}, headers=headers)

    def next(self):
        return self.post("next").json()["question"]

    def vote(self, question, verdict="left", key="k" * 16, **changes):
        body = {name: question[name] for name in ("fingerprint", "shown_first")}
        body |= {"question_id": question["id"], "verdict": verdict, "seconds": 1.5, "key": key}
        return self.post("vote", **{**body, **changes})


@pytest.fixture
def page(desk) -> Page:
    return Page(desk)


def votes(desk):
    return list(desk.store.votes())


# ------------------------------------------------------------------ voting


def test_questions_votes_and_undo(page, desk):
    first = page.next()
    assert first["kind"] == "comparison"
    answer = page.vote(first).json()
    assert answer["question"]["id"] != first["id"]
    assert (answer["summary"]["done"], answer["summary"]["total"]) == (1, 5)
    undone = page.post("undo", vote_id=answer["summary"]["undo_id"]).json()
    assert undone["question"] == first
    assert undone["summary"]["done"] == 0
    assert not votes(desk)


def test_a_repeated_request_counts_once_and_is_answered_alike(page, desk):
    question = page.next()
    once, again = page.vote(question).json(), page.vote(question).json()
    assert once == again
    assert len(votes(desk)) == 1


def test_the_same_request_many_times_at_once_counts_once(page, desk):
    question = page.next()
    with ThreadPoolExecutor(8) as executor:
        answers = list(executor.map(lambda _: page.vote(question).status_code, range(8)))
    assert answers == [200] * 8
    assert len(votes(desk)) == 1


def test_a_second_vote_is_refused_with_a_reason(page, desk):
    question = page.next()
    page.vote(question)
    refused = page.vote(question, "right", key="another key")
    assert refused.status_code == 409
    assert "already voted" in refused.json()["error"]
    assert len(votes(desk)) == 1


def test_two_raters_do_not_get_the_same_pair(desk):
    ada, bob = Page(desk, "Ada"), Page(desk, "Bob")
    ours, theirs = ada.next(), bob.next()
    assert ours["id"] != theirs["id"]
    ada.vote(ours)
    bob.vote(theirs, key="b" * 16)
    assert {vote.rater for vote in votes(desk)} == {"Ada", "Bob"}
    assert ada.post("next").json()["summary"]["total"] == 4  # one of the five is Bob's


def test_a_closed_page_loses_nothing_but_the_open_question(desk, store):
    first = Page(desk)
    first.vote(first.next())
    left_open = first.next()
    again = Page(StoreDesk(store))  # a new server
    assert again.next() == left_open
    assert again.post("next").json()["summary"]["done"] == 1


def test_the_end(page):
    for number in range(5):
        answer = page.vote(page.next(), key=f"vote number {number}")
    assert answer.json()["question"] is None
    assert answer.json()["summary"]["seconds_left"] == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"verdict": "best"}, 400),
        ({"verdict": 40}, 409),
        ({"verdict": None}, 400),
        ({"shown_first": 3}, 400),
        ({"shown_first": True}, 400),
        ({"seconds": -1}, 400),
        ({"seconds": "3"}, 400),
        ({"key": ""}, 400),
        ({"fingerprint": "0" * 16}, 404),
        ({"question_id": 77}, 404),
        ({"question_id": "1"}, 400),
        ({"question_id": 2**63}, 400),
        ({"question_id": 10**30}, 400),
        ({"question_id": -(10**30)}, 400),
        ({"verdict": 10**400}, 400),
        ({"seconds": 10**400}, 400),
        ({"shown_first": 10**30}, 400),
        ({"key": "\0" * 16}, 400),
        ({"key": "\u202e" * 16}, 400),
        ({"key": "k" * 101}, 400),
        ({"rater": "a\u202eb"}, 400),
        ({"rater": "x" * 61}, 400),
        ({"more": 1}, 400),
    ],
)
def test_bad_requests_are_refused_with_a_reason(page, desk, changes, status):
    refused = page.vote(page.next(), **changes)
    assert refused.status_code == status
    assert 0 < len(refused.json()["error"]) < 300
    assert not votes(desk)


@pytest.mark.parametrize("number", [2**63, 10**30, -1, 1.5, "1", None])
def test_an_undo_of_no_vote_is_refused(page, number):
    page.vote(page.next())
    refused = page.post("undo", vote_id=number)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("The request cannot be read: body.vote_id: ")


@pytest.mark.parametrize(
    "body", ["", "{", "[" * 16_000, '{"rater": %s}' % ("9" * 5000), "null", "[]", '"x"', "\x00"]
)
def test_what_is_no_request_is_refused_in_a_sentence(page, body):
    headers = {TOKEN_HEADER: page.token, "Content-Type": "application/json"}
    refused = page.client.post("/api/next", content=body, headers=headers)
    assert refused.status_code == 400
    assert 0 < len(refused.json()["error"]) < 300


def test_numbers_that_json_cannot_hold_are_refused(page, desk):
    question = page.next()
    body = json.dumps(
        {"rater": "Ada", "question_id": question["id"], "fingerprint": question["fingerprint"],
         "verdict": "left", "shown_first": 0, "seconds": float("nan"), "key": "k" * 16}
    )  # fmt: skip
    headers = {TOKEN_HEADER: page.token, "Content-Type": "application/json"}
    refused = page.client.post("/api/vote", content=body, headers=headers)
    assert refused.status_code == 400
    assert not votes(desk)


def test_a_locked_store_is_said_and_the_same_request_works_later(tmp_path):
    with PreferenceStore(tmp_path / "votes.db", timeout=0.05) as store:
        fill(store)
        page = Page(StoreDesk(store))
        question = page.next()
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = page.vote(question)
        assert refused.status_code == 503
        assert "locked" in refused.json()["error"]
        other.execute("ROLLBACK")
        other.close()
        assert page.vote(question).status_code == 200
        assert len(list(store.votes())) == 1


# ------------------------------------------------------------------ who may ask


@pytest.mark.parametrize("path", ["next", "vote", "undo"])
@pytest.mark.parametrize(
    "headers", [{}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: "wrong"}, {TOKEN_HEADER: "ä"}]
)
def test_changes_need_the_token(page, desk, path, headers):
    headers = {name: value.encode() for name, value in headers.items()}
    refused = page.post(path, headers=headers)
    assert refused.status_code == 403
    assert desk.store.progress("Ada").votes == 0


def test_every_server_has_a_token_of_its_own(desk):
    first, second = Page(desk), Page(desk)
    assert first.token != second.token
    assert len(first.token) >= 43  # 256 bits
    assert first.post("next", headers={TOKEN_HEADER: second.token}).status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_no_method_but_get_and_head_works_without_the_token(page, method):
    assert page.client.request(method, "/").status_code == 403


def test_a_get_changes_nothing(desk, store):
    before = (store.progress(), list(store.comparisons()))
    page = Page(desk)
    for path in ("/", "/api/session", "/api/next", "/api/vote", "/api/undo", "/assets/label.js"):
        page.client.get(path, params={"rater": "Ada"})
    assert (store.progress(), list(store.comparisons())) == before
    leases = sqlite3.connect(store.path).execute("SELECT count(*) FROM lease").fetchone()
    assert leases == (0,)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8123",
        "127.0.0.1.evil.example",
        "192.168.1.7",
        "",
        "[::",
        "user@127.0.0.1",
        "user:word@127.0.0.1:8123",
        "127.0.0.1/",
        "127.0.0.1#",
        "127.0.0.1?x",
        "127.0.0.1:8123:1",
        "127.0.0.1:port",
        "127.0.0.1 evil.example",
        "[::1]evil",
        "localhost\t",
    ],
)
def test_names_that_are_not_ours_are_refused(page, host):
    """DNS rebinding: a foreign name that resolves to this machine."""
    for path in ("/", "/api/session", "/assets/label.css"):
        assert page.client.get(path, headers={"Host": host}).status_code == 400
    headers = {"Host": host, TOKEN_HEADER: page.token}
    assert page.post("next", headers=headers).status_code == 400


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_loopback_goes_by_its_names_at_any_port(page, host):
    headers = {"Host": host, "Origin": f"http://{host}", TOKEN_HEADER: page.token}
    assert page.post("next", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_refused_even_with_the_token(page, foreign):
    assert page.post("next", headers={TOKEN_HEADER: page.token, **foreign}).status_code == 403
    assert page.client.get("/api/session", headers=foreign).status_code == 403


def test_the_pages_own_requests_pass(page):
    headers = {TOKEN_HEADER: page.token, **ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert page.post("next", headers=headers).status_code == 200
    assert page.client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_beyond_loopback_addresses_pass_and_foreign_names_do_not(desk):
    page = Page(desk, host="0.0.0.0")
    get = page.client.get
    assert get("/", headers={"Host": "192.168.1.7:8123"}).status_code == 200
    assert get("/", headers={"Host": "evil.example"}).status_code == 400
    named = Page(desk, host="labels.example")
    assert named.client.get("/", headers={"Host": "labels.example:80"}).status_code == 200


def test_beyond_loopback_nobody_gets_in_without_the_key(desk):
    page = Page(desk, host="0.0.0.0")
    for key in ("", page.app.key[:-1], page.app.key + "x", page.app.key.upper(), "é" * 10):
        refused = page.session(key.encode())
        assert refused.status_code == 401
        assert "whole address" in refused.json()["error"]
    assert page.client.get("/").status_code == 200  # the page itself holds nothing
    assert page.app.key not in page.client.get("/").text
    assert page.app.address("http://h/") == f"http://h/#{page.app.key}"
    other = Page(desk, host="0.0.0.0")
    assert other.app.key != page.app.key
    assert page.post("next", headers={TOKEN_HEADER: other.token}).status_code == 403
    assert Page(desk).app.key == ""  # on loopback there is none


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.7", False), ("localhost.evil", False)],
)  # fmt: skip
def test_what_loopback_is(host, expected):
    assert is_loopback(host) is expected


# ------------------------------------------------------------------ what is served


@pytest.mark.parametrize("path", ["/", "/assets/label.css", "/api/session", "/nowhere"])
def test_every_answer_has_the_strict_policy(page, path):
    headers = page.client.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_refusals_have_the_policy_too(page):
    refused = page.client.get("/", headers={"Host": "evil.example"})
    assert "content-security-policy" in refused.headers


def test_files_are_ours_and_name_no_other_place(page):
    files = {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()}
    assert set(files) == {*(path.name for path in ASSETS), "label.html", "results.html"}
    for name, text in files.items():
        for place in text.replace("http://www.w3.org/2000/svg", "").split("//")[:-1]:
            assert not place.endswith(("http:", "https:", '"', "'", "(")), f"{name}: {place[-40:]}"
    for html in (files["label.html"], files["results.html"]):
        for inline in ("<style", " style=", "onclick", "onload", "javascript:"):
            assert inline not in html
        assert html.count("<script") == html.count('<script type="module" src="/assets/') == 1


@pytest.mark.parametrize("name", ["label.html", "../server.py", "%2e%2e/server.py", "x.js", ""])
def test_nothing_else_is_served(page, name):
    assert page.client.get(f"/assets/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_pages_that_load_scripts_from_elsewhere_are_off(page, path):
    assert page.client.get(path).status_code == 404


def test_the_raters_name_is_escaped(desk):
    page = Page(desk, rater='"><script>alert(1)</script>{{7*7}}')
    app = create_app(desk, rater=page.rater)
    text = TestClient(app, base_url=f"http://{HOST}").get("/").text
    assert "<script>alert" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in text


def test_texts_travel_as_they_are_and_what_is_hidden_is_spelled_out(store):
    store.add([Comparison("<b>{{7*7}}</b>", ("a\u202eb\x00", "</script><script>x"))])
    question = Page(StoreDesk(store)).next()
    assert question["prompt"] == [["<b>{{7*7}}</b>", False]]
    answers = sorted(question["answers"])
    assert answers == [
        [["</script><script>x", False]],
        [["a", False], ["\\u202e", True], ["b", False], ["\\x00", True]],
    ]


# ------------------------------------------------------------------ starting


def test_a_free_port_is_found_and_a_taken_one_named():
    with listen() as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}/"
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(OSError, match=r"cannot listen on no\.such\.host\.invalid"):
        listen("no.such.host.invalid")


def test_without_the_extra_the_message_says_what_to_install():
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "try: import llm_gym.feedback.labelling.server\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'llm-gym[label]'" in done.stdout
    assert "--terminal" in done.stdout
