"""NumPy's kernels of whole recurrent layers, with the batch along the rows, against the references and their rules."""

import dataclasses

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import use_kernels
from anynet.ops import recurrent
from anynet_backends import get_backend
from anynet_backends.jit import availability
from anynet_backends.kernels import KERNELS


def several(y):
    return y if isinstance(y, tuple) else (y,)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("form", [(6, 17, 5, 4), (1, 16, 3, 2), (2, 1, 1, 1), (4, 20, 3, 7)], ids=str)
@pytest.mark.parametrize("name", ["lstm_layer", "gru_layer"])
def test_layers(name, form, reverse, bias, dtype, built, monkeypatch):
    if not built:
        monkeypatch.setattr("anynet_backends.jit.availability.available", lambda: False)
    elif not availability.available():
        pytest.skip("needs the extra numba")
    steps, n, inputs, width = form
    rng = np.random.default_rng(0)
    gates, states = (4, 2) if name == "lstm_layer" else (3, 1)
    shapes = [(steps, n, inputs), *[(n, width)] * states, (gates * width, inputs), (gates * width, width)]
    shapes += [(gates * width,)] * (3 - states) if bias else []
    data = [rng.normal(size=s).astype(dtype) for s in shapes]
    data[0] = np.moveaxis(
        np.ascontiguousarray(np.moveaxis(data[0], -1, 0)), 0, -1
    )  # as a layer below gives it
    gs = [rng.normal(size=s).astype(dtype) for s in ((steps, n, width), (n, width))[:states]]
    for a in (*data, *gs):
        a.flags.writeable = False
    xp, kernel = get_backend("numpy"), KERNELS[name]
    tensors = [an.asarray(a, requires_grad=True) for a in data]
    with use_kernels(False):
        expected = several(getattr(recurrent, name)(*tensors, reverse=reverse))
        for y, g in zip(expected, gs, strict=True):
            an.sum(y * g).backward(retain_graph=True)
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype is np.float32 else {"rtol": 1e-11, "atol": 1e-13}
    for _ in range(2):
        alone = several(kernel(xp, *data, reverse=reverse, need=None))
        made, pull = kernel(xp, *data, reverse=reverse, need=(True,) * len(data))
        made, given = several(made), tuple(gs) if states == 2 else gs[0]
        for y, again, like in zip(made, alone, expected, strict=True):
            assert (y.dtype, y.shape) == (dtype, like.shape)
            np.testing.assert_allclose(y, like.detach().numpy(), **tolerance)
            np.testing.assert_array_equal(again, y)
        for _ in range(2):  # as often as one asks
            grads = pull(given)
            for g, t in zip(grads, tensors, strict=True):
                assert (g.dtype, g.shape) == (dtype, t.shape)
                np.testing.assert_allclose(g, t.grad.numpy(), **tolerance)
    some = kernel(xp, *data, reverse=reverse, need=(False,) + (True,) * (len(data) - 1))[1](given)
    assert some[0] is None
    np.testing.assert_array_equal(some[3], grads[3])


@pytest.mark.parametrize("name", ["lstm_layer", "gru_layer"])
def test_which_batches_take_it(name, monkeypatch):
    """Small batches go step by step with the features along the rows."""
    xp = get_backend("numpy")
    seen = []

    def kernel(xp, *data, need, **options):
        seen.append(data[0].shape[1])
        return KERNELS[name](xp, *data, need=need, **options)

    monkeypatch.setitem(xp.kernels, name, dataclasses.replace(KERNELS[name], forward=kernel))
    primitive = getattr(recurrent, name)
    primitive.implementations.clear()
    layer = (an.nn.LSTM if name == "lstm_layer" else an.nn.GRU)(3, 4)
    try:
        for n in (1, 15, 16, 40):
            layer(an.ones((5, n, 3)))
        with pytest.raises(TypeError, match="float64"):
            layer(an.ones((5, 40, 3), dtype="float64"))
    finally:
        primitive.implementations.clear()
    assert seen == [16, 40]
