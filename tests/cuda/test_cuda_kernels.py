"""Every kernel written by hand beside the reference that it replaces: values and gradients in three precisions, arrays of any strides,
nothing at all, on a second device, and to second order."""

from __future__ import annotations

import dataclasses
import functools
import threading

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import PRIMITIVES, use_kernels
from anynet.nn import functional as F
from anynet.nn.utils.rnn import pack_padded_sequence
from anynet.ops.convolution import conv, conv_transpose
from anynet.ops.dropout import dropout
from anynet.ops.pooling import avg_pool
from anynet.ops.recurrent import gru_scan, lstm_scan, rnn_scan
from anynet_backends import get_backend
from anynet_backends.cuda_kernels import convolution, normalization
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

SIZES = (4, 3, 3, 1, 1)
LSTM = [(5, 4, 12), (4, 3), (4, 3), (12, 3)]
GRU = [(5, 4, 9), (4, 3), (9, 3)]
WORDS = np.random.default_rng(2).integers(0, 6, 700) ** 2


def rows_of(table, **options):
    """Rows of a table, of which some are named in several chunks."""
    return F.embedding(an.asarray(WORDS, device=table.device), table, **options)


CASES = [
    *[
        (name, function, shapes, options)
        for name, function, shapes in (
            ("rnn_scan", rnn_scan, [(5, 4, 3), (4, 3), (3, 3)]),
            ("rnn_scan", functools.partial(rnn_scan, relu=True), [(5, 4, 3), (4, 3), (3, 3)]),
            ("lstm_scan", lstm_scan, LSTM),
            ("gru_scan", gru_scan, GRU),
            ("gru_scan", gru_scan, [*GRU, (9,)]),
        )
        for options in ({}, {"reverse": True}, {"sizes": SIZES}, {"reverse": True, "sizes": SIZES})
    ],
    ("lstm_scan", lstm_scan, [(1, 300, 12), (300, 3), (300, 3), (12, 3)], {}),
    *[
        ("conv", conv, shapes, options)
        for shapes, options in (
            ([(3, 4, 9), (6, 4, 3), (6,)], {"padding": 1}),
            ([(3, 4, 9), (6, 4, 1), (6,)], {}),
            ([(1, 4, 6, 5), (2, 4, 3, 2)], {"stride": (2, 1), "dilation": (1, 2)}),
            ([(3, 4, 6, 7), (6, 2, 3, 3), (6,)], {"groups": 2, "padding": (2, 1), "stride": 2}),
            ([(2, 4, 6, 7), (8, 1, 3, 3), (8,)], {"groups": 4, "padding": "same"}),
            ([(2, 4, 6, 7), (4, 1, 2, 3)], {"groups": 4, "stride": 3}),
            ([(2, 2, 4, 5, 3), (3, 2, 2, 2, 2), (3,)], {"padding": 1, "dilation": (2, 1, 1), "stride": (1, 2, 2)}),
        )
    ],
    *[
        ("conv_transpose", conv_transpose, shapes, options)
        for shapes, options in (
            ([(2, 3, 5), (3, 4, 3), (4,)], {"stride": 2, "output_padding": 1}),
            ([(2, 4, 5, 3), (4, 2, 2, 3), (4,)], {"stride": (2, 1), "padding": 1, "groups": 2}),
        )
    ],
    ("max_pool", F.max_pool2d, [(2, 3, 8, 6)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("max_pool_spread", F.max_pool1d, [(2, 3, 9)], {"kernel_size": 2, "dilation": 2}),
    ("window_sum", F.avg_pool1d, [(2, 3, 9)], {"kernel_size": 2}),
    ("window_sum", F.avg_pool2d, [(2, 3, 8, 6)], {"kernel_size": 3, "stride": 2, "padding": 1}),
    ("window_spread", F.avg_pool3d, [(2, 3, 4, 6, 5)], {"kernel_size": 3, "stride": 1}),
    ("window_sum", F.adaptive_avg_pool2d, [(2, 3, 4, 6)], {"output_size": (2, 3)}),
    ("scatter_rows", rows_of, [(40, 5)], {}),
    ("scatter_rows", rows_of, [(40, 1)], {"padding_idx": 4}),
    ("scatter_rows", rows_of, [(40, 3)], {"scale_grad_by_freq": True}),
    *[
        ("normalize", function, shapes, {})
        for function, shapes in (
            (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(6, 8, 5, 7), (8,), (8,)]),
            (lambda x: F.batch_norm(x, None, None, training=True), [(6, 1, 5)]),
            (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(200, 3), (3,), (3,)]),
            (lambda x, w, b: F.group_norm(x, 2, w, b), [(3, 8, 5), (8,), (8,)]),
            (lambda x, w, b: F.layer_norm(x, (33,), w, b), [(90, 33), (33,), (33,)]),
            (lambda x, w, b: F.layer_norm(x, (5, 7), w, b), [(3, 2, 5, 7), (5, 7), (5, 7)]),
            (lambda x, w: F.rms_norm(x, (33,), w), [(9, 33), (33,)]),
            (lambda x: F.instance_norm(x), [(2, 3, 9)]),
        )
    ],
]  # fmt: skip
IDS = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]
LIMITS = {"float64": (1e-10, 1e-10), "float32": (1e-5, 1e-4), "float16": (2e-3, 1e-2)}


@pytest.fixture
def served(monkeypatch):
    """What the kernels of CuPy have taken, by name."""
    taken = []

    def watched(name, kernel):
        whole = kernel.function()

        def forward(xp, *data, **meta):
            y = whole(xp, *data, **meta)
            if y is not NotImplemented:
                taken.append(name)
            return y

        return dataclasses.replace(kernel, forward=forward, fallback=None)

    kernels = get_backend("cupy").kernels
    for name, kernel in list(kernels.items()):
        monkeypatch.setitem(kernels, name, watched(name, kernel))
    for primitive in PRIMITIVES.values():
        primitive.implementations.clear()
    yield taken
    for primitive in PRIMITIVES.values():
        primitive.implementations.clear()


def drawn(shapes, dtype):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def strided(array, device):
    """The array as every second element of memory whose axes are in the opposite order."""
    whole = cupy.zeros(tuple(2 * n for n in array.shape[::-1]), array.dtype)
    view = whole.T[(slice(1, None, 2),) * array.ndim]
    view[...] = cupy.asarray(array)
    return view


def computed(function, arrays, options, device="cuda", layout=None):
    """The values, and the gradients of a weighted sum of them."""
    with cupy.cuda.Device(int(device[5:] or 0)):
        given = [
            an.asarray(a, device=device) if layout is None else an.Tensor(layout(a, device)) for a in arrays
        ]
        xs = [x.requires_grad_() for x in given]
        ys = function(*xs, **options)
        ys = ys if isinstance(ys, tuple) else (ys,)
        total = 0.0
        for k, y in enumerate(ys):
            weights = np.cos(np.arange(y.size) + k).reshape(y.shape).astype(str(y.dtype))
            total = total + an.sum(y * an.asarray(weights, device=device))
        total.backward()
        return [*ys, *(x.grad for x in xs)], len(ys)


def distance(a, b):
    a, b = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0)


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_kernel_and_its_reference(case, dtype, served):
    beside_the_reference(case, dtype, served)


def beside_the_reference(case, dtype, served):
    name, function, shapes, options = case
    arrays = drawn(shapes, dtype)
    wide = [a.astype(np.float32) for a in arrays] if dtype == "float16" else arrays
    with use_kernels(False):
        expected, count = computed(function, wide, options)
    for layout in (None, strided):
        served.clear()
        found, _ = computed(function, arrays, options, layout=layout)
        assert name in served
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert a.dtype == dtype
            assert distance(a, b) <= LIMITS[dtype][i >= count], (i, layout)
    again, _ = computed(function, arrays, options, layout=strided)
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(found, again, strict=True))


@pytest.fixture
def always_large(monkeypatch):
    """What is done where there is much to do, in several parts."""
    monkeypatch.setattr(convolution.Limits, "direct", 0)
    monkeypatch.setattr(convolution.Limits, "part", 1500)
    monkeypatch.setattr(normalization.Limits, "whole", 16)


LARGE = [case for case in CASES if case[0] in ("conv", "conv_transpose", "normalize")]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", LARGE, ids=[f"{i}-{case[0]}" for i, case in enumerate(LARGE)])
def test_what_is_done_where_there_is_much(case, dtype, served, always_large):
    beside_the_reference(case, dtype, served)


@pytest.mark.skipif("cupy.cuda.runtime.getDeviceCount() < 2", reason="needs two devices of the CUDA emulator")
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_on_another_device_than_the_current_one(case, served):
    name, function, shapes, options = case
    arrays = drawn(shapes, "float32")
    expected, _ = computed(function, arrays, options)
    cupy.cuda.Device(0).use()
    xs = [an.asarray(a, device="cuda:1", requires_grad=True) for a in arrays]
    an.zeros(1, device="cuda:0")
    ys = function(*xs, **options)
    ys = ys if isinstance(ys, tuple) else (ys,)
    assert name in served
    assert {y.device for y in ys} == {"cuda:1"}
    for y, z in zip(ys, expected, strict=False):
        assert y.numpy().tobytes() == z.numpy().tobytes()


FIRST = list({case[0]: case for case in CASES}.values())


@pytest.mark.parametrize("case", FIRST, ids=[case[0] for case in FIRST])
def test_second_order(case):
    _, function, shapes, options = case
    arrays = drawn(shapes, "float64")

    def twice(on):
        x, *rest = (an.asarray(a, device="cuda") for a in arrays)

        def value(x):
            ys = function(x, *rest, **options)
            return sum(an.sum(y**2) for y in (ys if isinstance(ys, tuple) else (ys,)))

        with use_kernels(on):
            return an.grad(lambda x: an.sum(an.grad(value)(x) ** 2))(x)

    assert distance(twice(True), twice(False)) <= 1e-10


@pytest.mark.parametrize(
    ("name", "function", "shapes"),
    [
        ("conv", conv, [(0, 4, 9), (6, 4, 3), (6,)]),
        ("window_sum", lambda x: F.avg_pool1d(x, 2), [(0, 3, 4)]),
        ("window_sum", lambda x: avg_pool(x, (1, 2, 1, 2)), [(2, 3, 4, 2, 4)]),
        ("normalize", lambda x: F.layer_norm(x, (3,)), [(0, 3)]),
        ("normalize", lambda x, w: F.layer_norm(x, (3,), an.astype(w, an.float32)), [(2, 3), (3,)]),
        ("lstm_scan", lstm_scan, [(3, 2, 12), (2, 2), (2, 3), (12, 2), (2, 3)]),
    ],
)
def test_what_kernels_do_not_take_the_reference_computes(name, function, shapes, served):
    arrays = drawn(shapes, "float64")
    found, _ = computed(function, arrays, {})
    assert name not in served
    expected, _ = computed(function, arrays, {}, device="cpu")
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert distance(a, b) <= 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_running_statistics_are_those_of_the_reference(dtype, device):
    if device == "cuda:1" and cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices of the CUDA emulator")
    x = drawn([(6, 3, 5)], dtype)[0]
    seen = []
    for on in (True, False):
        layer = an.nn.BatchNorm1d(3).to(device).to(dtype)
        cupy.cuda.Device(0).use()
        with use_kernels(on):
            for factor in (1.0, 2.0):
                layer(an.asarray(x * factor, device=device))
        seen.append([layer.running_mean, layer.running_var, layer.num_batches_tracked])
    for a, b in zip(*seen, strict=True):
        assert a.device == device
        assert distance(a, b) <= LIMITS[dtype][0]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}, {"bias": False, "batch_first": True}, {"proj_size": 2}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers_are_as_on_the_cpu(kind, options, packed):
    if "proj_size" in options and kind != "LSTM":
        options = {}
    x = drawn([(5, 3, 4)], "float32")[0]
    found = []
    for device in ("cpu", "cuda"):
        an.random.manual_seed(3)
        layer = getattr(an.nn, kind)(4, 6, **options).to(device)
        given = an.asarray(x, device=device, requires_grad=True)
        lengths, first = ([5, 2, 4], options.get("batch_first", False)) if packed else (None, False)
        if packed:
            rows = an.permute_dims(given, (1, 0, 2)) if first else given
            y, state = layer(pack_padded_sequence(rows, lengths, batch_first=first, enforce_sorted=False))
            y = y.data
        else:
            y, state = layer(given)
        states = state if isinstance(state, tuple) else (state,)
        (an.sum(y * y) + sum(an.sum(s * s * s) for s in states)).backward()
        found.append([y, *states, given.grad, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert distance(b, a) <= 1e-5


@pytest.mark.parametrize("dtype", ["int32", "float16", "float32", "float64", "complex128"])
@pytest.mark.parametrize("entries", [0, 1, 16, 17, 1000])
def test_rows_add_up_in_the_order_of_the_index(dtype, entries):
    rng = np.random.default_rng(3)
    x = rng.integers(-3, 4, (9, 4)).astype(dtype)
    values = rng.integers(-3, 4, (entries, 4)).astype(dtype)
    index = np.where(rng.random(entries) < 0.7, 5, rng.integers(-9, 9, entries)).astype(np.int32)
    expected = x.copy()
    np.add.at(expected, index, values)
    y = get_backend("cupy").index_add(cupy.asarray(x), cupy.asarray(index), cupy.asarray(values))
    assert y.dtype == dtype
    assert np.array_equal(y.get(), expected)


def test_a_row_that_is_named_often_is_summed_in_parts():
    """About √n additions behind one another, which the rounding shows: n behind one another would be off by 1e-4."""
    n = 40_000
    index, values = cupy.zeros(n, np.int64), cupy.full((n, 1), 0.1, np.float32)
    y = get_backend("cupy").index_add(cupy.zeros((2, 1), np.float32), index, values)
    assert float(y[0, 0]) == pytest.approx(n * float(np.float32(0.1)), rel=2e-6)
    assert float(y[1, 0]) == 0.0


def test_rows_out_of_range_are_dropped():
    x, values = cupy.zeros((3, 2), "f"), cupy.ones((40, 2), "f")
    index = cupy.asarray([7, -9, 1, 3] * 10)
    y = get_backend("cupy").index_add(x, index, values)
    assert y.get().tolist() == [[0, 0], [10, 10], [0, 0]]


@pytest.mark.parametrize("shape", [(5,), (3, 4), (4, 3, 50), (2, 1, 3)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_masks_are_those_of_the_cpu(shape, dtype, device):
    if device == "cuda:1" and cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices of the CUDA emulator")
    rng = np.random.default_rng(4)
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    functions = [F.dropout] if len(shape) < 3 else [F.dropout, F.dropout1d]
    for function in functions:
        found = []
        for where, on in (("cpu", True), (device, True), (device, False)):
            an.random.manual_seed(2**100 + 5)
            given = an.asarray(x, device=where, requires_grad=True)
            cupy.cuda.Device(0).use()
            with use_kernels(on):
                y = function(given, 0.3)
                y.backward(an.asarray(g, device=where))
            assert given.grad.device == y.device
            found.append((y.numpy(), given.grad.numpy()))
        for other in found[1:]:
            for a, b in zip(found[0], other, strict=True):
                assert a.dtype == b.dtype
                assert np.array_equal(a, b)


def test_a_mask_of_other_axes_and_of_nothing():
    for x, mask in ((np.ones((4, 6), np.float32), (1, 6)), (np.ones((0, 6), np.float32), (0, 6))):
        found = []
        for where in ("cpu", "cuda"):
            an.random.manual_seed(1)
            found.append(dropout(an.asarray(x, device=where), 0.5, mask_shape=mask).numpy())
        assert np.array_equal(*found)


@pytest.mark.parametrize("scale", [1e-3, 1.0, np.nan, np.inf, 0.0])
@pytest.mark.parametrize("sizes", [((3,), (4, 2)), ((700,), (900, 7))])
@pytest.mark.parametrize("most", [0.0, 0.5])
def test_gradients_are_clipped_as_by_the_reference(scale, sizes, most):
    found = []
    for on in (True, False):
        rng = np.random.default_rng(5)
        net = an.nn.ParameterList(an.Parameter(rng.standard_normal(n).astype(np.float32)) for n in sizes).to(
            "cuda"
        )
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)
        with use_kernels(on), np.errstate(all="ignore"):
            for _ in range(2):  # the gradients of the second step lie in one vector
                optimizer.zero_grad()
                sum(an.sum(p * p) for p in net.parameters()).backward()
                optimizer.step()
            optimizer.zero_grad()
            sum(an.sum(p * (p * scale)) for p in net.parameters()).backward()
            norm = an.nn.utils.clip_grad_norm_(net.parameters(), most)
        found.append([norm.numpy(), *(p.grad.numpy() for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_is_left_alone_where_its_norm_is_not_finite(bad):
    vector = cupy.asarray([1.0, bad, 2.0], "f")
    norm = get_backend("cupy").clip_norm(vector, 0.5, 1e-6, only_finite=True)
    assert not np.isfinite(float(norm))
    assert np.array_equal(vector.get(), np.asarray([1.0, bad, 2.0], "f"), equal_nan=True)


def test_threads_and_devices_at_the_same_time():
    found = {}

    def work(name, device):
        with use_kernels(True):
            for _ in range(3):
                found.setdefault(name, []).append(
                    [a.numpy() for a in computed(lstm_scan, drawn(LSTM, "float32"), {}, device=device)[0]]
                )

    devices = [f"cuda:{i}" for i in range(cupy.cuda.runtime.getDeviceCount())] * 2
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(devices)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(len(devices)))
    first = found[0][0]
    for runs in found.values():
        assert len(runs) == 3
        assert all(a.tobytes() == b.tobytes() for run in runs for a, b in zip(run, first, strict=True))


@pytest.mark.skipif(not present(), reason="launches are counted by the CUDA emulator")
def test_clipping_is_two_launches_and_no_wait():
    net = an.nn.Sequential(an.nn.Linear(30, 20), an.nn.Linear(20, 3)).to("cuda")
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        an.sum(net(an.ones((2, 30), device="cuda"))).backward()
        with Log() as log:
            an.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
    assert (log.launches, log.synchronisations) == (2, 0)


@pytest.mark.skipif(not present(), reason="launches are counted by the CUDA emulator")
@pytest.mark.parametrize(
    "options", [{"norm_type": 1.0}, {"norm_type": float("inf")}, {"error_if_nonfinite": True}], ids=str
)
def test_other_norms_are_of_one_vector(options):
    """As many launches for twelve arrays as for two: gradients that lie in one vector have one norm, and are scaled at once."""
    found = []
    for layers in (1, 6):
        net = an.nn.Sequential(*[an.nn.Linear(4, 4) for _ in range(layers)]).to("cuda")
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            an.sum(net(an.ones((2, 4), device="cuda"))).backward()
            with Log() as log:
                an.nn.utils.clip_grad_norm_(net.parameters(), 0.1, **options)
        found.append(log.launches)
    assert found[0] == found[1]


@pytest.mark.skipif(not present(), reason="launches are counted by the CUDA emulator")
def test_the_factor_is_computed_once():
    """Of gradients that lie apart each is multiplied, and no more, by a factor that is made for all of them."""
    found = []
    for layers in (1, 6):
        net = an.nn.Sequential(*[an.nn.Linear(4, 4, bias=False) for _ in range(layers)]).to("cuda")
        total = an.asarray(5.0, dtype="float32", device="cuda")
        for _ in range(2):
            for p in net.parameters():
                p.grad = an.ones((4, 4), device="cuda")
            with Log() as log:
                an.nn.utils.clip_grads_with_norm_(net.parameters(), 0.1, total)
        found.append(log.launches)
    assert found[1] - found[0] == 5
