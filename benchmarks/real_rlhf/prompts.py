"""What the model is asked to write: requests to other editors, as those that people rated were."""

from __future__ import annotations

from typing import NamedTuple

FORM = (
    "Write a short request to another editor of Wikipedia. It should say what you want: "
    "that they {what}."
)
"""Says nothing of manners: how polite a request is, is the model's own affair."""

TRAIN_REQUESTS = (
    "add a source to the article about {subject}",
    "explain why they removed a picture from the article about {subject}",
    "stop changing the dates in the article about {subject}",
    "review your draft of an article about {subject}",
    "translate a paragraph about {subject} from French",
    "merge two articles about {subject}",
    "shorten the introduction of the article about {subject}",
    "tell you where they found their numbers about {subject}",
    "undo their last edit of the article about {subject}",
    "help you with a table in the article about {subject}",
    "move the article about {subject} to a better title",
    "check the spelling of names in the article about {subject}",
    "discuss the article about {subject} before they change it",
    "put a map into the article about {subject}",
    "fix a broken link in the article about {subject}",
    "say whether their photograph of {subject} may be used freely",
)
HELD_OUT_REQUESTS = (
    "protect the article about {subject} against vandals",
    "read a new section about {subject} and say what they think",
    "delete an old draft about {subject}",
    "explain what they meant by their comment on {subject}",
    "archive the discussion about {subject}",
    "put the history of {subject} into an article of its own",
    "stop removing the criticism of {subject}",
    "answer your question about {subject}",
)
TRAIN_SUBJECTS = (
    "Vienna",
    "chess",
    "the piano",
    "volcanoes",
    "Napoleon",
    "the Nile",
    "jazz",
    "bicycles",
    "penguins",
    "the Moon",
    "coffee",
    "Marie Curie",
)
HELD_OUT_SUBJECTS = (
    "Lisbon",
    "tennis",
    "the violin",
    "glaciers",
    "Cleopatra",
    "the Danube",
    "opera",
    "airships",
)


class Task(NamedTuple):
    """A request to be written.

    Attributes:
        prompt: As the model is asked.
        subject: What it is about, without an article: a request that never names it asks nothing.
    """

    prompt: str
    subject: str


def tasks(number: int, *, held_out: bool) -> list[Task]:
    """The first `number` tasks; training and held-out ones have no request or subject in common.

    Args:
        number: At most 192 to train on, 64 held out.
        held_out: Which of them.

    Raises:
        ValueError: There are not so many.
    """
    requests = HELD_OUT_REQUESTS if held_out else TRAIN_REQUESTS
    subjects = HELD_OUT_SUBJECTS if held_out else TRAIN_SUBJECTS
    if not 1 <= number <= len(requests) * len(subjects):
        raise ValueError(
            f"number={number}: there are {len(requests) * len(subjects)} tasks; choose 1 to as many"
        )
    made = []
    for shift in range(len(subjects)):  # every request once before any comes again
        for place, request in enumerate(requests):
            subject = subjects[(place + shift) % len(subjects)]
            what = request.format(subject=subject)
            made.append(Task(FORM.format(what=what), subject.removeprefix("the ")))
    return made[:number]


def names_subject(task: Task, answer: str) -> bool:
    """Whether an answer says what it is about, in whatever case."""
    return task.subject.lower() in answer.lower()
