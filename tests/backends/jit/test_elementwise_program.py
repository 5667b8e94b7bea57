"""Updates as programs give the bits of the array operations that they are written as."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.jit.specialize import traceable_numpy
from anynet.autograd.primitive import use_kernels
from anynet.optim import fused_update
from anynet_backends import TYPES
from anynet_backends.jit import availability, elementwise_program
from anynet_backends.jit.elementwise_program import ElementwiseProgram
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.tracer import TracedArray

OPTIMIZERS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"maximize": True, "l1": 0.1}],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}],
    "RMSprop": [{}, {"momentum": 0.5, "centered": True, "weight_decay": 0.01}],
    "Adam": [{"l1": 0.01}, {"amsgrad": True, "maximize": True, "weight_decay": 0.1}],
    "AdamW": [{"maximize": True}],
    "NAdam": [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"weight_decay": 0.1}],
    "Adamax": [{}, {"weight_decay": 0.1}],
    "Adadelta": [{}, {"weight_decay": 0.1, "maximize": True}],
    "Rprop": [{}],
    "Lion": [{}, {"weight_decay": 0.1}],
    "AdaBound": [{}, {"amsbound": True, "weight_decay": 0.1}],
    "ScheduleFreeAdamW": [{}, {"weight_decay": 0.1}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def compiled_at_the_first_call(monkeypatch):
    monkeypatch.setattr(elementwise_program, "WARMUP_CALLS", 0)


def run(name, options, dtype, on):
    rng = np.random.default_rng(5)
    params = [
        an.nn.Parameter(an.asarray(rng.normal(size=s).astype(dtype))) for s in ((7, 11), (3,), (5, 2, 4))
    ]
    optimizer = getattr(an.optim, name)(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}], **options
    )
    with use_kernels(on):
        for step in range(8):
            for p in params:
                p.grad = an.asarray((rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 3)).astype(dtype))
            if step == 3:
                params[1].grad = None  # the others make runs of their own
            if step == 5:
                optimizer.param_groups[0]["lr"] = 0.07
            optimizer.step()
    state = optimizer.state_dict()["state"]
    arrays = [v.numpy() for entry in state.values() for v in entry.values() if hasattr(v, "numpy")]
    return [p.numpy() for p in params], arrays


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("name", "options"), [(n, o) for n, several in OPTIMIZERS.items() for o in several])
@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.filterwarnings("ignore:(overflow|invalid|divide):RuntimeWarning")
def test_bit_for_bit(monkeypatch, name, options, dtype, extra, threads):
    monkeypatch.setattr(elementwise_program, "CACHE_BLOCK", 8)
    if not extra:
        monkeypatch.setenv("ANYNET_NUMBA", "off")
    monkeypatch.setattr(elementwise_program, "WARMUP_CALLS", 2 if name in ("SGD", "RAdam") else 0)
    kinds = dtype, "float32" if dtype == "float16" else dtype  # of parameters, of their state
    for kind, ours, theirs in zip(
        kinds, run(name, options, dtype, True), run(name, options, dtype, False), strict=True
    ):
        for got, want in zip(ours, theirs, strict=True):
            assert got.dtype == want.dtype == kind
            np.testing.assert_array_equal(got, want)


def program(function, *dtypes, names=(), read_only=()):
    traceable_numpy()
    return ElementwiseProgram(TYPES[TracedArray], function, dtypes, names, dtypes[0], read_only)


@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("n", [0, 1, 7, 16, 50])
def test_one_program_serves_every_length_and_number(monkeypatch, extra, n):
    monkeypatch.setattr(elementwise_program, "CACHE_BLOCK", 8)
    if not extra:
        monkeypatch.setenv("ANYNET_NUMBA", "off")

    def function(xp, vectors, c):
        x, y = vectors
        x -= c["rate"] * xp.sqrt(abs(y)) / (2.0 + y)
        x[...] = xp.where(x > 0, x, xp.sign(y))

    made = program(function, np.float64, np.float64, names=("rate",), read_only=(1,))
    assert (made.loop is not None) == (extra and availability.available())
    x, y = np.linspace(-1, 3, n), np.linspace(-1, 1, n)
    run, expected = made.bind((x, y)), x.copy()
    for rate in (0.1, 0.2, -3.0):
        run([rate])
        expected -= rate * np.sqrt(np.abs(y)) / (2.0 + y)
        expected = np.where(expected > 0, expected, np.sign(y))
        np.testing.assert_array_equal(x, expected)


@pytest.mark.skipif(not availability.available(), reason="needs the extra numba")
def test_every_optimizer_is_one_loop():
    rng = np.random.default_rng(2)
    for dtype in ("float32", "float16"):
        for name, several in OPTIMIZERS.items():
            for options in several:
                p = an.nn.Parameter(an.asarray(rng.normal(size=20).astype(dtype)))
                optimizer = getattr(an.optim, name)([p], **options)
                for _ in range(7):  # RAdam's sixth step is another program than its first
                    p.grad = an.asarray(rng.normal(size=20).astype(dtype))
                    optimizer.step()
                update = type(optimizer).elementwise_update
                made = fused_update._programs[update]
                assert made
                assert all(one is not None and one.loop is not None for one in made.values()), (name, options)


@pytest.mark.skipif(not availability.available(), reason="needs the extra numba")
@pytest.mark.parametrize(("n", "calls"), [(5, 24), (100_000, 3)])
def test_a_short_training_compiles_nothing(monkeypatch, n, calls):
    monkeypatch.setattr(elementwise_program, "WARMUP_CALLS", 24)

    def function(xp, vectors, c):
        vectors[0][...] = vectors[0] * c["a"] + 0.1

    made = program(function, np.float64, names=("a",))
    x = np.linspace(-1.0, 1.0, n)
    expected, update = x.copy(), made.bind((x,))
    for call in range(1, calls + 3):
        update([0.7])
        expected = expected * 0.7 + 0.1
        np.testing.assert_array_equal(x, expected)
        assert ("loop" in vars(made)) == (call >= calls)
    assert made.loop is not None
    other = np.ones(3)
    made.bind((other,))([0.7])  # what is compiled serves the next vectors at once
    np.testing.assert_array_equal(other, 0.7 + 0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:(overflow|invalid):RuntimeWarning")
def test_sign_and_float16_at_special_values(dtype):
    values = [0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 1e-45, 65519.0, 65520.0, -1e30, 6e-8, 2.9e-8]
    y = np.array(values, dtype)
    x, half = np.zeros_like(y), np.zeros(len(values), np.float16)

    def function(xp, vectors, c):
        x, y, half = vectors
        x[...] = xp.sign(y)
        half[...] = xp.astype(y, np.dtype(np.float16))
        x[...] = x + xp.astype(half, np.dtype(np.float32))

    program(function, dtype, dtype, np.float16).bind((x, y, half))([])
    with np.errstate(all="ignore"):
        expected = y.astype(np.float16)
    assert half.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(x, np.sign(y) + expected.astype(np.float32))


def test_a_number_beyond_the_type_is_infinite():
    def function(xp, vectors, c):
        vectors[0][...] = vectors[0] * c["a"]

    x = np.array([1.0, -2.0], np.float32)
    program(function, np.float32, names=("a",)).bind((x,))([1e300])
    np.testing.assert_array_equal(x, [np.inf, -np.inf])


OUTSIDE = np.arange(16.0)


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, v, c: v[0].__iadd__(1.0 if c["a"] > 0 else 2.0),
        lambda xp, v, c: v[0].__iadd__(float(c["a"])),
        lambda xp, v, c: v[0].__setitem__(..., xp.cumulative_sum(v[0])),
        lambda xp, v, c: v[0].__iadd__(xp.sum(v[1])),
        lambda xp, v, c: v[0].__setitem__(0, 1.0),
        lambda xp, v, c: v[0].__setitem__(..., xp.flip(v[1])),
        lambda xp, v, c: v[0].__iadd__(c["a"] * c["a"]),  # numbers are for the coefficients to compute
        lambda xp, v, c: v[0].__iadd__(OUTSIDE),
    ],
)
def test_what_is_not_element_by_element_is_refused(function):
    with pytest.raises(CompileError):
        program(function, np.float64, np.float64, names=("a",))


def test_a_gradient_is_not_written():
    def scaled(xp, vectors, c):
        p, g = vectors
        g *= 2.0
        p -= g

    with pytest.raises(TypeError, match="must not change the gradient"):
        program(scaled, np.float64, np.float64, read_only=(1,))


def test_own_optimizers_may_be_programs_or_not():
    class Decided(an.optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def coefficients(self, step, group):
            return {"lr": group["lr"]}

        @staticmethod
        def elementwise_update(xp, p, g, state, c):
            p -= (c["lr"] if c["lr"] > 0 else 1.0) * g  # asks for a value: on the arrays

    p = an.nn.Parameter(an.ones(3))
    p.grad = an.ones(3)
    Decided([p]).step()
    np.testing.assert_allclose(p.numpy(), 0.9, rtol=1e-6)
    with pytest.raises(TypeError, match="must be a static method"):
        type("Bound", (an.optim.Optimizer,), {"elementwise_update": lambda self, xp, p, g, state, c: None})
    with pytest.raises(TypeError, match="no longer called"):
        type("Kernel", (an.optim.Optimizer,), {"kernel": lambda self, *a: None})
