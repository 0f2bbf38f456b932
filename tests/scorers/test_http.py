"""The HTTP scorer against a real server on the loopback interface that misbehaves on demand."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from llm_gym.scorers import HTTPScorer, ScorerError, ScorerSignatureError, WeightedSum

FINE = "fine"  # a behaviour: answer with each completion's length


class Endpoint:
    """A server that works through a list of behaviours, one a request, then answers well.

    A behaviour is `FINE`, a status, a body, "slow" (no answer until the test is over), "trickle" (a
    byte now and then, for as long), "trickle the headers", "flood" (an answer without an end), or
    "meet" (waits until so many requests are there as `together` counts).
    """

    def __init__(self):
        self.behaviours = []
        self.requests = []
        self.headers = []
        self.over = threading.Event()
        self.together = threading.Barrier(1)
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.headers.append(dict(self.headers))
                endpoint.requests.append(json.loads(body))
                endpoint.answer(self, endpoint.requests[-1])

            def log_message(self, *args):
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/score"
        serve = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        serve.start()

    def answer(self, handler, request):
        behaviour = self.behaviours.pop(0) if self.behaviours else FINE
        if behaviour == "slow":
            self.over.wait(30)
            return
        if behaviour == "meet":
            self.together.wait(30)
            behaviour = FINE
        if behaviour in ("trickle", "trickle the headers", "flood"):
            self.never_end(handler, behaviour)
            return
        if isinstance(behaviour, int):
            handler.send_response(behaviour)
            handler.send_header("Location", "/elsewhere")
            handler.end_headers()
            return
        if behaviour == FINE:
            behaviour = json.dumps({"scores": [len(text) for text in request["completions"]]})
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(behaviour.encode())

    def never_end(self, handler, behaviour):
        with contextlib.suppress(OSError):  # the client has had enough
            handler.send_response(200)
            if behaviour != "trickle the headers":
                handler.end_headers()
            handler.flush_headers()
            while not self.over.wait(0.0 if behaviour == "flood" else 0.02):
                handler.wfile.write(b"x" * (65536 if behaviour == "flood" else 1))
        handler.close_connection = True

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def scorer(endpoint, pauses):
    return HTTPScorer(endpoint.url, sleep=pauses.append, timeout=5.0)


def test_it_posts_texts_and_columns_and_reads_the_scores(endpoint, scorer):
    scores = scorer.score(["p", "q"], ["one", "thrée"], {"answer": ["a", None]})
    assert scores.values.tolist() == [3.0, 5.0]
    assert scores.parts == {}
    assert endpoint.requests == [
        {"prompts": ["p", "q"], "completions": ["one", "thrée"], "answer": ["a", None]}
    ]
    assert endpoint.headers[0]["Content-Type"] == "application/json"


def test_batches_are_cut_to_size_and_put_together_again(endpoint):
    scorer = HTTPScorer(endpoint.url, batch_size=2, headers={"Authorization": "Bearer x"})
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    scores = scorer.score(["p"] * 5, texts, {"level": [1, 2, 3, 4, 5]})
    assert scores.values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert sorted(request["level"] for request in endpoint.requests) == [[1, 2], [3, 4], [5]]
    assert [headers["Authorization"] for headers in endpoint.headers] == ["Bearer x"] * 3


def test_it_gets_through_every_temporary_failure_with_growing_pauses(endpoint, pauses):
    endpoint.behaviours = [
        500,
        503,
        429,
        "not json",
        "[1.0]",
        '{"scores": [1.0, 2.0]}',
        '{"scores": [NaN]}',
        '{"scores": ["1"]}',
        '{"error": "later"}',
        "\xff",
    ]
    failures = len(endpoint.behaviours)
    scorer = HTTPScorer(endpoint.url, retries=failures, backoff=0.5, sleep=pauses.append)
    assert scorer(["p"], ["four"]) == [4.0]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]
    assert len(endpoint.requests) == failures + 1


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        (503, "status 503 Service Unavailable"),
        ("not json", "JSONDecodeError"),
        ('{"scores": [1.0]}', "the answer has 1 scores for 2 completions"),
        ('{"scores": [1.0, null]}', "the answer has None instead of a real number in row 1"),
        ('{"score": [1.0]}', 'with the key "scores"'),
    ],
)
def test_when_all_attempts_fail_the_error_says_what_the_last_one_met(endpoint, behaviour, problem):
    endpoint.behaviours = [behaviour] * 3
    scorer = HTTPScorer(endpoint.url, retries=2, sleep=lambda seconds: None, name="judge")
    with pytest.raises(ScorerError, match=r"'judge' got no scores from http://127") as caught:
        scorer.score(["a prompt", "q"], ["a text", "d"])
    assert problem in str(caught.value)
    assert "the last of 3 attempts" in str(caught.value)
    assert (caught.value.prompt, caught.value.completion) == ("a prompt", "a text")
    assert len(endpoint.requests) == 3


def test_a_slow_answer_is_not_waited_for(endpoint, pauses):
    endpoint.behaviours = ["slow"]
    scorer = HTTPScorer(endpoint.url, timeout=0.1, retries=100, sleep=pauses.append)
    assert scorer(["p"], ["four"]) == [4.0]
    assert len(pauses) >= 1


def test_a_time_out_is_an_error_too(endpoint):
    endpoint.behaviours = ["slow"]
    with pytest.raises(ScorerError, match="timed out"):
        HTTPScorer(endpoint.url, retries=0, timeout=0.05).score(["p"], ["c"])


@pytest.mark.parametrize("behaviour", ["trickle", "trickle the headers", "slow"])
def test_the_time_out_is_for_a_whole_request(endpoint, behaviour):
    """Each byte of a trickle is in time; the answer is not."""
    endpoint.behaviours = [behaviour]
    start = time.monotonic()
    with pytest.raises(ScorerError, match="timed out"):
        HTTPScorer(endpoint.url, retries=0, timeout=0.5).score(["p"], ["c"])
    assert time.monotonic() - start < 10


def test_the_time_limit_is_for_all_attempts_together(endpoint):
    endpoint.behaviours = ["slow"] * 100
    scorer = HTTPScorer(endpoint.url, retries=99, timeout=30.0, backoff=0.0, time_limit=0.5)
    start = time.monotonic()
    with pytest.raises(ScorerError, match=r"timed out.*time_limit=0.5 s over, 1 attempts"):
        scorer.score(["p"], ["c"])
    assert time.monotonic() - start < 10


def test_an_answer_without_an_end_is_not_read_to_it(endpoint):
    endpoint.behaviours = ["flood"]
    scorer = HTTPScorer(endpoint.url, retries=0, max_response_bytes=1000)
    with pytest.raises(ScorerError, match="the answer is longer than max_response_bytes=1000"):
        scorer.score(["p"], ["c"])


def test_an_answer_of_endless_depth_is_nonsense_as_others_are(endpoint):
    endpoint.behaviours = ["[" * 200_000, FINE]
    assert HTTPScorer(endpoint.url, backoff=0.0)(["p"], ["four"]) == [4.0]


def test_requests_run_side_by_side_and_keep_their_order(endpoint):
    """The server answers none of four until all four are there."""
    endpoint.together = threading.Barrier(4)
    endpoint.behaviours = ["meet"] * 4
    scorer = HTTPScorer(endpoint.url, batch_size=1, concurrency=4, retries=0, timeout=60.0)
    assert scorer(["p"] * 4, ["a", "bb", "ccc", "dddd"]) == [1.0, 2.0, 3.0, 4.0]


def test_no_more_requests_at_a_time_than_asked_for(endpoint):
    endpoint.together = threading.Barrier(2)
    endpoint.behaviours = ["meet"] * 2
    scorer = HTTPScorer(endpoint.url, batch_size=1, concurrency=1, retries=0, timeout=0.5)
    with pytest.raises(ScorerError, match=r"timed out.*completion 'a'"):
        scorer(["p"] * 2, ["a", "bb"])
    endpoint.together.abort()
    assert len(endpoint.requests) == 1


def test_after_an_error_nothing_more_is_asked(endpoint):
    endpoint.behaviours = [404] * 50
    with pytest.raises(ScorerError, match=r"status 404.*completion 'a'"):
        HTTPScorer(endpoint.url, batch_size=1, concurrency=2)(["p"] * 50, ["a"] + ["b"] * 49)
    assert len(endpoint.requests) < 50


def test_conversations_are_sent_as_texts_and_as_messages(endpoint, scorer):
    prompt = [{"role": "system", "content": "Hm."}, {"role": "user", "content": "Hi."}]
    reply = [{"role": "assistant", "content": "four"}]
    called = {"completion_ids": [[1, 2]], "trainer_state": object(), "log_extra": print}
    called |= {"log_metric": print, "answer": ["a"]}  # as TRL's trainers do
    assert scorer(prompts=[prompt], completions=[reply], **called) == [4.0]
    assert endpoint.requests == [
        {"prompts": ["Hi."], "completions": ["four"], "messages": [prompt + reply], "answer": ["a"]}
    ]


@pytest.mark.parametrize("status", [400, 401, 404, 302, 307])
def test_a_lasting_failure_is_not_tried_again_and_redirects_are_not_followed(
    endpoint, scorer, pauses, status
):
    endpoint.behaviours = [status]
    with pytest.raises(ScorerError, match=f"status {status} .*not worth another try"):
        scorer.score(["p"], ["c"])
    assert pauses == []
    assert len(endpoint.requests) == 1


def test_a_number_as_policy_scores_only_the_rows_that_failed_and_says_so(endpoint, caplog):
    endpoint.behaviours = [FINE, 500, FINE]
    scorer = HTTPScorer(endpoint.url, batch_size=2, retries=0, on_failure=-1.0, concurrency=1)
    with caplog.at_level(logging.WARNING):
        scores = scorer.score(["p"] * 5, ["a", "bb", "ccc", "dddd", "eeeee"])
    assert scores.values.tolist() == [1.0, 2.0, -1.0, -1.0, 5.0]
    assert scores.parts["failed"].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert "status 500" in caplog.text
    assert "scored -1.0 instead" in caplog.text


def test_nobody_listening_is_an_error(pauses):
    with socket.socket() as reserved:  # bound and not listening, so that the port stays unused
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"
        scorer = HTTPScorer(url, retries=1, sleep=pauses.append)
        with pytest.raises(ScorerError, match="refused"):
            scorer.score(["p"], ["c"])
    assert pauses == [0.5]


def test_only_the_columns_asked_for_are_sent(endpoint):
    scorer = HTTPScorer(endpoint.url, columns=["answer"])
    scorer.score(["p"], ["c"], {"answer": ["a"], "secret": [object()]})
    assert endpoint.requests == [{"prompts": ["p"], "completions": ["c"], "answer": ["a"]}]
    with pytest.raises(ScorerSignatureError, match="told to send 'answer', which is not a column"):
        scorer.score(["p"], ["c"])


@pytest.mark.parametrize("column", [[object()], [np.int64(1)], None])
def test_a_column_that_is_not_json_is_named(scorer, column):
    with pytest.raises(ScorerSignatureError, match=r"columns \['thing'\] as JSON"):
        scorer.score(["p"], ["c"], {"thing": column})


def test_a_secret_in_the_query_stays_out_of_messages(endpoint):
    endpoint.behaviours = [404]
    scorer = HTTPScorer(endpoint.url + "?key=hunter2")
    with pytest.raises(ScorerError) as caught:
        scorer.score(["p"], ["c"])
    assert "hunter2" not in str(caught.value) + repr(scorer)


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:///etc/passwd", "host/score", "http://", "http://u:p@host/", ""]
)
def test_other_urls_are_refused(url):
    with pytest.raises(ValueError, match="url must"):
        HTTPScorer(url)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": None}, TypeError),
        ({"backoff": -1}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"time_limit": 0}, ValueError),
        ({"concurrency": 0}, ValueError),
        ({"max_response_bytes": 0}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"on_failure": "ignore"}, ValueError),
        ({"on_failure": float("nan")}, ValueError),
        ({"on_failure": None}, TypeError),
    ],
)
def test_bad_options_are_refused(options, error):
    with pytest.raises(error, match=next(iter(options))):
        HTTPScorer("http://localhost/", **options)


def test_it_composes_and_can_be_copied(endpoint):
    total = WeightedSum({"judge": (HTTPScorer(endpoint.url, on_failure=0.0), 2.0)})
    scores = copy.deepcopy(total).score(["p"], ["four"])
    assert scores.values.tolist() == [8.0]
    assert set(scores.parts) == {"judge", "judge/failed"}
