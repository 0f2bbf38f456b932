"""A language model as a judge, against a local server that speaks the chat-completions protocol."""

from __future__ import annotations

import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import llm_gym
from llm_gym import JudgeScorer, ScorerError, WeightedSum
from llm_gym.scorers import ScorerSignatureError
from llm_gym.scorers.judge import find_score
from tests.text.helpers import EOS, arguments, word

KEY = "sk-secret"


class Server:
    """Replies with what `reply` makes of a question; a status where that is an int."""

    def __init__(self):
        self.requests, self.paths, self.headers = [], [], []
        self.reply = lambda question: "It is fair.\nScore: 7"
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(request)
                server.paths.append(self.path)
                server.headers.append(dict(self.headers))
                reply = server.reply(request["messages"][-1]["content"])
                self.send_response(reply if isinstance(reply, int) else 200)
                self.end_headers()
                if isinstance(reply, (str, type(None))):
                    message = {"role": "assistant", "content": reply}
                    reply = {
                        "object": "chat.completion",
                        "choices": [{"index": 0, "message": message}],
                    }
                self.wfile.write(json.dumps(reply).encode())

            def log_message(self, *args):
                """Keep the test's output clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def judge(server, **options):
    return JudgeScorer(server.url, "tiny", **({"backoff": 0.0, "timeout": 30.0} | options))


def test_it_asks_and_reads_the_score(server):
    scorer = judge(server, api_key_env="JUDGE_KEY", system="Be strict.", max_tokens=50)
    assert scorer(["Say hello."], ["Hello {you}!"]) == [7.0]
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("tiny", 0.0, 50)
    system, user = request["messages"]
    assert system == {"role": "system", "content": "Be strict."}
    assert user["role"] == "user"
    for text in ("Say hello.", "Hello {you}!", "from 0 (worst) to 10 (best)"):
        assert text in user["content"]


def test_many_are_asked_side_by_side_and_keep_their_order(server):
    together = threading.Barrier(4)

    def reply(question):
        together.wait(30)
        return f"Score: {question}"

    server.reply = reply
    scorer = judge(server, template="{completion}", concurrency=4)
    assert scorer(["p"] * 4, ["1", "2", "3", "4"]) == [1.0, 2.0, 3.0, 4.0]


def test_a_template_may_name_columns_and_bounds(server):
    scorer = judge(
        server, template="{prompt}|{completion}|{answer}|{low}-{high}|{{x}}", low=1, high=7
    )
    assert scorer(["p"], ["c"], answer=["4"], other=[object()]) == [7.0]
    assert server.requests[0]["messages"] == [{"role": "user", "content": "p|c|4|1-7|{x}"}]
    with pytest.raises(
        ScorerSignatureError, match="the template names 'answer', which is not a col"
    ):
        scorer(["p"], ["c"])


def test_it_reads_the_turns_of_a_conversation(server):
    turns = [{"role": "system", "content": "Hm."}, {"role": "user", "content": "Hi."}]
    scorer = judge(server, template="{prompt}|{completion}")
    assert scorer([turns], [[{"role": "assistant", "content": "Ho."}]]) == [7.0]
    assert scorer([turns[1:]], ["Ho."]) == [7.0]
    asked = [request["messages"][0]["content"] for request in server.requests]
    assert asked == ["system: Hm.\nuser: Hi.|Ho.", "Hi.|Ho."]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("I would rather not.", "no score: 'I would rather not.'"),
        ("Score: 11", "score 11 is not between 0 and 10"),
        ("Score: -1", "score -1 is not between"),
        ("Score: 70/100", "has no score"),
        ("", "has no score"),
        (None, "reply has no text"),
        ({"choices": []}, "is no chat completion"),
        ([], "is no chat completion"),
        ({"error": {"message": "overloaded"}}, "is no chat completion"),
        (503, "status 503"),
        (429, "status 429"),
    ],
)
def test_a_reply_without_a_score_is_asked_for_again(server, bad, problem):
    replies = [bad, "Score: 3"]
    server.reply = lambda question: replies.pop(0)
    assert judge(server)(["p"], ["c"]) == [3.0]
    server.reply = lambda question: bad
    with pytest.raises(ScorerError, match="the last of 2 attempts") as caught:
        judge(server, retries=1)(["p"], ["c"])
    assert problem in str(caught.value)
    assert judge(server, retries=0, on_failure=-1.0)(["p"], ["c"]) == [-1.0]


def test_a_refused_key_is_no_riddle(server):
    server.reply = lambda question: 401
    with pytest.raises(ScorerError, match=r"status 401 .*not worth another try") as caught:
        judge(server, api_key_env="JUDGE_KEY")(["p"], ["c"])
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_the_key_is_kept_nowhere(server):
    scorer = judge(server, api_key_env="JUDGE_KEY")
    scorer(["p"], ["c"])
    assert KEY.encode() not in pickle.dumps(scorer)
    assert KEY not in repr(vars(scorer)) + repr(scorer)
    assert "Authorization" not in judge(server)._all_headers()


def test_a_query_and_headers_of_the_providers_own(server):
    scorer = JudgeScorer(f"{server.url}/?api-version=1", "tiny", headers={"api-key": "x"})
    assert scorer(["p"], ["c"]) == [7.0]
    assert server.paths == ["/v1/chat/completions?api-version=1"]
    assert {name.lower() for name in server.headers[0]} >= {"api-key", "content-type"}


def test_a_parser_of_your_own(server):
    server.reply = lambda question: "A+"
    scores = {"A+": 1.0, "B": 0.5}
    scorer = judge(server, parse=lambda reply: scores.get(reply), high=1.0)
    assert scorer(["p"], ["c"]) == [1.0]
    server.reply = lambda question: "Z"
    with pytest.raises(ScorerError, match="no score: 'Z'"):
        judge(server, parse=lambda reply: scores.get(reply), retries=0)(["p"], ["c"])


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 7", 7.0),
        ("**Score:** 7.5", 7.5),
        ("score = -2", -2.0),
        ("First I thought score: 3, but then:\nScore: 8", 8.0),
        ("Score: 7/10", 7.0),
        ("Score: 7 out of 10.", 7.0),
        ('{"score": 6}', 6.0),
        (" 4 ", 4.0),
        ("Score: 7/5", None),
        ("7 reasons speak for it", None),
        ("no", None),
    ],
)
def test_find_score(reply, score):
    assert find_score(reply, high=10.0) == score


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"base_url": "localhost:8000"}, ValueError, "url must start with http"),
        ({"model": ""}, ValueError, "model is empty"),
        ({"api_key_env": "NO_SUCH_KEY"}, ValueError, "'NO_SUCH_KEY': there is no such environment"),
        ({"low": 1, "high": 1}, ValueError, "low must be below high"),
        ({"template": "{prompt}"}, ValueError, r"has no \{completion\}"),
        ({"template": "{completion"}, ValueError, "no format string"),
        ({"template": "{completion}{0}"}, ValueError, "has the field '0'"),
        ({"template": "{completion.x}"}, ValueError, "has the field 'completion.x'"),
        ({"max_tokens": 0}, ValueError, "max_tokens must be at least 1"),
        ({"concurrency": 0}, ValueError, "concurrency must be at least 1"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        JudgeScorer(**({"base_url": "http://127.0.0.1:1/v1", "model": "m"} | options))


def test_it_judges_in_an_environment_and_in_a_sum(server):
    server.reply = lambda question: "Score: 2" if "w1" in question else "Score: 5"
    total = WeightedSum({"judge": (judge(server), 10.0), "brief": ("length:1", 1.0)})
    env = llm_gym.TextGenerationEnv(**arguments(scorer=total, prompts=["w4"]))
    env.reset(seed=0)
    env.step(word(1))
    _, reward, *_, info = env.step(EOS)
    assert reward == 21.0
    assert info["score_parts"] == {"judge": 2.0, "brief": 1.0}
