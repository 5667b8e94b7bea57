"""Attention by cuDNN: values and gradients beside the reference in float64, what is taken and what is not, how arrays lie, what is
launched, captured and kept. The frontend is NVIDIA's own, over the emulator's library."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.autograd.primitive import use_kernels
from anynet.nn import functional as F
from anynet.ops.attention import attention
from anynet_backends import get_backend
from anynet_backends.cuda_kernels import cudnn as library
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
pytestmark = [
    pytest.mark.usefixtures("cudnn"),
    pytest.mark.skipif(not present(), reason="reads what the emulator was asked"),
]

XP = get_backend("cupy")
LIMIT = 2e-3  # of float16; gradients add up more of it
BLOCK = 8  # more than one block of scores from 9 keys or queries on


def drawn(*shapes):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype("float16") for shape in shapes]


def seen(*shape, empty=()):
    """A boolean mask, of which the rows `empty` see nothing."""
    mask = np.random.default_rng(4).random(shape) < 0.6
    mask[..., 0] = True
    mask[..., list(empty), :] = False
    return mask


def added(*shape, empty=()):
    """The same as numbers to add, with -inf."""
    numbers = np.random.default_rng(5).standard_normal(shape)
    return np.where(seen(*shape, empty=empty), numbers, -np.inf).astype("float16")


WHOLE = [(2, 3, 20, 8)] * 3
CASES = {
    "self": (WHOLE, None, {}),
    "causal": (WHOLE, None, {"causal": True}),
    "causal, more keys": ([(2, 3, 6, 8), (2, 3, 20, 8), (2, 3, 20, 16)], None, {"causal": True}),
    "causal, more queries": ([(2, 3, 20, 8), (2, 3, 7, 8), (2, 3, 7, 16)], None, {"causal": True}),
    "cross": ([(2, 3, 12, 16), (2, 3, 33, 16), (2, 3, 33, 8)], None, {"scale": 1.0}),
    "one query": ([(2, 4, 1, 8), (2, 4, 20, 8), (2, 4, 20, 8)], None, {}),
    "one key": ([(2, 3, 20, 8), (2, 3, 1, 8), (2, 3, 1, 8)], None, {}),
    "without heads": ([(20, 8), (11, 8), (11, 8)], None, {}),
    "heads alone": ([(3, 20, 8), (3, 11, 8), (3, 11, 8)], None, {"causal": True}),
    "several batches": ([(2, 2, 3, 20, 8)] * 3, None, {}),
    "groups": ([(2, 2, 3, 20, 8), (2, 2, 1, 20, 8), (2, 2, 1, 20, 8)], None, {"causal": True}),
    "groups alone": ([(2, 3, 20, 8), (2, 1, 20, 8), (2, 1, 20, 16)], None, {}),
    "a mask for all": (WHOLE, seen(20, 20), {}),
    "keys without values": (WHOLE, seen(2, 1, 1, 20), {}),
    "a mask of heads": (WHOLE, seen(3, 20, 20), {}),
    "a mask of rows": (WHOLE, seen(2, 3, 20, 1, empty=(4, 19)), {}),
    "rows that see nothing": (WHOLE, seen(2, 3, 20, 20, empty=(0, 7)), {}),
    "a batch that sees nothing": (WHOLE, np.array([True, False])[:, None, None, None] & seen(2, 1, 1, 20), {}),
    "numbers to add": (WHOLE, added(20, 20), {}),
    "numbers to add, rows that see nothing": (WHOLE, added(2, 1, 20, 20, empty=(3,)), {}),
    "groups and a mask": ([(2, 2, 3, 20, 8), (2, 2, 1, 20, 8), (2, 2, 1, 20, 8)], seen(2, 1, 1, 20, 20), {}),
    "groups and a mask of each": ([(2, 2, 3, 20, 8), (2, 2, 1, 20, 8), (2, 2, 1, 20, 8)], seen(2, 3, 20, 20), {}),
    "several batches and a mask of one": ([(2, 2, 3, 20, 8)] * 3, seen(2, 1, 20, 20), {}),
}  # fmt: skip


def by_rows(array):
    return cupy.asarray(array)


def by_positions(array):
    """As a projection gives it: (…, length, heads, width), with the heads brought forward."""
    if array.ndim < 3:
        return cupy.asarray(array)
    return cupy.moveaxis(cupy.asarray(np.ascontiguousarray(np.moveaxis(array, -3, -2))), -2, -3)


def within(array):
    """Every second element of memory whose axes are in the opposite order."""
    whole = cupy.zeros(tuple(2 * n for n in array.shape[::-1]), array.dtype)
    view = whole.T[(slice(1, None, 2),) * array.ndim]
    view[...] = cupy.asarray(array)
    return view


def unaligned(array):
    """Without gaps, 2 bytes behind an address that is aligned."""
    whole = cupy.zeros(array.size + 1, array.dtype)
    whole[1:] = cupy.asarray(array).ravel()
    return whole[1:].reshape(array.shape)


def computed(arrays, mask, options, layout=by_rows):
    """The value, and the gradients of a weighted sum of it."""
    xs = [an.Tensor(layout(a)).requires_grad_() for a in arrays]
    masks = () if mask is None else (an.Tensor(layout(mask)),)
    y = attention(*xs, *masks, **{"scale": 0.35, "block": BLOCK, **options})
    weights = np.cos(np.arange(y.size)).reshape(y.shape).astype("float32")
    an.sum(y * an.astype(an.asarray(weights, device=y.device), y.dtype)).backward()
    return [y, *(x.grad for x in xs)]


def reference(arrays, mask, options):
    """The same in float64, on the CPU."""
    wide = mask if mask is None or mask.dtype == bool else mask.astype("float64")
    with use_kernels(False):
        return computed([a.astype("float64") for a in arrays], wide, options, np.asarray)


def distance(a, b):
    a, b = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0)


def launched(log):
    return [line.removeprefix("launch ") for line in log.having("launch cudnn")]


FORWARD, BACKWARD = "cudnn attention, tensor cores", "cudnn attention gradients, tensor cores"


# ----- values -----


@pytest.mark.parametrize("layout", [by_rows, by_positions, within, unaligned])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_reference(case, layout):
    shapes, mask, options = CASES[case]
    arrays = drawn(*shapes)
    expected = reference(arrays, mask, options)
    with Log() as log:
        found = computed(arrays, mask, options, layout)
        again = computed(arrays, mask, options, layout)
    for i, (a, b, c) in enumerate(zip(found, expected, again, strict=True)):
        assert str(a.dtype) == "float16"
        assert distance(a, b) <= LIMIT * (3 if i else 1)
        assert a.numpy().tobytes() == c.numpy().tobytes()
    assert launched(log) == [FORWARD, BACKWARD] * 2
    assert not log.having("refused", "foreign pointer", "synchronize")
    if mask is not None:
        nothing = ~(mask if mask.dtype == bool else mask > -np.inf).any(axis=-1, keepdims=True)
        assert not np.any(found[0].numpy() * nothing)
        assert not np.any(found[1].numpy() * nothing)


def test_large_scores_stay_numbers():
    q, k, v = drawn(*WHOLE)
    found = computed([q * 60, k * 60, v], None, {"scale": 1.0})
    expected = reference([q * 60, k * 60, v], None, {"scale": 1.0})
    assert all(np.isfinite(a.numpy()).all() for a in found)
    assert distance(found[0], expected[0]) <= LIMIT


def test_what_is_not_finite_stays_so():
    q, k, v = drawn(*WHOLE)
    v[0, 1, 3, 2] = np.nan
    y = computed([q, k, v], None, {})[0].numpy()
    assert np.isnan(y[0, 1, :, 2]).all()
    assert np.isfinite(y[1]).all()


def test_second_order():
    arrays = [a.astype("float32") for a in drawn(*[(1, 2, 12, 8)] * 3)]

    def twice(device, dtype):
        x, *rest = (an.asarray(a.astype(dtype), device=device) for a in arrays)

        def slope(x):
            g = an.grad(lambda x: an.sum(attention(x, *rest, scale=0.35, block=BLOCK) ** 2))(x)
            return an.sum(g * g)

        return an.grad(slope)(x)

    assert distance(twice("cuda", "float16"), twice("cpu", "float64")) <= 2e-2


# ----- what is taken -----


@pytest.mark.parametrize(
    ("shapes", "mask", "options"),
    [
        ([(2, 3, BLOCK, 8)] * 3, None, {}),  # one block of scores
        ([(2, 3, 20, 12)] * 3, None, {}),
        ([(2, 3, 20, 136)] * 3, None, {}),
        ([(1, 3, 21, 8)] * 3, None, {}),  # the frontend would not align the workspace of the gradients
        ([(0, 3, 20, 8)] * 3, None, {}),
        ([(2, 3, 20, 8), (2, 3, 0, 8), (2, 3, 0, 8)], None, {}),
        ([(2, 3, 20, 8), (1, 3, 20, 8), (1, 3, 20, 8)], None, {}),
        (WHOLE, seen(20, 20), {"causal": True}),
        (WHOLE, None, {"p": 0.5, "seed": 3, "step": 1}),
    ],
)
def test_what_cudnn_does_not_take_is_computed_without_it(shapes, mask, options):
    arrays = drawn(*shapes)
    with Log() as log:
        found = computed(arrays, mask, options)
    assert not launched(log)
    for a, b in zip(found, reference(arrays, mask, options), strict=True):
        assert distance(a, b) <= 4 * LIMIT


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_full_there_is_no_attention_of_cudnn(dtype):
    arrays = [a.astype(dtype) for a in drawn(*WHOLE)]
    with Log() as log:
        found = computed(arrays, None, {})
    assert not launched(log)
    assert all(distance(a, b) <= 1e-5 for a, b in zip(found, reference(arrays, None, {}), strict=True))


def test_the_gradient_of_a_mask_is_that_of_the_reference():
    arrays, numbers = drawn(*WHOLE), np.random.default_rng(0).standard_normal((20, 20))
    found = []
    for device, dtype in (("cpu", "float64"), ("cuda", "float16")):
        q, k, v = (an.asarray(a.astype(dtype), device=device) for a in arrays)
        mask = an.asarray(numbers.astype(dtype), device=device, requires_grad=True)
        with Log() as log:
            an.sum(attention(q, k, v, mask, scale=0.35, block=BLOCK) ** 2).backward()
        assert not launched(log)
        found.append(mask.grad)
    assert distance(found[1], found[0]) <= 2e-2


def test_without_an_engine_the_reference_computes(monkeypatch):
    monkeypatch.setattr(library, "_on", {})
    monkeypatch.setattr(library, "MOST_WORKSPACE", -1)
    arrays = drawn(*WHOLE)
    with Log() as log:
        found = computed(arrays, None, {})
    assert not launched(log)
    (plans,) = library._on.values()
    assert set(plans.plans.values()) == {None}
    assert all(distance(a, b) <= 4 * LIMIT for a, b in zip(found, reference(arrays, None, {}), strict=True))


@pytest.mark.parametrize("name", ["float32", "tf32", "mixed-bf16", "mixed-fp16"])
def test_rounded_operands_are_multiplied_in_their_own_dtype(name):
    arrays = [a.astype("float32") for a in drawn(*[(1, 2, 300, 8)] * 3)]
    found = []
    for device in ("cpu", "cuda"):
        xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
        with an.precision(name), Log() as log:
            y = F.scaled_dot_product_attention(*xs, is_causal=True)
        an.sum(y * y).backward()
        found.append([y, *(x.grad for x in xs)])
    assert launched(log) == [FORWARD] * (name == "mixed-fp16")
    for here, there in zip(*found, strict=True):
        assert str(there.dtype) == "float32"
        assert (
            distance(there, here)
            <= {"float32": 1e-5, "tf32": 2e-3, "mixed-bf16": 2e-2, "mixed-fp16": 4e-3}[name]
        )


# ----- what is launched, and where -----


def kernel(arrays, mask=None, need=None, **options):
    masks = () if mask is None else (mask,)
    return XP.kernels["attention"](XP, *arrays, *masks, scale=0.35, block=BLOCK, need=need, **options)


@pytest.mark.parametrize("layout", [by_rows, by_positions])
def test_attention_is_one_launch_and_its_gradients_one(layout):
    arrays = [layout(a) for a in drawn(*WHOLE)]
    need = (True,) * 3
    y, pull = kernel(arrays, need=need)
    pull(y[0])
    with Log() as log:
        (y, _), pull = kernel(arrays, need=need)
        grads = pull(y)
    assert launched(log) == [FORWARD, BACKWARD]
    assert (log.launches, log.copies, log.synchronisations) == (2, 0, 0)
    assert [g.strides for g in (y, *grads)] == [arrays[0].strides] * 4
    with Log() as log:
        kernel(arrays, causal=True)
        kernel(arrays, causal=True)
    assert (log.launches, log.copies, log.synchronisations) == (2, 0, 0)


def test_a_mask_takes_two_launches_more_and_one_behind():
    arrays, mask = [cupy.asarray(a) for a in drawn(*WHOLE)], cupy.asarray(seen(2, 1, 1, 20))
    need = (True, True, True, False)
    y, pull = kernel(arrays, mask, need)
    pull(y[0])
    with Log() as log:
        (y, _), pull = kernel(arrays, mask, need)
        assert pull(y)[3] is None
    assert launched(log) == [FORWARD, BACKWARD]
    assert (log.launches, log.copies, log.synchronisations) == (5, 0, 0)


def test_on_another_device_than_the_current_one():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices of the CUDA emulator")
    arrays, mask, found = drawn(*WHOLE), seen(20, 20), []
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        cupy.cuda.Device(0).use()
        xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
        given = an.asarray(mask, device=device)
        an.zeros(1, device="cuda:0")
        with Log() as log:
            y = attention(*xs, given, scale=0.35, block=BLOCK)
            an.sum(y * y).backward()
        assert launched(log) == [FORWARD, BACKWARD]
        assert not log.having("foreign pointer", "refused")
        assert {t.device for t in (y, *(x.grad for x in xs))} == {device}
        found.append([t.numpy().tobytes() for t in (y, *(x.grad for x in xs))])
    assert found[0] == found[1] == found[2]


def test_captured_attention_reads_what_is_there_when_it_runs():
    arrays = [cupy.asarray(a) for a in drawn(*WHOLE)]
    run = functools.partial(kernel, arrays, cupy.asarray(seen(20, 20)))
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        run()
        stream.begin_capture()
        with Log() as log:
            y = run()
        graph = stream.end_capture()
        assert not launched(log)
        arrays[2] *= 2
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(cupy.asnumpy(y), cupy.asnumpy(run()))


def test_a_long_layer_of_a_transformer_has_it():
    an.random.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).to("cuda")
    optimizer = an.optim.SGD(layer.parameters(), lr=0.05)
    x = an.asarray(drawn((1, 300, 16))[0].astype("float32"), device="cuda")

    def step(x):
        optimizer.zero_grad()
        with an.precision("mixed-fp16"):
            y = layer(x)
        loss = an.mean(y**2)
        loss.backward()
        optimizer.step()
        return loss

    with Log() as log:
        losses = [float(step(x)) for _ in range(4)]
    assert launched(log) == [FORWARD, BACKWARD] * 4
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


def test_a_plan_is_made_once_for_a_signature(monkeypatch):
    monkeypatch.setattr(library, "_on", {})
    made = []
    before = library._graph
    monkeypatch.setattr(library, "_graph", lambda *args: made.append(args[1]) or before(*args))
    arrays = drawn(*WHOLE)
    for _ in range(3):
        computed(arrays, None, {})
        computed([2 * a for a in arrays], None, {})
    assert [form.result for form in made] == ["y", "gradients"]


def test_errors_have_what_the_library_says(monkeypatch, capfd):
    monkeypatch.setattr(library, "_on", {})
    monkeypatch.setattr(library, "ALIGNED", 1)
    with pytest.raises(
        library.CudnnError, match=r"cuDNN: .*in the attention of q \(2, 3, 20, 8\) with strides"
    ):
        computed(drawn(*WHOLE), None, {}, unaligned)
    assert "tensor 1 is not aligned to 16 bytes" in capfd.readouterr().err
