"""Convolution by cuDNN: values and gradients whatever way the arrays lie, the engine that is chosen, what is kept, captured and launched,
and what is said where it fails. The frontend is NVIDIA's own, over the emulator's library."""

from __future__ import annotations

import functools
import importlib
import types

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.autograd.primitive import use_kernels
from anynet.nn import functional as F
from anynet.ops.convolution import conv, conv_transpose
from anynet_backends import get_backend
from anynet_backends.cuda_kernels import cudnn as library
from anynet_backends.cuda_kernels import cudnn_convolution
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
pytestmark = [
    pytest.mark.usefixtures("cudnn"),
    pytest.mark.skipif(not present(), reason="reads what the emulator was asked"),
]

XP = get_backend("cupy")
LIMITS = {"float32": 1e-6, "float16": 2e-3}
CASES = [
    (conv, [(3, 4, 9), (6, 4, 3), (6,)], {"padding": 1}),
    (conv, [(3, 4, 9), (6, 4, 1), (6,)], {}),
    (conv, [(2, 3, 11), (4, 3, 4)], {"padding": "same", "dilation": 3}),
    (conv, [(1, 4, 6, 5), (2, 4, 3, 2)], {"stride": (2, 1), "dilation": (1, 2)}),
    (conv, [(3, 4, 6, 7), (6, 2, 3, 3), (6,)], {"groups": 2, "padding": (2, 1), "stride": 2}),
    (conv, [(2, 4, 6, 7), (8, 1, 3, 3), (8,)], {"groups": 4, "padding": "same"}),
    (conv, [(2, 4, 6, 7), (4, 1, 2, 3)], {"groups": 4, "stride": 3}),
    (conv, [(2, 4, 6, 7), (4, 4, 2, 4)], {"padding": "same"}),
    (
        conv,
        [(2, 2, 4, 5, 3), (3, 2, 2, 2, 2), (3,)],
        {"padding": 1, "dilation": (2, 1, 1), "stride": (1, 2, 2)},
    ),
    (conv, [(4, 6, 5), (2, 4, 3, 3), (2,)], {"padding": 1}),  # without a batch
    (conv_transpose, [(2, 3, 5), (3, 4, 3), (4,)], {"stride": 2, "output_padding": 1}),
    (conv_transpose, [(2, 4, 5, 3), (4, 2, 2, 3), (4,)], {"stride": (2, 1), "padding": 1, "groups": 2}),
    (conv_transpose, [(1, 2, 3, 2, 3), (2, 3, 2, 2, 2)], {"stride": 2}),
]
IDS = [f"{i}-{case[0].__name__}" for i, case in enumerate(CASES)]


def drawn(shapes, dtype="float32"):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def first(array):
    return cupy.asarray(array)


def last(array):
    """With its channels last."""
    if array.ndim < 3:
        return cupy.asarray(array)
    whole = cupy.asarray(np.ascontiguousarray(np.moveaxis(array, 1, -1)))
    return cupy.moveaxis(whole, -1, 1)


def within(array):
    """Every second element of memory whose axes are in the opposite order."""
    whole = cupy.zeros(tuple(2 * n for n in array.shape[::-1]), array.dtype)
    view = whole.T[(slice(1, None, 2),) * array.ndim]
    view[...] = cupy.asarray(array)
    return view


def unaligned(array):
    """Without gaps, 4 or 2 bytes behind an address that is aligned."""
    whole = cupy.zeros(array.size + 1, array.dtype)
    whole[1:] = cupy.asarray(array).ravel()
    return whole[1:].reshape(array.shape)


def computed(function, arrays, options, layout=first):
    """The value, and the gradients of a weighted sum of it."""
    xs = [an.Tensor(layout(a)).requires_grad_() for a in arrays]
    y = function(*xs, **options)
    weights = np.cos(np.arange(y.size)).reshape(y.shape).astype(str(y.dtype))
    an.sum(y * an.asarray(weights, device=y.device)).backward()
    return [y, *(x.grad for x in xs)]


def distance(a, b):
    a, b = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0)


def launched(log):
    return [line.removeprefix("launch ") for line in log.having("launch cudnn")]


# ----- values -----


@pytest.mark.parametrize("layout", [first, last, within, unaligned])
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_values_and_gradients_are_those_of_the_reference(case, dtype, layout):
    function, shapes, options = case
    arrays = drawn(shapes, dtype)
    with use_kernels(False):
        expected = computed(function, [a.astype("float64") for a in arrays], options)
    with Log() as log:
        found = computed(function, arrays, options, layout)
        again = computed(function, arrays, options, layout)
    for a, b, c in zip(found, expected, again, strict=True):
        assert a.dtype == dtype
        assert distance(a, b) <= LIMITS[dtype] * (1 if a is found[0] else 3)
        assert a.numpy().tobytes() == c.numpy().tobytes()
    how = {"float32": "in full", "float16": "tensor cores"}[dtype]
    assert {line.partition(", ")[2] for line in launched(log)} == {how}
    assert {line.partition(",")[0] for line in launched(log)} == {
        "cudnn convolution",
        "cudnn data gradient",
        "cudnn weight gradient",
    }
    assert not log.having("refused", "foreign pointer", "synchronize")


@pytest.mark.parametrize("case", CASES[::3], ids=IDS[::3])
def test_second_order(case):
    function, shapes, options = case
    arrays = drawn(shapes)

    def twice(on):
        x, *rest = (an.asarray(a, device="cuda") for a in arrays)

        def value(x):
            return an.sum(function(x, *rest, **options) ** 3)

        with use_kernels(on):
            return an.grad(lambda x: an.sum(an.grad(value)(x) ** 2))(x)

    assert distance(twice(True), twice(False)) <= 1e-4


@pytest.mark.parametrize("name", ["nan", "inf", "-inf"])
def test_what_is_not_finite_stays_so(name):
    x, w = drawn([(1, 2, 5, 5), (3, 2, 3, 3)])
    x[0, 1, 2, 2] = float(name)
    with use_kernels(False):
        expected = conv(an.asarray(x, device="cuda"), an.asarray(w, device="cuda")).numpy()
    found = conv(an.asarray(x, device="cuda"), an.asarray(w, device="cuda")).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.isfinite(found).any()


@pytest.mark.parametrize(
    ("shapes", "dtype"),
    [
        ([(0, 4, 9), (6, 4, 3)], "float32"),
        ([(2, 4, 9), (6, 4, 3)], "float64"),
        ([(1, 2, 3, 3, 2, 3), (2, 2, 2, 2, 2, 2)], "float32"),
    ],
)
def test_what_cudnn_does_not_take_is_computed_without_it(shapes, dtype):
    arrays = drawn(shapes, dtype)
    with Log() as log:
        found = computed(conv, arrays, {})
    assert not launched(log)
    with use_kernels(False):
        expected = computed(conv, arrays, {})
    assert all(distance(a, b) <= 1e-5 for a, b in zip(found, expected, strict=True))


def test_where_no_engine_fits_the_kernels_beneath_compute(monkeypatch):
    made = library._graph

    def with_gaps(*args):  # tensors that none of the emulator's engines takes
        with monkeypatch.context() as patch:
            patch.setattr(library, "_strides", lambda shape, last: [2 * s for s in _plain(shape, last)])
            return made(*args)

    _plain = library._strides
    monkeypatch.setattr(library, "_graph", with_gaps)
    monkeypatch.setattr(library, "_on", {})
    arrays = drawn([(2, 3, 7, 6), (4, 3, 3, 3), (4,)])
    with Log() as log:
        found = computed(conv, arrays, {"padding": 1})
    assert not launched(log)
    (plans,) = library._on.values()
    assert set(plans.plans.values()) == {None}
    with use_kernels(False):
        expected = computed(conv, arrays, {"padding": 1})
    assert all(distance(a, b) <= 1e-5 for a, b in zip(found, expected, strict=True))


# ----- what is chosen -----


def test_float32_is_computed_in_full_and_shorter_by_choice_alone():
    # 1 + 2⁻¹², which tf32 rounds to 1
    x = an.asarray(np.full((1, 4, 4, 4), 1 + 2.0**-12, "float32"), device="cuda")
    w = an.asarray(np.ones((1, 4, 1, 1), "float32"), device="cuda")
    fine = 4 * (1 + 2.0**-12)
    assert float(conv(x, w)[0, 0, 0, 0]) == fine
    for name, how in (
        ("tf32", "tensor cores"),
        ("mixed-bf16", "tensor cores"),
        ("mixed-fp16", "tensor cores"),
    ):
        with an.precision(name), Log() as log:
            assert float(conv(x, w)[0, 0, 0, 0]) == 4.0
            with an.precision("float32"):
                assert float(conv(x, w)[0, 0, 0, 0]) == fine
        assert launched(log) == [f"cudnn convolution, {how}", "cudnn convolution, in full"]
    assert float(conv(x, w)[0, 0, 0, 0]) == fine


@pytest.mark.parametrize("name", ["tf32", "mixed-bf16", "mixed-fp16"])
def test_a_rounded_layer_has_the_numbers_of_the_cpu(name):
    arrays = drawn([(2, 3, 6, 5), (4, 3, 3, 3), (4,)])
    found = []
    for device in ("cpu", "cuda"):
        xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
        with an.precision(name):
            y = F.conv2d(*xs, padding=1)
        an.sum(y * y).backward()
        found.append([y, *(x.grad for x in xs)])
    for here, there in zip(*found, strict=True):
        assert distance(there, here) <= {"tf32": 2e-3, "mixed-bf16": 2e-2, "mixed-fp16": 4e-3}[name]


def test_the_backward_pass_computes_as_the_forward_pass_did():
    x, w = (an.asarray(a, device="cuda", requires_grad=True) for a in drawn([(2, 3, 6), (4, 3, 3)]))
    with an.precision("tf32"):
        y = conv(x, w)
    with Log() as log:
        an.sum(y).backward()
    assert launched(log) == ["cudnn data gradient, tensor cores", "cudnn weight gradient, tensor cores"]


# ----- what is launched, and where -----


def test_a_convolution_is_one_launch_and_its_gradients_one_each():
    x, w, b = (cupy.asarray(a) for a in drawn([(2, 3, 7, 6), (4, 3, 3, 3), (4,)]))
    options = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    kernel = XP.kernels["conv"]
    kernel(XP, x, w, **options, need=(True, True))[1](kernel(XP, x, w, **options, need=None))
    with Log() as log:
        y, pull = kernel(XP, x, w, **options, need=(True, True))
        pull(y)
    assert launched(log) == [
        "cudnn convolution, in full",
        "cudnn data gradient, in full",
        "cudnn weight gradient, in full",
    ]
    assert (log.launches, log.copies, log.synchronisations) == (3, 0, 0)
    kernel(XP, x, w, b, **options, need=(True, True, True))[1](y)
    with Log() as log:
        _, pull = kernel(XP, x, w, b, **options, need=(True, True, True))
        pull(y)
    assert (log.launches, log.copies, log.synchronisations) == (5, 0, 0)  # the bias, and its gradient
    turned = last(cupy.asnumpy(x))
    with Log() as log:
        y = kernel(XP, turned, w, **options, need=None)
    assert library.lies_last(y)
    assert (log.launches, log.copies) == (2, 0)  # the weight is brought into the order of x


def test_a_block_of_convolution_norm_and_relu():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()).to("cuda")
    x = an.asarray(drawn([(2, 4, 8, 8)])[0], device="cuda", requires_grad=True)

    def step():
        an.sum(net(x)).backward()
        for p in (*net.parameters(), x):
            p.grad = None

    step()
    step()
    with Log() as log:
        step()
    assert len(launched(log)) == 3
    assert (log.launches, log.copies, log.synchronisations) == (10, 0, 0)


def test_on_another_device_than_the_current_one():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices of the CUDA emulator")
    arrays = drawn([(2, 3, 7, 6), (4, 3, 3, 3), (4,)])
    found = []
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        cupy.cuda.Device(0).use()
        xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
        an.zeros(1, device="cuda:0")
        with Log() as log:
            y = conv(*xs, padding=1)
            an.sum(y * y).backward()
        assert len(launched(log)) == 3
        assert not log.having("foreign pointer", "refused")
        assert {t.device for t in (y, *(x.grad for x in xs))} == {device}
        found.append([t.numpy().tobytes() for t in (y, *(x.grad for x in xs))])
    assert found[0] == found[1] == found[2]
    assert library._on[0]._handle != library._on[1]._handle


def test_a_captured_convolution_reads_what_is_there_when_it_runs():
    x, w = (cupy.asarray(a) for a in drawn([(2, 3, 7, 6), (4, 3, 3, 3)]))
    run = functools.partial(
        XP.kernels["conv"], XP, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1, need=None
    )
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        run(x, w)
        stream.begin_capture()
        with Log() as log:
            y = run(x, w)
        graph = stream.end_capture()
        assert not log.having("launch cudnn")
        x *= 2
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(cupy.asnumpy(y), cupy.asnumpy(run(x, w)))


def test_a_captured_step_keeps_its_plans_and_looks_for_none(monkeypatch):
    monkeypatch.setattr(library, "_on", {})
    monkeypatch.setattr(library, "MOST_PLANS", 2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).to("cuda")
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    x = an.asarray(drawn([(2, 3, 8, 7)])[0], device="cuda")

    def step(x):
        optimizer.zero_grad()
        loss = an.mean(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    compiled = an.compile(step)
    losses = [float(compiled(x)) for _ in range(8)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 8
    (plans,) = library._on.values()
    assert len(plans.plans) <= 2
    assert all(plan is not None for plan in plans.captured.values())


def test_each_stream_is_used():
    x, w = (cupy.asarray(a) for a in drawn([(2, 3, 9), (4, 3, 3)]))
    cupy.cuda.get_current_stream().synchronize()
    form = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1, "need": None}
    expected = cupy.asnumpy(XP.kernels["conv"](XP, x, w, **form))
    for _ in range(2):
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            y = XP.kernels["conv"](XP, x, w, **form)
        stream.synchronize()
        np.testing.assert_array_equal(cupy.asnumpy(y), expected)


def test_threads_share_a_device(in_threads):
    x, w = drawn([(2, 3, 7, 6), (4, 3, 3, 3)])
    expected, wrong = conv(an.asarray(x, device="cuda"), an.asarray(w, device="cuda")).numpy(), []

    def work(k):
        own = an.asarray(x * (k + 1), device="cuda")
        for _ in range(20):
            y = conv(own, an.asarray(w, device="cuda")).numpy()
            if np.abs(y - expected * (k + 1)).max() > 1e-4:
                wrong.append(k)

    in_threads(*(functools.partial(work, k) for k in range(4)))
    assert not wrong


# ----- what is kept -----


def test_the_plans_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(library, "MOST_PLANS", 4)
    monkeypatch.setattr(library, "_on", {})
    w = cupy.ones((2, 3, 3), "float32")
    options = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1, "need": None}
    for n in range(5, 30):
        XP.kernels["conv"](XP, cupy.ones((1, 3, n), "float32"), w, **options)
        XP.kernels["conv"](XP, cupy.ones((1, 3, 5), "float32"), w, **options)  # used again and again
    (plans,) = library._on.values()
    assert len(plans.plans) == 4
    assert any(form.x == (1, 3, 5) for form in plans.plans)


def test_a_plan_is_made_once_for_a_signature(monkeypatch):
    monkeypatch.setattr(library, "_on", {})
    made = []
    before = library._graph
    monkeypatch.setattr(library, "_graph", lambda *args: made.append(args[1]) or before(*args))
    arrays = drawn([(2, 3, 9), (4, 3, 3)])
    for _ in range(3):
        computed(conv, arrays, {})
        computed(conv, [2 * a for a in arrays], {})
    assert sorted(form.result for form in made) == ["weight", "x", "y"]


def test_both_sides_are_padded_alike_where_no_output_tells_them_apart():
    form = cudnn_convolution._signature(
        "y", np.dtype("f"), (2, 3, 8), (4, 3, 3), (2, 4, 4), (2,), ((1, 0),), (1,), False
    )
    assert form.padding == ((1,), (1,))
    form = cudnn_convolution._signature(
        "y", np.dtype("f"), (2, 3, 8), (4, 3, 2), (2, 4, 8), (1,), ((0, 1),), (1,), False
    )
    assert form.padding == ((0,), (1,))


# ----- what is said -----


def test_errors_have_what_the_library_says(monkeypatch, capfd):
    monkeypatch.setattr(library, "_on", {})
    monkeypatch.setattr(library, "_strides", lambda shape, last: [1] * len(shape))
    x, w = (an.asarray(a, device="cuda") for a in drawn([(2, 3, 9), (4, 3, 3)]))
    with pytest.raises(library.CudnnError, match=r"cuDNN: .*planning the convolution of x \(2, 3, 9\)"):
        conv(x, w)
    assert "elements of a tensor overlap" in capfd.readouterr().err


def test_a_wrong_address_is_refused(monkeypatch, capfd):
    x, w = (cupy.asarray(a) for a in drawn([(2, 3, 9), (4, 3, 3)]))
    monkeypatch.setattr(library, "ALIGNED", 1)
    with pytest.raises(library.CudnnError, match=r"cuDNN: .*in the convolution of x \(2, 3, 9\)"):
        conv(an.Tensor(unaligned(cupy.asnumpy(x))), an.Tensor(w))
    assert "tensor 1 is not aligned to 16 bytes" in capfd.readouterr().err


@pytest.fixture
def not_installed(monkeypatch):
    """As if there were no frontend."""

    def missing():
        msg = "cuDNN's frontend is not installed: pip install 'anynet-nn[cudnn12]'"
        raise ImportError(msg)

    monkeypatch.setattr(library, "_open", missing)
    monkeypatch.setattr(library, "LIBRARY", library._Library())


@pytest.mark.usefixtures("not_installed")
def test_without_the_library_the_extra_is_named_where_it_is_asked_for(monkeypatch):
    x, w = (an.asarray(a, device="cuda") for a in drawn([(2, 3, 9), (4, 3, 3)]))
    with pytest.raises(ImportError, match=r"ANYNET_CUDNN=on: .*pip install 'anynet-nn\[cudnn12\]'"):
        conv(x, w)
    for how in ("auto", "off"):
        monkeypatch.setenv("ANYNET_CUDNN", how)
        with Log() as log:
            assert conv(x, w).shape == (2, 4, 7)
        assert not launched(log)
    monkeypatch.setenv("ANYNET_CUDNN", "auto")
    assert (
        library.LIBRARY.status
        == "not used (cuDNN's frontend is not installed: pip install 'anynet-nn[cudnn12]')"
    )


def test_a_frontend_that_is_not_there_or_finds_no_library(monkeypatch):
    real = importlib.import_module
    lacking = types.SimpleNamespace(
        backend_version=lambda: (_ for _ in ()).throw(RuntimeError("no cudnnGetVersion"))
    )
    for module, said in (
        (None, "is not installed"),
        (lacking, r"finds no library of cuDNN \(no cudnnGetVersion\)"),
    ):

        def found(name, module=module):
            if name != "cudnn":
                return real(name)
            if module is None:
                raise ModuleNotFoundError(name="cudnn")
            return module

        with monkeypatch.context() as patch:
            patch.setattr(importlib, "import_module", found)
            with pytest.raises(ImportError, match=rf"{said}.*: pip install 'anynet-nn\[cudnn12\]'"):
                library._open()


def test_the_doctor_names_the_version(monkeypatch):
    assert XP.versions()["cuDNN"] == "9.27.0"
    monkeypatch.setenv("ANYNET_CUDNN", "off")
    assert XP.versions()["cuDNN"] == "not used (ANYNET_CUDNN is off)"


def test_the_engines_that_must_not_be_taken_come_first():
    """What the emulator is for: who takes what comes first has wrong numbers."""
    import cudnn

    form = library.Convolution(
        "y", "f", (1, 2, 5, 5), (3, 2, 3, 3), (1, 3, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), False, False
    )
    x, w = (cupy.asarray(a) for a in drawn([form.x, form.weight]))
    expected = conv(an.Tensor(x), an.Tensor(w)).numpy()
    handle, room = cudnn.create_handle(), cupy.zeros(1 << 16, "uint8")
    graph = library._graph(cudnn, form, handle, 90)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    wrong = []
    for index in range(graph.get_execution_plan_count()):
        graph.build_plan_at_index(index)
        if graph.get_workspace_size_plan_at_index(index) > library.MOST_WORKSPACE:
            wrong.append(True)
            continue
        y = cupy.zeros(form.y, "float32")
        places = {1: x.data.ptr, 2: w.data.ptr, 3: y.data.ptr}
        graph.execute_plan_at_index(places, room.data.ptr, index, handle=handle)
        wrong.append(not np.allclose(cupy.asnumpy(y), expected, rtol=1e-6, atol=1e-6))
    assert wrong == [True] * 7 + [False] * 2
    cudnn.destroy_handle(handle)
