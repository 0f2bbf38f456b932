"""Films: both formats are read back, and whatever ends a flight leaves a finished film."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from llm_gym_autopilot.aircraft import NAVION
from llm_gym_autopilot.rendering import Cockpit, CockpitFrame, Recorder
from llm_gym_autopilot.telemetry import Telemetry

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("pygame")

SHAPE = (400, 600, 3)
NUM_FRAMES = 30


@pytest.fixture(scope="module")
def pictures():
    """A climb, as the cockpit shows it, uint8 `(frames, height, width, 3)`."""
    cockpit = Cockpit()
    path, drawn = [], []
    for step in range(NUM_FRAMES):
        altitude, pitch = 1500.0 + step, 5 * np.sin(step / 5)
        telemetry = Telemetry(
            altitude, 53.0 + pitch, pitch, pitch, 2.0, 0.0, 1.0, pitch, 0.6, 0.6, 2000.0,
            1580.0, 55.0, 1580.0 - altitude, 2.0 - pitch, 0.5, 0.1 * step,
        )  # fmt: skip
        path.append((0.2 * step, altitude))
        frame = CockpitFrame.at(
            telemetry, limits=NAVION, turbulence="light", time_s=0.2 * step, path=path, reward=0.5
        )
        drawn.append(cockpit.draw(frame))
    return np.stack(drawn)


def read_gif(path):
    with Image.open(path) as film:
        times, pictures = [], []
        for index in range(film.n_frames):
            film.seek(index)
            times.append(film.info["duration"])
            pictures.append(np.asarray(film.convert("RGB")))
        return np.stack(pictures), times, film.info


def read_mp4(path):
    film = imageio_ffmpeg.read_frames(str(path))
    about = next(film)
    return np.stack([np.frombuffer(frame, np.uint8).reshape(SHAPE) for frame in film]), about


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_gif(pictures, tmp_path):
    path = tmp_path / "films" / "flight.GIF"
    with Recorder(path, fps=5) as film:
        for picture in pictures:
            film.write(picture)
        assert film.num_frames == NUM_FRAMES
    shown, times, info = read_gif(path)
    assert shown.shape == pictures.shape
    assert times == [200] * NUM_FRAMES
    assert info["loop"] == 0  # for ever
    # A colour or two of a gradient are merged, nothing else.
    error = np.abs(shown.astype(int) - pictures).mean(axis=(1, 2, 3))
    assert error.max() < 3
    assert path.stat().st_size < 10_000 * NUM_FRAMES  # 300 of them: 3 MB
    assert names(path.parent) == ["flight.GIF"]


def test_gif_of_changing_and_unchanging_pixels(tmp_path):
    """Every pixel of every picture survives the way over differences between pictures."""
    colors = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [90, 90, 90]], dtype=np.uint8)
    shown = np.random.default_rng(0).integers(4, size=(12, 16, 24))
    shown[5] = shown[4]
    with Recorder(tmp_path / "x.gif", fps=50) as film:
        for picture in colors[shown]:
            film.write(picture)
    read, times, _ = read_gif(tmp_path / "x.gif")
    assert times == [20] * 12
    assert np.abs(read.astype(int) - colors[shown]).max() < 16


def test_mp4(pictures, tmp_path):
    path = tmp_path / "flight.mp4"
    with Recorder(path, fps=12.5) as film:
        for picture in pictures:
            film.write(picture)
    shown, about = read_mp4(path)
    assert shown.shape == pictures.shape
    assert about["fps"] == 12.5
    assert about["codec"] == "h264"
    assert np.abs(shown.astype(int) - pictures).mean() < 5
    assert names(tmp_path) == ["flight.mp4"]


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_flight_leaves_a_finished_film(pictures, tmp_path, suffix, error):
    path = tmp_path / f"flight.{suffix}"
    path.write_text("an older film")
    with pytest.raises(error), Recorder(path) as film:  # noqa: PT012
        for picture in pictures[:7]:
            film.write(picture)
        assert path.read_text() == "an older film"
        raise error
    kept = read_gif(path)[0] if suffix == "gif" else read_mp4(path)[0]
    assert len(kept) == 7
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_without_a_picture_an_older_film_stays(tmp_path, suffix):
    path = tmp_path / f"flight.{suffix}"
    path.write_text("an older film")
    with Recorder(path):
        pass
    assert path.read_text() == "an older film"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["flight.avi", "flight", "flight.png", "gif"])
def test_other_suffixes(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.gif or \.mp4"):
        Recorder(tmp_path / name)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_paces(tmp_path, fps):
    with pytest.raises(ValueError, match=f"fps={fps}"):
        Recorder(tmp_path / "x.mp4", fps=fps)


def test_a_gif_has_a_fastest_pace(tmp_path):
    with pytest.raises(ValueError, match="fps=100 is too fast for a GIF"):
        Recorder(tmp_path / "x.gif", fps=100)


def test_pictures_must_be_pictures_of_one_size(pictures, tmp_path):
    with Recorder(tmp_path / "x.gif") as film:
        with pytest.raises(ValueError, match="float64"):
            film.write(pictures[0] / 255)
        with pytest.raises(ValueError, match="uint8"):
            film.write(pictures[0][..., 0])
        film.write(pictures[0])
        with pytest.raises(ValueError, match=r"\(200, 600, 3\)"):
            film.write(pictures[0][:200])
    assert len(read_gif(tmp_path / "x.gif")[0]) == 1


@pytest.mark.parametrize(
    ("name", "modules"), [("x.mp4", ["imageio_ffmpeg"]), ("x.gif", ["PIL", "PIL.Image"])]
)
def test_a_missing_library_is_named_before_the_flight(monkeypatch, tmp_path, name, modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyNotInstalled, match=r"llm-gym-autopilot\[render\]"):
        Recorder(tmp_path / name)
