"""What `anynet.random` draws: distributions, the same bits on every device, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
from anynet.random import Generator
from anynet_backends import draws

N = 20_000
DRAWS = {
    "normal": lambda g, d: an.random.normal((3, 5), mean=1.0, std=2.0, generator=g, device=d),
    "uniform": lambda g, d: an.random.uniform((3, 5), low=-2.0, high=1.0, generator=g, device=d),
    "integers": lambda g, d: an.random.integers(-3, 10, (4, 2), generator=g, device=d),
    "bernoulli": lambda g, d: an.random.bernoulli(an.asarray([0.2, 0.7], device=d), (3, 2), generator=g),
    "permutation": lambda g, d: an.random.permutation(9, generator=g, device=d),
    "permutation of rows": lambda g, d: an.random.permutation(
        an.reshape(an.arange(12.0, device=d), (6, 2)), generator=g
    ),
    "choice": lambda g, d: an.random.choice(an.arange(7.0, device=d), (2, 3), generator=g),
    "choice once": lambda g, d: an.random.choice(7, 4, replace=False, generator=g, device=d),
    "choice by weight": lambda g, d: an.random.choice(3, 5, p=[0.2, 0.5, 0.3], generator=g, device=d),
    "multinomial": lambda g, d: an.random.multinomial(an.asarray([[1.0, 2.0], [3.0, 0.5]], device=d), 6, True, generator=g),
    "multinomial once": lambda g, d: an.random.multinomial(an.asarray([1.0, 2.0, 0.5], device=d), 2, generator=g),
    "categorical": lambda g, d: an.random.categorical(
        an.asarray([[0.0, 1.0, 2.0]] * 8, device=d), temperature=0.7, top_k=2, top_p=0.9, generator=g
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
def test_every_device_draws_the_same_bits(name: str, xp_device: str) -> None:
    here, there = DRAWS[name](Generator(3), "cpu"), DRAWS[name](Generator(3), xp_device)
    assert (there.device, there.dtype, there.shape) == (xp_device, here.dtype, here.shape)
    assert there.tolist() == here.tolist()
    other = DRAWS[name](Generator(4), "cpu")
    assert other.shape == here.shape


def test_the_numbers_of_a_seed_do_not_change() -> None:
    g = Generator(5)
    weights = an.asarray([[1.0, 2.0, 3.0], [3.0, 0.0, 1.0]])
    drawn = [
        an.random.normal(3, generator=g), an.random.normal(2, mean=1.5, std=0.25, dtype="float64", generator=g),
        an.random.uniform(2, generator=g), an.random.uniform((1, 2), low=-2.0, high=3.5, dtype="float64", generator=g),
        an.random.integers(-3, 100, 5, generator=g), an.random.integers(0, 200, 4, dtype="uint8", generator=g),
        an.random.bernoulli(0.4, 6, generator=g), an.random.permutation(6, generator=g),
        an.random.multinomial(weights, 4, True, generator=g),
    ]  # fmt: skip
    assert [x.tolist() for x in drawn] == [
        [-0.23974555730819702, -0.7067928314208984, 1.0541483163833618], [1.563274180483041, 1.488468153822135],
        [0.08408236503601074, 0.6061344146728516], [[-0.5774413408557395, 0.4032579503904863]],
        [24, 1, 3, 28, 18], [20, 78, 34, 66], [True, True, False, False, True, False], [1, 5, 0, 4, 2, 3],
        [[2, 2, 0, 2], [0, 2, 2, 0]],
    ]  # fmt: skip


def test_many_rows_of_weights_are_drawn_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = an.asarray(np.random.default_rng(0).integers(0, 3, (50, 7)) + np.eye(50, 7), dtype="float32")
    few = an.random.multinomial(weights, 9, True, generator=Generator(2)).tolist()
    monkeypatch.setattr(draws, "_BLOCK", 0)
    assert an.random.multinomial(weights, 9, True, generator=Generator(2)).tolist() == few


def test_the_default_stream_goes_on_and_is_saved() -> None:
    with an.random.fork_rng(5):
        state = an.random.get_state()
        first = an.random.normal(4), an.random.integers(10, shape=3)
        after = an.random.get_state()
        an.random.set_state(state)
        again = an.random.normal(4), an.random.integers(10, shape=3)
    assert [a.tolist() for a in first] == [a.tolist() for a in again]
    assert after == {**state, "weights": state["weights"] + 2}


def test_a_refused_draw_takes_no_step() -> None:
    before = an.random.get_state()
    for call in (
        lambda: an.random.normal(2, device="nowhere"),
        lambda: an.random.categorical(an.asarray([-math.inf])),
        lambda: an.random.multinomial(an.zeros(2)),
        lambda: an.random.choice(3, 4, replace=False),
    ):
        with pytest.raises(ValueError):
            call()
    assert an.random.get_state() == before


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_normal_and_uniform(dtype: str) -> None:
    x = an.random.normal(N, mean=-1.0, std=3.0, dtype=dtype, generator=Generator(1))
    assert x.dtype == dtype
    values = x.numpy().astype(float)
    assert abs(values.mean() + 1) < 5 * 3 / math.sqrt(N)
    assert abs(values.std() - 3) < 5 * 3 / math.sqrt(2 * N)
    u = an.random.uniform(N, low=2.0, high=4.0, dtype=dtype, generator=Generator(1))
    assert u.dtype == dtype
    values = u.numpy().astype(float)
    assert values.min() >= 2
    assert values.max() < 4
    counts = np.histogram(values, 16, (2, 4))[0]
    assert ((counts - N / 16) ** 2 / (N / 16)).sum() < 40  # χ² of 15 degrees: beyond 40 once in 2,000
    assert an.random.normal().shape == an.random.uniform(()).shape == ()


def test_uniform_never_reaches_its_end() -> None:
    # all numbers of float16 between these two, and the one where rounding would give the upper end
    x = an.random.uniform(N, low=0.0, high=1.0, dtype="float16", generator=Generator(2))
    assert float(an.max(x)) < 1
    near = an.random.uniform(
        N, low=1.0, high=float(np.nextafter(np.float32(1), np.float32(2))), generator=Generator(2)
    )
    assert set(near.tolist()) == {1.0}


def test_integers_are_exact() -> None:
    g = Generator(7)
    rolls = an.random.integers(1, 7, N, generator=g).numpy()
    counts = np.bincount(rolls, minlength=7)[1:]
    assert ((counts - N / 6) ** 2 / (N / 6)).sum() < 25  # χ² of 5 degrees
    wide = an.random.integers(0, 1 << 64, 9, dtype="uint64", generator=g)
    assert wide.dtype == "uint64"
    low = -(1 << 63)
    assert all(low <= v < low + 3 for v in an.random.integers(low, low + 3, 50, generator=g).tolist())
    big = (1 << 63) + 1  # half of the words are refused
    assert all(0 <= v < big for v in an.random.integers(0, big, 200, dtype="uint64", generator=g).tolist())
    assert an.random.integers(5, 6, (), dtype="int8").dtype == "int8"
    assert an.random.integers(3, shape=0).shape == (0,)


def test_permutation_and_choice() -> None:
    g = Generator(9)
    orders = {tuple(an.random.permutation(3, generator=g).tolist()) for _ in range(200)}
    assert len(orders) == 6
    x = an.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    mixed = an.random.permutation(x, axis=1, generator=g)
    assert sorted(mixed.tolist()[0]) == [1, 2, 3]
    an.sum(mixed).backward()
    assert x.grad.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert an.random.choice(an.zeros((4, 5, 2)), (3, 2), axis=1).shape == (4, 3, 2, 2)
    assert sorted(an.random.choice(5, 5, replace=False, generator=g).tolist()) == [0, 1, 2, 3, 4]
    counts = np.bincount(an.random.choice(3, N, p=[1, 0, 3], generator=g).numpy(), minlength=3)
    assert counts[1] == 0
    assert abs(counts[0] / N - 0.25) < 5 * math.sqrt(0.25 * 0.75 / N)


def test_multinomial_without_replacement() -> None:
    w = an.asarray([1.0, 2.0, 3.0])
    g = Generator(11)
    pairs = [tuple(an.random.multinomial(w, 2, generator=g).tolist()) for _ in range(4000)]
    assert all(a != b for a, b in pairs)
    # P(2, then 1) = 3/6 · 2/3; P(0, then 1) = 1/6 · 2/5
    for pair, p in (((2, 1), 1 / 3), ((0, 1), 1 / 15)):
        assert abs(pairs.count(pair) / 4000 - p) < 5 * math.sqrt(p * (1 - p) / 4000)
    rows = an.random.multinomial(an.asarray([[1.0, 0.0], [0.0, 1.0]]), 3, True)
    assert rows.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert rows.dtype == "int64"


def _shares(logits: object, **options: object) -> list[float]:
    rows = an.asarray(np.broadcast_to(np.asarray(logits, dtype=float), (N, len(logits))).copy())
    drawn = an.random.categorical(rows, generator=Generator(13), **options).numpy()
    return (np.bincount(drawn, minlength=len(logits)) / N).tolist()


def test_categorical_has_the_probabilities_of_softmax() -> None:
    logits = np.asarray([0.0, 1.0, -math.inf, 2.0])
    for temperature in (0.5, 1.0, 3.0):
        p = np.exp(logits / temperature)
        p /= p.sum()
        for got, want in zip(_shares(logits, temperature=temperature), p, strict=True):
            assert abs(got - want) <= 5 * math.sqrt(want * (1 - want) / N)
    assert _shares([1000.0, 0.0], temperature=1e-300) == [1.0, 0.0]


def test_what_top_k_and_top_p_leave() -> None:
    def left(logits: list[float], **options: object) -> list[int]:
        return [i for i, share in enumerate(_shares(logits, **options)) if share]

    assert left([1.0, 3.0, 3.0, 3.0], top_k=2) == [1, 2]  # of equal ones the first
    assert left([1.0, 3.0], top_k=9) == [0, 1]
    p = [math.log(q) for q in (0.5, 0.25, 0.125, 0.125)]
    assert left(p, top_p=0.5) == [0]
    assert left(p, top_p=0.51) == [0, 1]
    assert left(p, top_p=0.76) == [0, 1, 2]
    assert left(p, top_p=1.0) == [0, 1, 2, 3]
    assert left(p, top_p=1e-9) == [0]
    assert left(p, top_k=2, top_p=0.6) == [0]  # after top_k the first has two thirds
    assert left(p, top_k=2, top_p=0.7) == [0, 1]


def test_categorical_axes_and_zero_temperature() -> None:
    x = an.asarray([[1.0, 5.0, 5.0], [7.0, 2.0, 7.0]])
    assert an.random.categorical(x, temperature=0).tolist() == [1, 0]
    assert an.random.categorical(x, axis=0, temperature=0).tolist() == [1, 0, 1]
    assert an.random.categorical(an.zeros((2, 3, 4, 5)), axis=1).shape == (2, 4, 5)
    alone = an.random.categorical([0.0, -math.inf])
    assert (alone.shape, alone.dtype, int(alone)) == ((), "int64", 0)
    assert an.random.categorical(an.zeros((0, 3))).shape == (0,)


REFUSED = [
    (lambda: an.random.categorical(an.asarray([[0.0], [-math.inf]])), "a score above -inf"),
    (lambda: an.random.categorical(an.asarray([math.nan, 0.0])), "numbers or -inf, got nan"),
    (lambda: an.random.categorical(an.asarray([math.inf, 0.0])), "numbers or -inf, got inf"),
    (lambda: an.random.categorical(an.zeros((2, 0))), "no scores along axis -1"),
    (lambda: an.random.categorical(an.zeros(2), temperature=-1), "temperature must be ≥ 0"),
    (lambda: an.random.categorical(an.zeros(2), temperature=math.nan), "temperature must be a finite number"),
    (lambda: an.random.categorical(an.zeros(2), top_k=0), "top_k must be an integer ≥ 1"),
    (lambda: an.random.categorical(an.zeros(2), top_p=0.0), r"top_p must be in \(0, 1\]"),
    (lambda: an.random.multinomial(an.asarray([1.0, 0.0]), 2), "must be 2, to draw as many"),
    (lambda: an.random.multinomial(an.asarray([1.0, -1.0])), "finite numbers ≥ 0, got -1"),
    (lambda: an.random.choice(0, 1), "must have elements"),
    (lambda: an.random.choice(3, p=[1.0, 2.0]), r"p must have shape \(3,\)"),
    (lambda: an.random.bernoulli(1.5), r"p must be in \[0, 1\], got 1.5"),
    (lambda: an.random.bernoulli(an.zeros(3), (2,)), "does not broadcast"),
    (lambda: an.random.integers(3, 3), "low < high"),
    (lambda: an.random.integers(0, 300, dtype="int8"), "what int8 holds"),
    (lambda: an.random.normal(-1), "shape must be an integer ≥ 0"),
    (lambda: an.random.normal(2, std=-1.0), "std must be ≥ 0"),
    (lambda: an.random.uniform(2, low=2.0), "low must be ≤ high"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_drawn_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_habits_of_other_libraries_are_answered() -> None:
    with pytest.raises(TypeError, match="it is shape here"):
        an.random.normal(size=3)
    with pytest.raises(TypeError, match="the shape is one argument"):
        an.random.normal(2, 3)
    with pytest.raises(TypeError, match="for arrays scale the draws"):
        an.random.normal(2, mean=an.zeros(2))
    with pytest.raises(TypeError, match=r"must be an anynet\.random\.Generator"):
        an.random.normal(2, generator=np.random.default_rng(0))
    with pytest.raises(TypeError, match="dtype must be a real floating-point one"):
        an.random.uniform(2, dtype=an.int64)
    with pytest.raises(AttributeError, match=r"use anynet\.random\.integers\(low, high, shape\)"):
        an.random.randint  # noqa: B018
    assert [n for n in dir(an.random) if not n.startswith("_")] == sorted(an.random.__all__)
