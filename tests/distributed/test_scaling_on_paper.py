"""The formulas of the guide "Several processes" against simulations, message by message, and its table against the formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "several-processes.md"
LATENCY = 25e-6  # seconds of a message
CHUNK = 4 << 20  # bytes


class Network:
    """Processes of which each sends one message at a time and receives one: n bytes take α + n / β seconds."""

    def __init__(self, processes, latency, bandwidth):
        self.latency, self.bandwidth = latency, bandwidth
        self.clock = [0.0] * processes
        self.sent = [0] * processes

    def round(self, messages):
        """Messages (from, to, array) that are under way together; when the last is there, both ends go on."""
        now = list(self.clock)
        for a, b, array in messages:
            end = max(now[a], now[b]) + self.latency + array.nbytes / self.bandwidth
            self.clock[a], self.clock[b] = max(self.clock[a], end), max(self.clock[b], end)
            self.sent[a] += array.nbytes


def ring(vectors, network):
    """The sum by a ring: parts go round once while they are added up, and once more as they are."""
    n = len(vectors)
    parts = [np.array_split(v.copy(), n) for v in vectors]
    for add, first in ((True, 0), (False, 1)):
        for step in range(n - 1):
            messages = [(r, (r + 1) % n, parts[r][(r + first - step) % n].copy()) for r in range(n)]
            network.round(messages)
            for r, to, array in messages:
                k = (r + first - step) % n
                parts[to][k] = parts[to][k] + array if add else array
    return [np.concatenate(p) for p in parts]


def tree(vectors, network):
    """The sum by a tree: to the first process in ⌈log₂ N⌉ rounds, and back."""
    n, found = len(vectors), [v.copy() for v in vectors]
    rounds = [1 << k for k in range(math.ceil(math.log2(n)))]
    for d in rounds:
        messages = [(r, r - d, found[r]) for r in range(d, n, 2 * d)]
        network.round(messages)
        for _, to, array in messages:
            found[to] = found[to] + array
    for d in reversed(rounds):
        messages = [(r - d, r, found[r - d]) for r in range(d, n, 2 * d)]
        network.round(messages)
        for _, to, array in messages:
            found[to] = array.copy()
    return found


def ring_time(n, size, latency, bandwidth):
    return 2 * (n - 1) * (latency + size / (n * bandwidth))


def tree_time(n, size, latency, bandwidth):
    return 2 * math.ceil(math.log2(n)) * (latency + size / bandwidth)


def step_time(forward, backward, chunks, each):
    """A step whose gradients come in so many chunks, spread over the backward pass, each of which takes so long to be summed."""
    return forward + max(backward + each, backward / chunks + chunks * each)


@pytest.mark.parametrize("n", [2, 3, 4, 8, 16])
@pytest.mark.parametrize(("algorithm", "formula"), [(ring, ring_time), (tree, tree_time)])
def test_sums_over_processes(n, algorithm, formula):
    rng = np.random.default_rng(n)
    vectors = [rng.normal(size=48 * n) for _ in range(n)]
    network = Network(n, 3.0, 16.0)
    for found in algorithm(vectors, network):
        np.testing.assert_allclose(found, sum(vectors), rtol=1e-12, atol=1e-12)
    size = vectors[0].nbytes
    np.testing.assert_allclose(max(network.clock), formula(n, size, 3.0, 16.0), rtol=1e-12)
    if algorithm is ring:
        assert network.sent == [2 * (n - 1) * size // n] * n
    else:
        assert sum(network.sent) == 2 * (n - 1) * size


@pytest.mark.parametrize("each", [0.01, 0.1, 0.2, 0.5, 3.0])
@pytest.mark.parametrize("chunks", [1, 4, 10])
def test_overlap_with_the_backward_pass(chunks, each):
    forward, backward, end = 1.0, 2.0, 0.0
    for k in range(chunks):
        end = max(end, forward + backward * (k + 1) / chunks) + each
    np.testing.assert_allclose(step_time(forward, backward, chunks, each), end, rtol=1e-12)


def efficiency(n, size, bandwidth, forward=0.033, backward=0.067):
    """T(1) / T(N) where each process has a batch of the same size."""
    chunks = math.ceil(size / CHUNK)
    each = ring_time(n, size / chunks, LATENCY, bandwidth)
    return (forward + backward) / step_time(forward, backward, chunks, each)


def test_the_table_of_the_guide():
    rows = [
        [part.strip() for part in line.strip("|").split("|")]
        for line in GUIDE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "%" in line
    ]
    assert len(rows) == 6
    for name, n, slow, fast in rows:
        size = 4 * int(name.split()[0].replace(",", ""))
        expected = [f"{100 * efficiency(int(n), size, bits / 8 * 1e9):.0f} %" for bits in (10, 100)]
        assert [slow, fast] == expected, (name, n)
