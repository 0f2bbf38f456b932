"""The benchmark of a language model that flies: its lessons, and how a slow model is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llm_gym_autopilot import task, words
from llm_gym_autopilot.evaluation import evaluate_pilot
from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot

from benchmarks.cockpit.lessons import lessons
from benchmarks.cockpit.prompted import Sparing, question
from benchmarks.cockpit.run import figures, print_tables
from benchmarks.cockpit.school import agreement, dagger, encoded, learnt_loss
from benchmarks.cockpit.tokenizer import give_numbers, readings_tokenizer
from llm_gym.supervised.loop import TrainingConfig, new_gpt2
from llm_gym.supervised.pairs import InstructionPair, encode_pairs
from llm_gym.supervised.sft import answer_perplexity

ELEVATOR = task.OBSERVATION_NAMES.index("elevator_command")
WORDS = "low 230", "low 240", "high 230"


def test_lessons_are_the_teachers_words_whatever_the_controls_heard():
    for wildness in (0.0, 0.5):
        pairs = lessons("tuned-rule", 3, 0.2, wildness, seed=1)
        assert 100 < len(pairs) < 260
        rule = Translated(load_pilot("tuned-rule"))  # it remembers nothing
        assert rule.answer([line for line, _ in pairs], None, None)[0] == [a for _, a in pairs]
    assert pairs == lessons("tuned-rule", 3, 0.2, 0.5, seed=1)
    assert pairs != lessons("tuned-rule", 3, 0.2, 0.5, seed=2)


class Stubborn:
    def answer(self, lines, state, episode_start):
        return ["stick back 1"] * len(lines), state


def test_a_student_flies_and_the_teacher_says_what_it_would_have_done():
    taught = lessons("tuned-rule", 3, 1.0, 0.0, student=Stubborn())
    rule = Translated(load_pilot("tuned-rule"))
    assert rule.answer([line for line, _ in taught], None, None)[0] == [a for _, a in taught]
    assert max(-words.read_lines([line])[0, ELEVATOR] for line, _ in taught) > 1.5  # at its stop
    assert agreement(rule, taught) == 1.0
    assert agreement(Stubborn(), taught) == np.mean([a == "stick back 1" for _, a in taught])


def test_lessons_are_read_as_fine_tuning_reads_them():
    tokenizer, pairs = readings_tokenizer(32), lessons("tuned-rule", 3, 0.1, 0.5)
    answers = encoded(tokenizer, pairs)
    plain = encode_pairs(tokenizer, [InstructionPair(*pair) for pair in pairs], None, 32)
    assert [(a.prompt_ids, a.completion_ids) for a in answers] == [
        (a.prompt_ids, a.completion_ids) for a in plain
    ]
    model = new_gpt2(tokenizer, context=32, width=16, layers=1, heads=4, seed=0)
    loss = learnt_loss(model, answers).item()
    assert np.exp(loss) == pytest.approx(answer_perplexity(model, plain, len(plain)), rel=1e-5)


def test_a_round_learns_from_its_lessons_and_from_those_before():
    tokenizer = readings_tokenizer(32)
    model = new_gpt2(tokenizer, context=32, width=16, layers=1, heads=4, seed=0)
    pairs = [(line, "hold") for line, _ in lessons("tuned-rule", 1, 0.4, 0.5)]
    weights = model.get_input_embeddings().weight
    seen = []

    def lessons_of(number):
        seen.append((number, weights.detach().sum().item()))
        return pairs if number == 0 else [(line, "stick back 1") for line, _ in pairs]

    config = TrainingConfig(batch_size=4, learning_rate=3e-2)
    told = list(dagger(model, tokenizer, lessons_of, (10_000, 100), config))
    assert [(row["lessons"], row["read"]) for row in told] == [
        (len(pairs), len(pairs)),
        (2 * len(pairs), 100),
    ]
    assert told[0]["loss"] < 0.5  # one word
    assert [number for number, _ in seen] == [0, 1]
    assert seen[0][1] != seen[1][1]  # it has practised before it flies
    # half of the second round's lessons contradict the other half
    assert told[1]["loss"] > 0.2


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


def test_a_crash_is_the_ground_or_a_stall_and_every_early_end_has_its_seed():
    levels = ("ground", "stall", "pitch", "load_factor", "underspeed")
    flown = evaluate_pilot("trim", turbulence="none", episodes=6)
    told = figures(replace(flown, causes=(None, *levels), seed=100), None)
    assert (told["ended_early"], told["crashed"]) == (5, 2)
    assert told["causes"] == dict(enumerate(levels, start=101))


def test_every_reading_and_answer_has_a_token_of_its_own():
    tokenizer = readings_tokenizer(32)
    pairs = lessons("tuned-rule", 3, 0.2, 0.5)
    for line, answer in pairs:
        for text, longest in ((line, 10), (answer, 4)):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) <= longest
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
    ends = words.lines_of(np.stack([task.OBSERVATION_BOUNDS, -task.OBSERVATION_BOUNDS]))
    assert not any(tokenizer.unk_token_id in ids for ids in tokenizer(ends)["input_ids"])
    model = new_gpt2(tokenizer, context=32, width=16, layers=1, heads=4, seed=0)
    give_numbers(model, tokenizer, seed=0)
    weights = model.get_input_embeddings().weight.detach()
    low, near, high = (weights[tokenizer(f"{word}")["input_ids"][0]] for word in WORDS)
    assert (low - near).norm() < 0.2 * (low - high).norm()
