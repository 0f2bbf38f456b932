"""Who is who where many people vote: every phone is a rater of its own."""

from __future__ import annotations

from threading import Lock

from llm_gym.feedback.labelling.questions import RATER_LENGTH, checked_rater
from llm_gym.feedback.preferences.records import request_key

GUEST = "Guest"
MOST_SEATS = 10_000
"""Names that are given out; a class has a few dozen."""


class Seats:
    """Gives every device a name that no other device has.

    Two pupils called Anna would else be one rater: of a pair that one of them has judged the other
    would never be asked, and nobody could say whether they agree. After a restart of the server
    names are free again, and a device that comes back takes the one that it had.
    """

    def __init__(self) -> None:
        self._device_of: dict[str, str] = {}
        self._lock = Lock()

    def take(self, name: str, device: str) -> str:
        """The name under which a device votes.

        Args:
            name: As it was entered; blank takes the next of `Guest 1`, `Guest 2`, ...
            device: Made up by the device, and the same every time it asks.

        Returns:
            The name, with a number behind it where another device has it.

        Raises:
            TypeError, ValueError: Not such a name or device, or there are no seats left.
        """
        device = request_key(device)
        blank = not name.strip()
        wanted = GUEST if blank else checked_rater(name)
        with self._lock:
            number = 1
            while True:
                seat = _numbered(wanted, number, guest=blank)
                if self._device_of.get(seat, device) == device:
                    break
                number += 1
            if seat not in self._device_of and len(self._device_of) >= MOST_SEATS:
                raise ValueError(f"{MOST_SEATS:,} names are taken; restart the page for new ones")
            self._device_of[seat] = device
            return seat


def _numbered(name: str, number: int, *, guest: bool) -> str:
    if guest:
        return f"{name} {number}"
    behind = f" ({number})" if number > 1 else ""
    return name[: RATER_LENGTH - len(behind)].rstrip() + behind
