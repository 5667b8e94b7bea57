"""oneDNN's kernels where the library is installed; without it nothing of it is there."""

import functools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import anynet as an
import anynet_backends
from anynet.autograd.jit import specialize
from anynet.autograd.primitive import PRIMITIVES
from anynet.ops.convolution import conv
from anynet.ops.pooling import max_pool
from anynet_backends import get_backend, onednn
from anynet_backends.memory import layout
from anynet_backends.onednn import convolution, layouts, library, pooling, primitive, reorders

F = an.nn.functional
installed = pytest.mark.skipif(onednn.find() is None, reason="the extra onednn is not installed")

SHAPES = [
    ((4, 3, 9, 8), (6, 3, 3, 3), {"padding": 1}),
    ((4, 4, 9, 8), (6, 2, 3, 2), {"stride": 2, "groups": 2}),
    ((2, 1, 28, 28), (8, 1, 5, 5), {}),
    ((2, 6, 11), (4, 6, 3), {"dilation": 2, "padding": 2}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 2, 2), {}),
    ((3, 8, 7, 7), (8, 8, 1, 1), {"stride": 2}),
    ((2, 8, 7, 7), (8, 1, 3, 3), {"groups": 8, "padding": "same"}),
    ((2, 16, 12, 12), (32, 16, 3, 3), {"padding": 1}),
    ((2, 130, 5, 6), (20, 130, 3, 3), {"padding": 1}),
    ((2, 18, 5, 6), (120, 18, 3, 3), {"stride": 2, "padding": 2, "dilation": 2}),
    ((1, 1030, 5, 6), (1040, 1030, 1, 1), {}),
]


def test_without_it_there_is_nothing_of_it():
    code = "import anynet_backends as b; x = b.get_backend('numpy'); print(x.kernels['conv'].forward.__module__, x.matmul)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ANYNET_ONEDNN": "off"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[0] == "anynet_backends.kernels.convolution", done.stderr
    assert "onednn" not in done.stdout


def test_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(library._state, "library", None)
    monkeypatch.setattr(library, "find", lambda: None)
    with pytest.raises(onednn.OneDNNError, match=r"pip install 'anynet-nn\[onednn\]'"):
        library.load_library()


@installed
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(1, 3), (3, 8), (4, 8), (8, 4), (12, 12), (20, 33), (130, 120)])
def test_scratch_memory_is_enough(monkeypatch, channels, stride, size):
    """Nothing is written behind it, nor behind the results."""
    mark, behind = 0xA5, 256
    run, rooms = primitive.Step._called, []

    def guarded(self, *arrays):
        memory = np.full(self.room + behind, mark, np.uint8)
        result = np.full(arrays[-1].nbytes + behind, mark, np.uint8)
        inside = result[: arrays[-1].nbytes].view(arrays[-1].dtype)
        with self.dnnl.lock:
            self.dnnl.scratch = memory[: self.room]
            status = run(self, *arrays[:-1], inside)
            self.dnnl.scratch = np.empty(0, np.uint8)
        assert status == 0
        np.testing.assert_array_equal(memory[self.room :], mark)
        np.testing.assert_array_equal(result[inside.nbytes :], mark)
        _memory(arrays[-1])[...] = inside
        rooms.append(self.room)

    monkeypatch.setattr(primitive.Step, "run", guarded)
    rng = np.random.default_rng(3)
    x = an.asarray(rng.normal(size=(2, channels[0], 8, 8)), dtype="float32", requires_grad=True)
    weight = an.asarray(
        rng.normal(size=(channels[1], channels[0], size, size)), dtype="float32", requires_grad=True
    )
    y = F.conv2d(x, weight, stride=stride, padding=size // 2)
    an.sum(y * y).backward()
    assert len(rooms) >= 3
    image, kernel = x.numpy().astype(np.float64), weight.numpy().astype(np.float64)
    padded = np.pad(image, ((0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (2, 3))[:, :, ::stride, ::stride]
    expected = np.einsum("nchwij,ocij->nohw", windows, kernel)
    gradient = np.einsum("nchwij,nohw->ocij", windows, 2 * expected)
    for a, b in ((y.numpy(), expected), (weight.grad.numpy(), gradient)):
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


def _memory(a):
    """The memory of an array whose numbers lie in any order."""
    return a.view() if a.ndim == 1 else np.lib.stride_tricks.as_strided(a, (a.size,), (a.itemsize,))


USES = """
import numpy as np, anynet as an
from anynet import nn
F = nn.functional
rng = np.random.default_rng(0)
draw = lambda *s: an.asarray(rng.normal(size=s).astype(np.float32), requires_grad=True)
x, q, s = draw(2, 3, 16, 16), draw(2, 2, 64, 16), draw(6, 4, 8)
made = [
    F.conv2d(x, draw(4, 3, 3, 3)), F.max_pool2d(x, 2), nn.BatchNorm2d(3)(draw(8, 3, 32, 32)), F.softmax(draw(64, 128), dim=-1),
    F.scaled_dot_product_attention(q, q, q), nn.LSTM(8, 16)(s)[0], nn.GRU(8, 16)(s)[0], draw(128, 128) @ draw(128, 128),
]
an.sum(an.stack([an.sum(y * y) for y in made])).backward()
an.compile(lambda x: F.max_pool2d(F.conv2d(x, an.ones((4, 3, 3, 3))), 2))(x.detach())
from anynet_backends import onednn
print("version", repr(onednn.version()), "problem", onednn.problem())
"""


def uses(site, cwd=None):
    """What `USES` prints in a process that finds oneDNN, if it does, in a folder of packages and not in the environment."""
    before = f"""
import os, sys, sysconfig
packages, every = sysconfig.get_path("purelib"), os.listdir
os.listdir = lambda p=".": [n for n in every(p) if p != packages or not n.startswith("onednn")]
sys.prefix = "/nowhere"
sys.path.insert(sys.path.index(packages), {str(site)!r})
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", before + USES], cwd=cwd, capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "ANYNET_ONEDNN"} | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def wheel(site, library, place):
    """An installed wheel, whose RECORD says that the library is in `place`; made of a link to a library, or of some bytes."""
    info = site / "onednn_cpu_gomp-2023.2.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text(f"{place},sha256=x,1\n{info.name}/RECORD,,\n")
    target = (site / place).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(library, bytes):
        target.write_bytes(library)
    else:
        shutil.copy(library, target)


@installed
@pytest.mark.parametrize(
    ("record", "place"),
    [("../../libdnnl.so.3", "../../libdnnl.so.3"), ("../../lib/libdnnl.so.3", "lib/libdnnl.so.3")],
    ids=["user site", "--target"],
)
def test_where_the_library_is_found(tmp_path, record, place):
    site = tmp_path / "a" / "b" / "site"
    wheel(site, os.path.realpath(onednn.find()), place)
    info = next(site.glob("*.dist-info"))
    (info / "RECORD").write_text(f"{record},sha256=x,1\n")
    assert f"version '{onednn.version()}'" in uses(site)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="oneDNN is found on Linux alone")
@pytest.mark.parametrize(
    "library", [b"", b"\x7fELF and no more", "libm.so.6"], ids=["empty", "damaged", "another"]
)
def test_a_library_that_does_not_load_is_not_used(tmp_path, library):
    if isinstance(library, str):
        found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
        paths = [line.split()[-1] for line in found.splitlines() if library in line and "x86-64" in line]
        if not paths:
            pytest.skip(f"{library} is not found here")
        library = os.path.realpath(paths[0])
    wheel(tmp_path, library, "lib/libdnnl.so.3")
    said = uses(tmp_path)
    assert "version ''" in said
    assert f"problem {tmp_path}" in said


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="oneDNN is found on Linux alone")
@pytest.mark.parametrize("which", ["file", "folder", "above"])
def test_a_library_that_everybody_may_write_is_not_loaded(tmp_path, which):
    site = tmp_path / "a" / "site"
    wheel(site, b"never loaded", "lib/libdnnl.so.3")
    {"file": site / "lib" / "libdnnl.so.3", "folder": site / "lib", "above": tmp_path / "a"}[which].chmod(
        0o777
    )
    assert "may be written by others" in uses(site)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="oneDNN is found on Linux alone")
def test_a_library_in_the_current_folder_is_not_loaded(tmp_path):
    wheel(tmp_path, b"never loaded", "lib/libdnnl.so.3")
    (tmp_path / "libdnnl.so.3").write_bytes(b"never loaded")
    assert uses(".", cwd=tmp_path).split() == ["version", "''", "problem"]
    assert uses(tmp_path, cwd=tmp_path).split() == ["version", "''", "problem"]


@installed
@pytest.mark.parametrize("layout", ["as it is", "channels last", "batch last", "strided", "read-only"])
@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=str)
def test_convolution_against_the_reference(x, w, options, layout):
    rng = np.random.default_rng(0)
    image, weight, bias = (rng.normal(size=s).astype(np.float32) for s in (x, w, w[:1]))
    if layout == "channels last":
        image = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 1, -1)), -1, 1)
    elif layout == "batch last":
        image = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 0, -1)), -1, 0)
    elif layout == "strided":
        image = np.repeat(image, 2, axis=-1)[..., ::2]
    elif layout == "read-only":
        image.flags.writeable = False
    function = getattr(F, f"conv{len(x) - 2}d")
    found = []
    for on in (True, False):
        arguments = [an.Tensor(a, requires_grad=True) for a in (image, weight, bias)]
        with an.use_kernels(on):
            y = function(*arguments, **options)
            an.sum(y * y).backward()
        found.append([y, *(a.grad for a in arguments)])
    for ours, reference in zip(*found, strict=True):
        assert ours.dtype is an.float32
        a, b = ours.numpy(), reference.numpy()
        assert a.shape == b.shape
        assert np.linalg.norm((a - b).ravel()) <= 2e-6 * np.linalg.norm(b.ravel())


@installed
@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=str)
def test_transposes_of_convolution_against_the_reference(x, w, options):
    """conv_transpose and conv_weight as cotangent maps of each other, taken by oneDNN, in both orders of memory."""
    rng = np.random.default_rng(0)
    axes = len(x) - 2
    stride, dilation = ((options.get(name, 1),) * axes for name in ("stride", "dilation"))
    pads = tuple(
        (0, 0)
        if options.get("padding", 0) == 0
        else (options["padding"],) * 2
        if options["padding"] != "same"
        else (1, 1)
        for _ in range(axes)
    )
    meta = {"stride": stride, "padding": pads, "dilation": dilation, "groups": options.get("groups", 1)}
    out = PRIMITIVES["conv"].reference(xp := get_backend("numpy"), np.zeros(x), np.zeros(w), **meta).shape
    image, weight, z = (rng.normal(size=s).astype(np.float32) for s in (x, w, out))
    for swapped in (image, np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 1, -1)), -1, 1)):
        for name, data, shape, h in (
            ("conv_transpose", (z, weight), x[2:], swapped), ("conv_weight", (swapped, z), w[2:], weight),
        ):  # fmt: skip
            y, pull = convolution.KERNELS[name](xp, *data, shape=shape, need=(True, True), **meta)
            exact = [a.astype(np.float64) for a in data]
            far = h.astype(np.float64)
            want = PRIMITIVES[name].reference(xp, *exact, shape=shape, **meta)
            a, b = exact
            if name == "conv_transpose":
                back = (PRIMITIVES["conv"].reference(xp, far, b, **meta), PRIMITIVES["conv_weight"].reference(
                    xp, far, a, shape=w[2:], **meta))  # fmt: skip
            else:
                back = (PRIMITIVES["conv_transpose"].reference(xp, b, far, shape=x[2:], **meta),
                        PRIMITIVES["conv"].reference(xp, a, far, **meta))  # fmt: skip
            for ours, reference in zip((y, *pull(h)), (want, *back), strict=True):
                assert (ours.dtype, ours.shape) == (np.float32, reference.shape)
                assert np.linalg.norm(ours - reference) <= 2e-6 * np.linalg.norm(reference)


@installed
def test_other_dtypes_and_empty_batches_take_the_other_kernel():
    weight = an.ones((2, 1, 3, 3))
    assert F.conv2d(an.zeros((0, 1, 5, 5)), weight).shape == (0, 2, 3, 3)
    assert (
        F.conv2d(an.ones((1, 1, 5, 5), dtype=an.float64), an.astype(weight, an.float64)).dtype is an.float64
    )
    with pytest.raises(ValueError, match="conv2d"):
        F.conv2d(an.ones((1, 1, 2, 2)), weight)


def orders(a):
    """The same numbers in memory in many ways, the last of which BLAS and oneDNN have no way to read."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 20), a.dtype)
    wide[..., : a.shape[-1]] = a
    yield a
    yield np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    yield wide[..., : a.shape[-1]]
    yield np.ascontiguousarray(np.moveaxis(a, -2, 0)).swapaxes(0, -2) if a.ndim == 3 else a[::-1][::-1]
    frozen = a.copy()
    frozen.flags.writeable = False
    yield frozen
    yield np.repeat(a, 2, axis=-1)[..., ::2]


@installed
@pytest.mark.parametrize("stack", [(), (1,), (5,), (2, 3)], ids=str)
def test_products_of_all_orders(stack):
    rng = np.random.default_rng(0)
    xp = anynet_backends.get_backend("numpy")
    assert (xp.matmul, xp.affine) == (onednn.matmul, onednn.affine)
    a, b = (rng.normal(size=(*stack, *s)).astype(np.float32) for s in ((90, 80), (80, 70)))
    c = rng.normal(size=70).astype(np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    taken = 0
    for left in orders(a):
        for right in orders(b):
            taken += onednn.product(None, left, right) is not None
            for plus in (None, c):
                expected = exact if plus is None else exact + c
                y = xp.matmul(left, right) if plus is None else xp.affine(left, right, plus)
                assert (y.dtype, y.shape) == (np.float32, expected.shape)
                assert np.linalg.norm(y - expected) <= 1e-6 * np.linalg.norm(expected)
    assert taken >= 16
    out = np.empty((*stack, 90, 70), np.float32)
    assert xp.matmul(a, b, out) is out
    assert np.linalg.norm(out - exact) <= 1e-6 * np.linalg.norm(exact)
    assert xp.affine(a, b, c, out) is out
    assert np.linalg.norm(out - exact - c) <= 1e-6 * np.linalg.norm(exact)
    backwards = np.empty((*stack, 70, 90), np.float32).swapaxes(-1, -2)
    assert xp.matmul(a, b, backwards) is backwards
    assert np.linalg.norm(backwards - exact) <= 1e-6 * np.linalg.norm(exact)
    a[..., 0, 0] = np.nan
    assert np.isnan(xp.matmul(a, b)[..., 0, :]).all()
    assert np.isfinite(xp.matmul(a, b)[..., 1:, :]).all()


@installed
def test_products_left_to_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(90, 180)).astype(np.float32), rng.normal(size=(180, 170)).astype(np.float32)
    assert onednn.product(None, a, b) is not None
    others = (
        (a[:3], b), (a.astype(np.float64), b), (a.astype(np.float64), b.astype(np.float64)), (a[0], b), (a, b[:, 0]),
        (np.stack([a, a]), b), (a, np.stack([b, b])), (a[:1], np.tile(b, 20)), (np.tile(a, (20, 1)), b[:, :1]),
        (np.tile(a, (200, 1))[:, :1], b[:1]), (np.broadcast_to(a[:1], a.shape), b), (a[:0], b), (a[:, :0], b[:0]),
    )  # fmt: skip
    for left, right in others:
        assert onednn.product(None, left, right) is None
        np.testing.assert_array_equal(onednn.matmul(left, right), np.matmul(left, right))
    for c in (
        np.ones(170),
        np.ones((90, 170), np.float32),
        np.ones(1, np.float32),
        np.ones(340, np.float32)[::2],
    ):
        assert onednn.product(None, a, b, c) is None
        expected = np.matmul(a, b)
        expected += c
        np.testing.assert_array_equal(onednn.affine(a, b, c), expected)
    with pytest.raises(ValueError, match="matmul"):
        onednn.matmul(a, a)
    with pytest.raises(ValueError, match="matmul"):
        onednn.matmul(a, np.float32(1))
    with pytest.raises(ValueError, match="mismatch"):
        onednn.matmul(a, b, np.empty((3, 3), np.float32))


@installed
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("rows", [(40,), (3, 20), (1,)], ids=str)
def test_linear_is_one_call_with_the_same_bits_in_a_program(built, rows, monkeypatch):
    if not built:
        monkeypatch.setattr(onednn.Step, "built", None)
    rng = np.random.default_rng(0)
    x, g = (rng.normal(size=(*rows, n)).astype(np.float32) for n in (130, 120))
    w, b = rng.normal(size=(120, 130)).astype(np.float32), rng.normal(size=120).astype(np.float32)

    def both(x):
        x = an.Tensor(x.data, requires_grad=True)
        weight, bias = an.Tensor(w, requires_grad=True), an.Tensor(b, requires_grad=True)
        y = F.linear(x, weight, bias)
        y.backward(an.asarray(g))
        return y.detach(), x.grad, weight.grad, bias.grad

    def in_double():
        flat, grad = x.reshape(-1, 130).astype(np.float64), g.reshape(-1, 120).astype(np.float64)
        return x @ w.T.astype(np.float64) + b, g @ w.astype(np.float64), grad.T @ flat, grad.sum(0)

    compiled = an.compile(both)
    for _ in range(3):
        for mine, exact, again in zip(both(an.asarray(x)), in_double(), compiled(an.asarray(x)), strict=True):
            assert mine.dtype is an.float32
            assert np.linalg.norm(mine.numpy() - exact) <= 1e-6 * np.linalg.norm(exact)
            np.testing.assert_array_equal(mine.numpy(), again.numpy())


@installed
def test_products_in_many_threads(in_threads):
    """Scratch memory is shared by calls that hold a lock; programs have their own."""
    rng = np.random.default_rng(0)
    wrong = []

    def work(a, b, run, expected):
        for _ in range(40):
            if not (run(a, b) == expected).all():
                wrong.append(a.shape)

    works = []
    for n in (100, 300, 700):
        a, b = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
        compiled = an.compile(lambda a, b: an.matmul(a, b))
        expected = onednn.matmul(a, b)
        runs = (onednn.matmul, lambda a, b, f=compiled: f(an.Tensor(a), an.Tensor(b)).numpy())
        assert all((run(a, b) == expected).all() for run in runs)
        works += [functools.partial(work, a, b, run, expected) for run in runs]
    in_threads(*works)
    assert not wrong


@installed
def test_threads_share_plans(in_threads):
    rng = np.random.default_rng(0)
    x, w = (an.asarray(rng.normal(size=s).astype(np.float32)) for s in ((2, 4, 16, 16), (4, 4, 3, 3)))
    expected = F.conv2d(x, w).numpy()
    wrong = []

    def work():
        for _ in range(30):
            if not (F.conv2d(x, w).numpy() == expected).all():
                wrong.append(1)

    in_threads(*[work] * 3)
    assert not wrong


@installed
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: an.nn.Conv2d(3, 5, 5, stride=2), (4, 3, 33, 31)),
        (lambda: an.nn.Conv2d(16, 16, 3, dilation=2), (8, 16, 24, 24)),
        (lambda: an.nn.Conv2d(64, 128, 1), (8, 64, 14, 14)),
        (lambda: an.nn.MaxPool2d(3, 2), (8, 16, 24, 24)),
        (lambda: an.nn.BatchNorm2d(16), (8, 16, 24, 24)),
        (lambda: an.nn.LayerNorm(256), (800, 256)),
        (lambda: an.nn.Softmax(-1), (800, 256)),
        (lambda: an.nn.LSTM(64, 128), (20, 64, 64)),
        (lambda: an.nn.GRU(64, 128), (20, 64, 64)),
        (lambda: an.nn.Linear(512, 512), (128, 512)),
    ],
    ids=lambda x: str(x) if isinstance(x, tuple) else "",
)
def test_plans_made_in_one_thread_run_in_others(layer, shape, in_threads):
    """Scratch memory of the library's own would belong to the thread that made the plan."""
    an.random.manual_seed(0)
    net = layer()
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def output(x):
        y = net(x)
        return y[0] if isinstance(y, tuple) else y

    def results():
        variable = an.asarray(x, requires_grad=True)
        return output(variable).detach().numpy(), an.grad(lambda v: an.sum(an.sin(output(v))))(
            variable
        ).numpy()

    expected = results()
    wrong = []

    def work():
        for _ in range(3):
            wrong.extend(1 for a, b in zip(results(), expected, strict=True) if not np.array_equal(a, b))

    in_threads(*[work] * 3)
    assert not wrong


@installed
def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(primitive, "PLANS", 3)
    plans = primitive.PlanCache(lambda n: [n])
    for n in (1, 2, 3, 1, 4):
        assert plans(n) == [n]
    assert list(plans.known) == [(3,), (1,), (4,)]


@installed
def test_a_compiled_step_gives_the_bits_of_eager():
    rng = np.random.default_rng(0)
    x, t = an.asarray(rng.normal(size=(8, 3, 12, 12)).astype(np.float32)), an.asarray(rng.integers(0, 5, 8))
    found = []
    for compiled in (False, True):
        an.random.manual_seed(0)
        net = an.nn.Sequential(
            an.nn.Conv2d(3, 8, 3, padding=1), an.nn.BatchNorm2d(8), an.nn.ReLU(), an.nn.MaxPool2d(2), an.nn.Flatten(),
            an.nn.Linear(288, 300), an.nn.ReLU(), an.nn.Linear(300, 5),
        )  # fmt: skip
        optimizer = an.optim.Adam(net.parameters())

        def step(x, t, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), t)
            loss.backward()
            optimizer.step()
            return loss

        run = an.compile(step) if compiled else step
        losses = [run(x, t).item() for _ in range(5)]
        found.append((losses, {k: v.numpy().copy() for k, v in net.state_dict().items()}))
    assert found[0][0] == found[1][0]
    for name, value in found[0][1].items():
        assert (value == found[1][1][name]).all(), name


@installed
def test_recurrent_steps_in_many_threads(in_threads):
    """Their products are repeated by machine code, which holds no lock of the interpreter's."""
    an.random.manual_seed(0)
    net = an.nn.RNN(16, 128)
    x = an.asarray(np.random.default_rng(0).normal(size=(40, 32, 16)).astype(np.float32))
    wrong = []

    def gradients():
        w = an.Tensor(x.data, requires_grad=True)
        y, _ = net(w)
        y.backward(an.cos(y.detach()))
        return y.detach().numpy(), w.grad.numpy()

    expected = gradients()

    def work():
        for _ in range(15):
            wrong.extend(1 for a, b in zip(gradients(), expected, strict=True) if not (a == b).all())

    for p in net.parameters():
        p.requires_grad_(False)
    in_threads(*[work] * 3)
    assert not wrong


@installed
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_does_not_wait_for_threads_that_are_not_there():
    code = """
import os, signal
import numpy as np
import anynet as an
F = an.nn.functional
rng = np.random.default_rng(0)
draw = lambda *s: an.asarray(rng.normal(size=s).astype(np.float32))
a, x, w, image, kernel = draw(600, 600), draw(64, 64), draw(128, 64), draw(8, 8, 32, 32), draw(8, 8, 3, 3)
wide, q, rnn, seq = draw(900, 900), draw(8, 4, 64, 32), an.nn.RNN(16, 128), draw(20, 64, 16)
net = an.nn.Sequential(an.nn.Linear(600, 600), an.nn.GELU(), an.nn.Linear(600, 10))
optimizer = an.optim.Adam(net.parameters(), lr=0.0)

@an.compile
def step(x):
    optimizer.zero_grad()
    loss = an.mean(net(x) ** 2)
    loss.backward()
    optimizer.step()
    return loss

def work():
    small = [F.linear(x, w) for _ in range(40)][-1]
    y = rnn(seq)[0]
    made = (a @ a, small, F.conv2d(image, kernel), F.gelu(wide), F.scaled_dot_product_attention(q, q, q), y, step(a))
    return [z.detach().numpy() for z in made]

before = work()
child = os.fork()
if child == 0:
    signal.alarm(60)
    for z, expected in zip(work(), before):
        np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    os._exit(0)
print(os.waitpid(child, 0)[1])
for z, expected in zip(work(), before):
    assert (z == expected).all()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["0"], done.stderr


NORMS = [  # shape, axes, whether with weights
    ((16, 8, 12, 10), (0, 2, 3), True), ((16, 8, 12, 10), (0, 2, 3), False), ((9, 4, 300), (0, 2), True),
    ((4, 3, 9, 10, 11), (0, 2, 3, 4), True), ((512, 33), (0,), True), ((200, 64), (1,), True), ((7, 30, 48), (2,), True),
    ((7, 30, 48), (2,), False), ((5, 20, 10, 12), (2, 3), True),
]  # fmt: skip


@installed
@pytest.mark.parametrize(("shape", "axes", "weighted"), NORMS)
@pytest.mark.parametrize("order", ["plain", "channels last"])
def test_normalization_equals_the_reference_in_double(shape, axes, weighted, order):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * 3 + 2).astype(np.float32)
    if order == "channels last" and len(shape) > 2 and axes[0] == 0:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    over_batch = axes[0] == 0
    own = tuple(n if (i == 1 if over_batch else i in axes) else 1 for i, n in enumerate(shape))
    flat = tuple(n for n in own if n > 1)
    w, b = ((rng.uniform(0.5, 1.5, flat)).astype(np.float32), rng.normal(size=flat).astype(np.float32))
    given = (x, w, b) if weighted else (x,)
    need = (True,) * len(given)
    found = onednn.KERNELS["normalize"](
        get_backend("numpy"), *given, axes=axes, eps=1e-3, shape=own, need=need
    )
    assert found is not NotImplemented
    (y, mean, variance), pull = found
    inference = onednn.KERNELS["normalize"](
        get_backend("numpy"), *given, axes=axes, eps=1e-3, shape=own, need=None
    )
    g = rng.normal(size=shape).astype(np.float32)
    grads = pull(g)
    d, gd = x.astype(np.float64), g.astype(np.float64)
    m, v = d.mean(axis=axes, keepdims=True), d.var(axis=axes, keepdims=True)
    unit = (d - m) / np.sqrt(v + 1e-3)
    scale = w.reshape(own).astype(np.float64) if weighted else 1.0
    expected = unit * scale + (b.reshape(own) if weighted else 0.0)
    inner = gd * scale
    n = np.prod([shape[i] for i in axes])
    back = (
        inner
        - inner.sum(axis=axes, keepdims=True) / n
        - unit * (inner * unit).sum(axis=axes, keepdims=True) / n
    )
    rest = tuple(i for i in range(len(shape)) if own[i] == 1)
    wanted = [
        back / np.sqrt(v + 1e-3),
        (gd * unit).sum(axis=rest).reshape(flat),
        gd.sum(axis=rest).reshape(flat),
    ]
    for a in (y, inference[0]):
        assert np.allclose(a, expected, rtol=1e-5, atol=1e-5)
    assert np.allclose(mean, m, rtol=1e-5, atol=1e-5)
    assert np.allclose(variance, v, rtol=1e-5, atol=1e-5)
    assert mean.shape == m.shape
    for a, e in zip(grads, wanted, strict=False):
        assert a.dtype == np.float32
        assert a.shape == e.shape
        assert abs(a - e).max() <= 2e-5 * max(1.0, abs(e).max())


@installed
def test_normalization_leaves_what_it_does_not_know():
    xp, x = get_backend("numpy"), np.ones((64, 8, 32), np.float32)
    run = onednn.KERNELS["normalize"]
    options = {"axes": (0, 2), "eps": 1e-5, "shape": (1, 8, 1), "need": None}
    assert run(xp, x.astype(np.float64), **options) is NotImplemented
    assert run(xp, x[:1, :, :2], **options) is NotImplemented  # too small to be worth the call
    assert run(xp, x, np.ones(8, np.float32), **options) is NotImplemented  # a weight alone
    assert run(xp, x, **{**options, "axes": (0,)}) is NotImplemented


@installed
@pytest.mark.parametrize("built", [True, False])
def test_pooling_passes_nan_on_as_pytorch_does(built, monkeypatch):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    if not built:  # through ctypes
        monkeypatch.setattr(onednn.Step, "built", None)
        monkeypatch.setattr(pooling, "_poolings", primitive.PlanCache(pooling._Pooling))
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    x[0, 1, 2, 3] = x[1, 2, 7, 8] = np.nan
    x[0, 0, 0, 0] = np.inf
    x[1, 0, :4, :4] = -np.inf
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1)):
        mine, other = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y = F.max_pool2d(mine, kernel, stride, padding)
        z = torch.nn.functional.max_pool2d(other, kernel, stride, padding)
        np.testing.assert_array_equal(y.detach().numpy(), z.detach().numpy())
        g = np.random.default_rng(1).integers(1, 9, y.shape).astype(np.float32)
        y.backward(an.asarray(g))
        z.backward(torch.tensor(g))
        np.testing.assert_array_equal(mine.grad.numpy(), other.grad.numpy())
        compiled = an.compile(lambda a, k=kernel, s=stride, p=padding: F.max_pool2d(a, k, s, p))
        for numbers in (np.nan_to_num(x), x, np.nan_to_num(x)):  # whichever way it was recorded
            expected = torch.nn.functional.max_pool2d(torch.tensor(numbers), kernel, stride, padding)
            np.testing.assert_array_equal(compiled(an.asarray(numbers)).numpy(), expected.numpy())


@installed
@pytest.mark.parametrize("order", ["plain", "channels last"])
@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=str)
def test_a_compiled_convolution_has_the_bits_of_eager(x, w, options, order):
    rng = np.random.default_rng(0)
    weight, bias = an.asarray(rng.normal(size=w).astype(np.float32)), an.asarray(np.ones(w[0], np.float32))
    f = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(x)]
    compiled = an.compile(lambda a: F.relu(f(a, weight, bias, **options)))
    for _ in range(4):
        image = rng.normal(size=x).astype(np.float32)
        if order == "channels last":
            image = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 1, -1)), -1, 1)
        expected = F.relu(f(an.Tensor(image), weight, bias, **options)).numpy()
        assert np.array_equal(compiled(an.Tensor(image)).numpy(), expected)


@installed
def test_small_calls_are_built_in_functions():
    from anynet.autograd.jit import specialize

    if not specialize.available():
        pytest.skip("needs the extra numba")
    plan = convolution._convolutions(
        (1, 2, 6, 6), (3, 2, 3, 3), False, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, False
    )
    run = plan.forward.step.built
    y = np.empty(plan.y_shape, np.float32)
    assert run(y) == -1  # not as many arrays
    assert run(y, y, 3.0) == -1  # not all arrays
    with pytest.raises(onednn.OneDNNError, match="status -1"):
        plan.forward.run(y, y)
    large = convolution._convolutions(
        (64, 16, 32, 32), (16, 16, 3, 3), False, (1, 1), ((0, 0), (0, 0)), (1, 1), 1, False
    )
    assert large.forward.step.built is None


def _layer(kind, steps, n, inputs, width, bias, rng):
    gates = {"lstm": 4, "gru": 3}[kind]
    shapes = [(steps, n, inputs), (n, width), (gates * width, inputs), (gates * width, width)]
    shapes[2:2] = [(n, width)] if kind == "lstm" else []
    shapes += ([(gates * width,)] if kind == "lstm" else [(gates * width,)] * 2) if bias else []
    return [rng.normal(size=s) for s in shapes]


@installed
@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 3, 4), (1, 5, 8, 16), (7, 1, 3, 5), (5, 4, 1, 1), (6, 3, 20, 33), (50, 2, 64, 128)]
)
def test_recurrent_layers_equal_the_reference_in_double(kind, bias, reverse, sizes):
    from anynet.ops import recurrent

    f = getattr(recurrent, f"{kind}_layer")
    rng = np.random.default_rng(0)
    values = _layer(kind, *sizes, bias, rng)
    values = [v / np.sqrt(v.shape[-1]) for v in values]
    weigh = [rng.normal(size=(*sizes[:2], sizes[3])), rng.normal(size=(sizes[1], sizes[3]))]

    def run(dtype):
        given = [an.asarray(v.astype(dtype), requires_grad=True) for v in values]
        assert recurrent._whole(f"{kind}_layer", given[0]) == (dtype == np.float32)
        y = f(*given, reverse=reverse)
        parts = y if isinstance(y, tuple) else (y,)
        loss = sum(an.sum(p * an.asarray(w.astype(dtype))) for p, w in zip(parts, weigh, strict=False))
        loss.backward()
        with an.no_grad():
            again = f(*given, reverse=reverse)
        for a, b in zip(parts, again if isinstance(again, tuple) else (again,), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
        return [p.detach().numpy() for p in parts] + [x.grad.numpy() for x in given]

    for mine, expected in zip(run(np.float32), run(np.float64), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=2e-5 * max(1.0, np.abs(expected).max()))


@installed
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_in_all_memory_orders_and_needs(kind):
    rng = np.random.default_rng(0)
    layer = getattr(an.nn, kind)(6, 8, num_layers=2, bidirectional=True, batch_first=True)
    x = rng.normal(size=(3, 5, 6)).astype(np.float32)
    wide = np.zeros((3, 5, 12), np.float32)
    wide[..., ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    results = []
    for given in (x, np.asfortranarray(x), wide[..., ::2], read_only):
        layer.zero_grad()
        a = an.Tensor(given)
        a.requires_grad_(given is not x)
        y, _ = layer(a)
        an.sum(y * y).backward()
        assert (a.grad is None) == (given is x)
        results.append([y.detach().numpy(), *(p.grad.numpy().copy() for p in layer.parameters())])
    for other in results[1:]:
        assert all(np.array_equal(p, q) for p, q in zip(results[0], other, strict=True))


@installed
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_compiled_recurrent_step_has_the_bits_of_eager(kind):
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(4, 7, 3)).astype(np.float32) for _ in range(5)]

    def train(compiled):
        layer = getattr(an.nn, kind)(3, 6)
        for p in layer.parameters():
            p.assign_(an.asarray(np.random.default_rng(1).normal(size=p.shape).astype(np.float32)))
        optimizer = an.optim.Adam(layer.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            loss = an.mean(layer(x)[0] ** 2)
            loss.backward()
            optimizer.step()
            return loss

        run = an.compile(step) if compiled else step
        return [run(an.asarray(x)).item() for x in xs], [p.numpy().tobytes() for p in layer.parameters()]

    assert train(True) == train(False)


@installed
def test_recurrent_layers_are_differentiated_twice():
    layer = an.nn.LSTM(2, 3)
    x = an.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32), requires_grad=True)
    first = an.grad(lambda v: an.sum(layer(v)[0] ** 2))
    exact = layer.double()
    np.testing.assert_allclose(
        an.grad(lambda v: an.sum(first(v) ** 2))(x.to(an.float64) if hasattr(x, "to") else x).numpy(),
        an.grad(lambda v: an.sum(an.grad(lambda u: an.sum(exact(u)[0] ** 2))(v) ** 2))(
            an.asarray(x.detach().numpy().astype(np.float64))
        ).numpy(),
        rtol=1e-4,
    )


@installed
def test_a_compiled_network_in_threads_and_by_both_ways(in_threads, monkeypatch):
    """A program and the built-in function made of it have memory objects each; plans that went meanwhile stay with them."""
    an.random.manual_seed(0)
    net = an.nn.Sequential(
        an.nn.Conv2d(1, 4, 3), an.nn.ReLU(), an.nn.Conv2d(4, 8, 3), an.nn.MaxPool2d(2)
    ).eval()
    xs = [
        an.asarray(np.random.default_rng(i).normal(size=(1, 1, 14, 14)).astype(np.float32)) for i in range(3)
    ]
    with an.no_grad():
        expected = [net(x).numpy() for x in xs]
        compiled = an.compile(net)
        compiled(xs[0])
        monkeypatch.setattr(primitive, "PLANS", 1)
        net(an.ones((1, 1, 9, 9)))
        compiled(xs[0])
    (step,) = next(iter(compiled.steps.values()))
    wrong = []

    def replay(i):
        for _ in range(40):
            if not np.array_equal(compiled(xs[i]).numpy(), expected[i]):
                wrong.append(i)

    def by_the_program():
        for _ in range(40):
            with compiled.lock:
                y = step.run([xs[2]], [xs[2].data])
            if not np.array_equal(y.numpy(), expected[2]):
                wrong.append("program")

    in_threads(lambda: replay(0), lambda: replay(1), by_the_program)
    assert not wrong


def rounding(n, channels, side):
    """The relative errors of a convolution in float32, of its result and of the gradients of inputs and weights."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(n, channels, side, side)), rng.normal(size=(channels, channels, 3, 3))
    found = []
    for dtype in ("float32", "float64"):
        a, b = (an.asarray(v.astype(np.float32), dtype=dtype, requires_grad=True) for v in (x, w))
        y = an.nn.functional.conv2d(a, b, padding=1)
        y.backward(an.asarray(x.astype(np.float32), dtype=dtype))
        found.append([v.numpy().astype(np.float64) for v in (y, a.grad, b.grad)])
    return [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(*found, strict=True)]


def test_rounding_errors_are_those_of_a_running_sum():
    """Sums of n products in float32 without Winograd's transforms: within half a unit for each √n."""
    products = (64 * 9, 64 * 9, 8 * 16 * 16)
    for error, count in zip(rounding(8, 64, 16), products, strict=True):
        assert error <= 0.5 * count**0.5 * 2.0**-24


@installed
@pytest.mark.parametrize("channels", [128, 320])
def test_rounding_errors_of_long_sums_are_those_of_their_parts(channels):
    """Parts are the products of 16 channels or fewer: their own errors, and those of adding them up. Without AVX-512 outputs have none."""
    parts = 0.5 * 2.0**-24 * ((16 * 9) ** 0.5 + (channels / 16) ** 0.5)
    whole = 0.5 * 2.0**-24 * (channels * 9) ** 0.5
    y, gx, _ = rounding(2, channels, 6)
    assert y <= (parts if library.load_library().avx512 else whole)
    assert gx <= parts


@installed
@pytest.mark.parametrize("shape", [(2, 16, 33, 20), (3, 2, 4096), (1, 4, 9, 16, 16)], ids=str)
def test_reorders(shape):
    """Large arrays in C order are copied by oneDNN, others by NumPy; those in the right order are left."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before = layout.reorders.calls
    y = reorders.channels_last(x)
    np.testing.assert_array_equal(x, y)
    assert layouts.is_channels_last(y)
    assert reorders.channels_last(y) is y
    np.testing.assert_array_equal(reorders.channels_last(x[..., ::2]), x[..., ::2])
    small = x[:, :, :2].copy()
    np.testing.assert_array_equal(reorders.channels_last(small), small)
    assert layout.reorders.calls == before + 3


@installed
def test_a_network_keeps_one_order_and_the_profile_says_so():
    """The input is copied once, and the gradient of the flattened output."""
    nn = an.nn
    net = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU6(), nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4), nn.SiLU(), nn.ConvTranspose2d(4, 4, 2, 2), nn.BatchNorm2d(4),
        nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 1), nn.MaxPool2d(2), nn.Flatten(),
    )  # fmt: skip
    x = an.asarray(np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32))
    with an.profile() as p:
        an.sum(net(x) ** 2).backward()
    assert p.reorders <= 2
    assert (p.reordered > 0) == (p.reorders > 0)
    assert "reordered in memory" in str(p) or not p.reorders


def test_a_dilated_window_of_padding_alone_is_minus_infinity():
    x = an.asarray(np.ones((2, 3, 1), "float32"))
    y = an.nn.functional.max_pool1d(x, 2, stride=2, padding=1, dilation=2)
    assert (y.numpy() == -np.inf).all()
    wide = an.asarray(np.ones((2, 3, 5), "float32"))
    assert (an.nn.functional.max_pool1d(wide, 2, stride=1, padding=1, dilation=2).numpy() == 1.0).all()


SIGNALS = """
import signal, sys, threading, anynet as an
from anynet_backends.onednn import library
if "thread" in sys.argv:
    first = threading.Thread(target=library.load_library)
    first.start()
    first.join()
net, x, seen = an.nn.LSTM(64, 256), an.random.normal((64, 32, 64)), []
an.sum(net(x)[0]).backward()
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
for _ in range(30):
    net.zero_grad()
    an.sum(net(x)[0]).backward()
signal.setitimer(signal.ITIMER_REAL, 0)
print("fine" if seen else "no signal came")
"""


@installed
@pytest.mark.skipif(sys.platform != "linux", reason="the stack for signals is of Linux")
@pytest.mark.parametrize("loaded_by", ["main", "thread"])
def test_signals_during_products_do_not_write_into_their_buffers(loaded_by):
    """Products of recurrent layers move the stack pointer into a buffer: without memory for signals each Ctrl-C may end the process
    with a damaged heap."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SIGNALS, loaded_by], capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k not in ("ANYNET_ONEDNN", "PYTHONFAULTHANDLER")},
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr


@installed
@pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")
@pytest.mark.parametrize("order", ["plain", "channels last", "strided"])
@pytest.mark.parametrize("shape", [(1, 8, 16), (2, 3, 9, 7), (1, 2, 4, 5, 3)], ids=str)
def test_convolution_and_pooling_without_a_gradient_become_functions(monkeypatch, shape, order):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    rng = np.random.default_rng(0)
    axes = len(shape) - 2
    weight = an.asarray(rng.normal(size=(6, shape[1], *(3,) * axes)).astype(np.float32))
    bias = an.asarray(rng.normal(size=6).astype(np.float32))

    def numbers():
        x = rng.normal(size=shape).astype(np.float32)
        if order == "channels last":
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        return np.repeat(x, 2, axis=-1)[..., ::2] if order == "strided" else x

    functions = {
        "conv": lambda x: conv(x, weight, bias, padding=1),
        "max_pool": lambda x: max_pool(x, (2,) * axes, padding=1),
    }
    for name, f in functions.items():
        prim = PRIMITIVES[name]
        prim.specializations.clear()
        prim.compilable = True
        for _ in range(5):
            x = numbers()
            y = f(an.Tensor(x))
            recorded = f(an.Tensor(x, requires_grad=True))  # by the kernel
            assert y.numpy().tobytes() == recorded.detach().numpy().tobytes()
            assert y.data.strides == recorded.data.strides
        (made,) = prim.specializations.values()
        assert made.need is None
        assert (made.table is not None) is (name == "conv")


@installed
def test_a_small_pooling_is_one_function_and_keeps_nan(monkeypatch):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    prim = PRIMITIVES["max_pool"]
    prim.specializations.clear()
    prim.compilable = True
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    x[0, 1, 3, 2], x[1, 2, :2, :2] = np.nan, -np.inf
    found = [max_pool(an.Tensor(x), (2, 2)).numpy() for _ in range(4)]
    recorded = max_pool(an.Tensor(x, requires_grad=True), (2, 2)).detach().numpy()
    assert all(a.tobytes() == recorded.tobytes() for a in found)
    assert (
        all(s.table is not None for s in prim.specializations.values() if s.need is None)
        is specialize.available()
    )
