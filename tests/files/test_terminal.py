"""Pictures made of characters, and the same as files."""

from __future__ import annotations

import math

import pytest
from rich.console import Group
from rich.text import Text

from llm_gym.files.terminal import BLOCKS, COLUMNS, bar, sparkline, write_png


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (1.0, "████"),
        (0.5, "██"),
        (0.53125, "██▏"),
        (0.0, ""),
        (0.0001, "▏"),
        (7.0, "████"),
        (-1.0, ""),
        (math.nan, ""),
    ],
)
def test_bars_are_to_an_eighth_of_a_character(share, drawn):
    assert bar(share, 4) == drawn


def test_sparklines_go_from_the_lowest_to_the_highest():
    assert sparkline(range(8)) == COLUMNS
    assert sparkline([0, 7, math.nan, 3.5]) == "▁█ ▅"
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([1, 2], low=0, high=2) == "▅█"
    assert sparkline([]) == sparkline([math.nan]) == ""


def test_long_curves_are_means_of_their_parts():
    assert sparkline([0, 2, 4, 6, 10, 12], width=3) == sparkline([1, 5, 11])
    assert len(sparkline(range(1000), width=48)) == 48


def test_blocks_are_drawn_where_they_stand_and_in_their_colour(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "pictures" / "one.png"
    write_png(Group(Text("a  " + BLOCKS[-1] * 2, style="green"), Text(" "), Text("▄")), path)
    with image.open(path) as file:
        picture = file.convert("RGB")
    assert picture.size == (2 * 30 + 88 * 11, 2 * 30 + 3 * 26)
    green, paper, ink = (0x2F, 0x85, 0x5A), (0xFB, 0xFA, 0xF7), (0x1F, 0x24, 0x30)
    assert picture.getpixel((30 + 3 * 11 + 4, 30 + 13)) == green
    assert picture.getpixel((30 + 4 * 11 + 4, 30 + 13)) == green
    assert picture.getpixel((30 + 5 * 11 + 4, 30 + 13)) == paper
    half = [picture.getpixel((34, 30 + 2 * 26 + y)) for y in (8, 20)]
    assert half == [paper, ink]  # half a column is its lower half


def test_letters_are_drawn(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with image.open(write_png(Text("wide words"), tmp_path / "w.png")) as file:
        grey = file.convert("L")
    left = grey.crop((30, 30, 30 + 10 * 11, 56))
    right = grey.crop((30 + 12 * 11, 30, 30 + 30 * 11, 56))
    assert left.getextrema()[0] < 120
    assert right.getextrema()[0] > 240
