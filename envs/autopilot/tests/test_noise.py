"""Random streams and the gusts made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from llm_gym_autopilot.aircraft import FEET, NAVION
from llm_gym_autopilot.noise import NoiseStream, NoiseStreams, stream_starts
from llm_gym_autopilot.task import STEP_SECONDS
from llm_gym_autopilot.turbulence import LEVELS, SCALE, DrydenFilter, gust_deviation


def test_splitmix64_is_the_published_generator():
    # First outputs for the seed 1234567, as other implementations of SplitMix64 print them.
    stream = NoiseStream(1234567)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    for value in expected:
        assert stream.uniform() == ((value >> 32) + 0.5) * 2.0**-32


def test_streams_side_by_side_draw_what_each_alone_draws():
    states = [stream_starts(seed)[1] for seed in range(50)]
    many = NoiseStreams(np.array(states, dtype=np.uint64))
    alone = [NoiseStream(state) for state in states]
    for _ in range(5):
        assert many.uniform().tolist() == [stream.uniform() for stream in alone]
        expected = np.transpose([stream.normal_pair() for stream in alone])
        np.testing.assert_allclose(many.normal_pair(), expected, rtol=1e-12, atol=1e-14)
    assert many.state.tolist() == [stream.state for stream in alone]


def test_float32_streams_draw_the_same_numbers():
    states = np.arange(1000, dtype=np.uint64)
    double, single = NoiseStreams(states), NoiseStreams(states, np.float32)
    np.testing.assert_allclose(double.uniform(), single.uniform(), atol=1e-6)
    pair = single.normal_pair()
    assert pair.dtype == np.float32
    np.testing.assert_allclose(double.normal_pair(), pair, atol=2e-5)


def test_normal_numbers_are_normal_and_independent():
    streams = NoiseStreams(np.array([stream_starts(i)[0] for i in range(2000)], dtype=np.uint64))
    draws = np.array([streams.normal_pair().copy() for _ in range(50)])  # (50, 2, 2000)
    values = draws.reshape(-1)
    error = 1 / math.sqrt(values.size)
    assert abs(values.mean()) < 4 * error
    assert abs(values.var() - 1) < 6 * error
    assert abs((values**4).mean() - 3) < 30 * error
    for first, second in [
        (draws[:, 0], draws[:, 1]),  # of a pair
        (draws[:-1, 0], draws[1:, 0]),  # one after the other
        (draws[:, 0, :-1], draws[:, 0, 1:]),  # neighbouring seeds
    ]:
        assert abs((first * second).mean()) < 4 / math.sqrt(first.size)


def test_uniform_numbers_are_uniform():
    streams = NoiseStreams(np.array([stream_starts(i)[0] for i in range(3000)], dtype=np.uint64))
    values = np.concatenate([streams.uniform() for _ in range(20)])
    counts = np.histogram(values, bins=50, range=(0, 1))[0]
    chi2 = ((counts - values.size / 50) ** 2 / (values.size / 50)).sum()
    assert chi2 < 95  # 49 degrees of freedom; exceeded once in 10,000
    assert 0 < values.min() < values.max() < 1


def test_seeds_and_streams_differ():
    starts = {start for seed in range(1000) for start in stream_starts(seed)}
    assert len(starts) == 2000
    assert stream_starts(2**70 + 5) != stream_starts(5)


# ---------------------------------------------------------------------- gusts


def test_levels():
    assert gust_deviation("severe") == pytest.approx(7.6 * FEET)
    assert list(LEVELS) == ["none", "light", "moderate", "severe"]
    with pytest.raises(ValueError, match="turbulence='storm' must be one of none, light"):
        gust_deviation("storm")


@pytest.fixture(scope="module")
def gusts():
    """Unit gusts u and w, `(steps, 400)`, from the stationary start."""
    gust = DrydenFilter(NAVION.reference_airspeed, STEP_SECONDS)
    rng = np.random.default_rng(0)
    n, steps = 400, 3000
    a, b, independent = rng.normal(size=(3, n))
    c = 0.5 * (b + independent)
    u, w = np.empty((2, steps, n))
    for step in range(steps):
        first, second = rng.normal(size=(2, n))
        a = gust.decay * a + gust.drive * first
        c = gust.decay * c + gust.feed * b + gust.cross_drive * second
        b = gust.decay * b + gust.drive * second
        u[step], w[step] = a, gust.weight_b * b + gust.weight_c * c
    return u, w


def test_gusts_have_unit_variance_from_the_first_step_on(gusts):
    for gust in gusts:
        assert gust[:5].var() == pytest.approx(1.0, rel=0.15)
        assert gust.var() == pytest.approx(1.0, rel=0.03)


def test_gusts_have_drydens_spectra(gusts):
    tau = SCALE / NAVION.reference_airspeed
    frequency = 2 * np.pi * np.fft.rfftfreq(3000, STEP_SECONDS)  # rad/s
    x = (tau * frequency) ** 2
    shapes = (2 * tau / (1 + x), tau * (1 + 3 * x) / (1 + x) ** 2)  # two-sided, variance 1
    for gust, shape in zip(gusts, shapes, strict=True):
        power = (np.abs(np.fft.rfft(gust, axis=0)) ** 2).mean(1) * STEP_SECONDS / 3000
        band = (frequency > 0.05) & (frequency < 3.0)  # far below the sampling rate
        ratio = power[band] / shape[band]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.06)
        assert abs(np.polyfit(np.log(frequency[band]), np.log(ratio), 1)[0]) < 0.08
