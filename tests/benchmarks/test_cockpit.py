"""The benchmark of a language model that flies: its lessons, and how a slow model is asked."""

from __future__ import annotations

from llm_gym_autopilot import words
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot

from benchmarks.cockpit.lessons import lessons
from benchmarks.cockpit.prompted import Sparing, question
from benchmarks.cockpit.run import figures, print_tables
from benchmarks.cockpit.tokenizer import give_numbers, readings_tokenizer
from llm_gym.supervised.loop import new_gpt2

WORDS = "low 230", "low 240", "high 230"


def test_lessons_are_the_teachers_words_whatever_the_controls_heard():
    for wildness in (0.0, 0.5):
        pairs = lessons("tuned-rule", 3, 0.2, wildness, seed=1)
        assert 100 < len(pairs) < 260
        rule = Translated(load_pilot("tuned-rule"))  # it remembers nothing
        assert rule.answer([line for line, _ in pairs], None, None)[0] == [a for _, a in pairs]
    assert pairs == lessons("tuned-rule", 3, 0.2, 0.5, seed=1)
    assert pairs != lessons("tuned-rule", 3, 0.2, 0.5, seed=2)


def test_a_slow_speaker_is_asked_now_and_then():
    class Loud:
        def answer(self, lines, state, episode_start):
            return ["Stick back 1." if "low" in line else "what?" for line in lines], state

    sparing = Sparing(Loud(), every=3)
    state, said = None, []
    for _ in range(4):
        answers, state = sparing.answer(["low 1", "high 1"], state, None)
        said.append(answers)
    assert said == [["stick back 1", "what?"], *[["hold", "hold"]] * 2, ["stick back 1", "what?"]]
    assert sparing.understood.tolist() == [2, 4]
    assert question().endswith("{line}:")
    examples = [line.split(": ") for line in question().splitlines() if line[:3] in ("low", "hig")]
    assert all(words.understand(answer) for _, answer in examples)


def test_the_tables_tell_what_was_flown(capsys):
    pilot = SpokenPilot(Translated(load_pilot("rule")))
    level = figures(evaluate_pilot(pilot, turbulence="none", episodes=4), pilot)
    assert (level["flights"], level["not_understood"]) == (4, 0.0)
    levels = dict.fromkeys(("none", "light", "moderate"), level)
    print_tables({"flights": {"rule": {"label": "the rule", "levels": levels}}})
    out = capsys.readouterr().out
    assert "the rule" in out
    assert f"{3 * level['ended_early']} of 12" in out


def test_every_reading_and_answer_has_a_token_of_its_own():
    tokenizer = readings_tokenizer(32)
    pairs = lessons("tuned-rule", 3, 0.2, 0.5)
    for line, answer in pairs:
        for text, longest in ((line, 10), (answer, 4)):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) <= longest
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
    model = new_gpt2(tokenizer, context=32, width=16, layers=1, heads=4, seed=0)
    give_numbers(model, tokenizer, seed=0)
    weights = model.get_input_embeddings().weight.detach()
    low, near, high = (weights[tokenizer(f"{word}")["input_ids"][0]] for word in WORDS)
    assert (low - near).norm() < 0.2 * (low - high).norm()
