"""The little linear algebra that a linear-quadratic regulator takes, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["discretise", "matrix_exponential", "riccati_residual", "solve_riccati"]

Array = NDArray[np.float64]

_TAYLOR_TERMS = 18  # of a matrix of norm 1/2: the next term is 2^-19/19! = 2e-23
_DOUBLINGS = 60


def matrix_exponential(matrix: Array) -> Array:
    """Exponential of a matrix: Taylor's series of a matrix halved until it is small, then squared.

    Method 3 of Moler and Van Loan, *Nineteen dubious ways to compute the exponential of a matrix*
    (SIAM Review, 2003), which they call one of the few that are reliable.

    Args:
        matrix: `(n, n)`.

    Returns:
        `(n, n)`.
    """
    norm = float(np.abs(matrix).sum(axis=0).max())
    halvings = max(0, int(np.ceil(np.log2(norm))) + 1) if norm > 0 else 0
    small = matrix / 2.0**halvings
    term = result = np.eye(len(matrix))
    for order in range(1, _TAYLOR_TERMS + 1):
        term = term @ small / order
        result = result + term
    for _ in range(halvings):
        result = result @ result
    return result


def discretise(a: Array, b: Array, dt: float) -> tuple[Array, Array]:
    """Exact step of dx/dt = A x + B u with the input held.

    Args:
        a: `(n, n)`, per second.
        b: `(n, m)`.
        dt: Length of the step, s.

    Returns:
        A_d `(n, n)` and B_d `(n, m)` of x' = A_d x + B_d u: blocks of the exponential of
        [[A, B], [0, 0]] dt (Van Loan, IEEE Transactions on Automatic Control, 1978).
    """
    n, m = b.shape
    block = np.zeros((n + m, n + m))
    block[:n, :n], block[:n, n:] = a, b
    step = matrix_exponential(block * dt)
    return step[:n, :n], step[:n, n:]


def solve_riccati(a: Array, b: Array, q: Array, r: Array) -> tuple[Array, Array]:
    """Discrete algebraic Riccati equation P = Q + A'PA - A'PB (R + B'PB)^-1 B'PA, by doubling.

    Each iteration looks twice as many steps ahead (Anderson, *Second-order convergent algorithms
    for the steady-state Riccati equation*, International Journal of Control, 1978).

    Args:
        a: `(n, n)`.
        b: `(n, m)`.
        q: Cost of the state, `(n, n)`, positive semidefinite.
        r: Cost of the input, `(m, m)`, positive definite.

    Returns:
        P `(n, n)` and the gain K `(m, n)` of the best u = -K x.

    Raises:
        ValueError: It does not converge: something unstable is out of the inputs' reach.
    """
    n = len(a)
    power, reach, cost = a, b @ np.linalg.solve(r, b.T), q
    for _ in range(_DOUBLINGS):
        with np.errstate(over="ignore", invalid="ignore"):
            inverse = np.linalg.solve(np.eye(n) + reach @ cost, np.hstack([power, reach]))
            new = cost + power.T @ cost @ inverse[:, :n]
            reach = reach + power @ inverse[:, n:] @ power.T
            power = power @ inverse[:, :n]
        if not np.isfinite(new).all():
            break
        done = float(np.abs(new - cost).max()) <= 1e-14 * float(np.abs(new).max())
        cost = (new + new.T) / 2
        if done:
            gain = np.linalg.solve(r + b.T @ cost @ b, b.T @ cost @ a)
            return cost, np.asarray(gain, dtype=np.float64)
    raise ValueError(
        "the Riccati equation does not converge: check that the inputs reach every unstable state "
        "and that the costs are positive"
    )


def riccati_residual(a: Array, b: Array, q: Array, r: Array, p: Array) -> float:
    """How far a solution is from solving its equation, as a share of its largest entry.

    Args:
        a: `(n, n)`.
        b: `(n, m)`.
        q: `(n, n)`.
        r: `(m, m)`.
        p: The solution, `(n, n)`.

    Returns:
        Largest entry of |Q + A'PA - A'PB (R + B'PB)^-1 B'PA - P| / largest of |P|.
    """
    gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
    residual = q + a.T @ p @ (a - b @ gain) - p
    return float(np.abs(residual).max() / np.abs(p).max())
