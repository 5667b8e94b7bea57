"""NumPy's kernel of a whole LSTM, with the batch along the rows, against the reference and its rules."""

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import use_kernels
from anynet.ops import recurrent
from anynet_backends import backend, machine
from anynet_backends.numpy_kernels import KERNELS


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("form", [(6, 17, 5, 4), (1, 16, 3, 2), (2, 1, 1, 1), (4, 20, 3, 7)], ids=str)
def test_lstm_layer(form, reverse, bias, dtype, built, monkeypatch):
    if not built:
        monkeypatch.setattr("anynet_backends.machine.available", lambda: False)
    elif not machine.available():
        pytest.skip("needs the extra numba")
    steps, n, inputs, width = form
    rng = np.random.default_rng(0)
    shapes = [(steps, n, inputs), (n, width), (n, width), (4 * width, inputs), (4 * width, width)]
    shapes += [(4 * width,)] if bias else []
    data = [rng.normal(size=s).astype(dtype) for s in shapes]
    data[0] = np.moveaxis(
        np.ascontiguousarray(np.moveaxis(data[0], -1, 0)), 0, -1
    )  # as a layer below gives it
    gs = [rng.normal(size=s).astype(dtype) for s in ((steps, n, width), (n, width))]
    for a in (*data, *gs):
        a.flags.writeable = False
    xp, kernel = backend("numpy"), KERNELS["lstm_layer"]
    tensors = [an.asarray(a, requires_grad=True) for a in data]
    with use_kernels(False):
        expected = recurrent.lstm_layer(*tensors, reverse=reverse)
        an.sum(expected[0] * gs[0]).backward(retain_graph=True)
        an.sum(expected[1] * gs[1]).backward()
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype is np.float32 else {"rtol": 1e-11, "atol": 1e-13}
    for _ in range(2):
        alone = kernel(xp, *data, reverse=reverse, need=None)
        made, pull = kernel(xp, *data, reverse=reverse, need=(True,) * len(data))
        for y, again, like in zip(made, alone, expected, strict=True):
            assert (y.dtype, y.shape) == (dtype, like.shape)
            np.testing.assert_allclose(y, like.detach().numpy(), **tolerance)
            np.testing.assert_array_equal(again, y)
        for _ in range(2):  # as often as one asks
            grads = pull(tuple(gs))
            for g, t in zip(grads, tensors, strict=True):
                assert (g.dtype, g.shape) == (dtype, t.shape)
                np.testing.assert_allclose(g, t.grad.numpy(), **tolerance)
        assert pull(tuple(gs))[1:3][0].shape == (n, width)
    some = kernel(xp, *data, reverse=reverse, need=(False,) + (True,) * (len(data) - 1))[1](tuple(gs))
    assert some[0] is None
    np.testing.assert_array_equal(some[3], grads[3])


def test_which_batches_take_it(monkeypatch):
    """Small batches go step by step with the features along the rows."""
    xp = backend("numpy")
    seen = []

    def kernel(xp, *data, need, **options):
        seen.append(data[0].shape[1])
        return KERNELS["lstm_layer"](xp, *data, need=need, **options)

    kernel.vjp, kernel.least_batch = True, KERNELS["lstm_layer"].least_batch
    monkeypatch.setitem(xp.kernels, "lstm_layer", kernel)
    recurrent.lstm_layer._impl.clear()
    layer = an.nn.LSTM(3, 4)
    try:
        for n in (1, 15, 16, 40):
            layer(an.ones((5, n, 3)))
        with pytest.raises(TypeError, match="float64"):
            layer(an.ones((5, 40, 3), dtype="float64"))
    finally:
        recurrent.lstm_layer._impl.clear()
    assert seen == [16, 40]
