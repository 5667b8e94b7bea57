"""Functions that give views: what skips most of a call must give what the whole call gives."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.dispatch import bind
from anynet.autograd.primitive import PRIMITIVES, ViewPrimitive

VIEWS = {
    "reshape": {"shape": (4, 6)},
    "permute_dims": {"axes": (2, 0, 1)},
    "flip": {"axis": (0, 2)},
    "getitem": {"key": (slice(None), 1, slice(0, 4, 2))},
    "broadcast_to": {"shape": (5, 2, 3, 4)},
    "matrix_transpose": {},
}


def test_all_views_are_here():
    assert set(VIEWS) == {name for name, prim in PRIMITIVES.items() if isinstance(prim, ViewPrimitive)}


@pytest.mark.parametrize("name", list(VIEWS))
def test_a_view_is_what_the_whole_call_gives(name, xp_device):
    prim, meta = PRIMITIVES[name], VIEWS[name]
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = []
    for call in (prim.bind, lambda args, meta: bind(prim, args, meta)):
        x = an.asarray(a, device=xp_device, requires_grad=True)
        y = call((x,), meta)
        g = an.grad(lambda y: an.sum(y**3))(y.detach())
        y.backward(g)
        assert y.edge.prim is prim
        found.append((y.numpy(), x.grad.numpy()))
        with an.no_grad():
            assert call((x,), meta).edge is None
        plain = call((x.data,), meta)
        assert type(plain) is type(x.data)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", list(VIEWS))
def test_views_are_differentiated_twice(name):
    prim, meta = PRIMITIVES[name], VIEWS[name]
    x = an.asarray(np.linspace(-1, 1, 24).reshape(2, 3, 4), requires_grad=True)
    assert an.gradgradcheck(lambda x: prim(x, **meta) ** 3, x)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda x: an.reshape(x, (5, 5)), ValueError, "reshape"),
        (lambda x: an.permute_dims(x, (0, 0, 1)), ValueError, "twice"),
        (lambda x: an.broadcast_to(x, (7, 3, 4)), ValueError, "broadcast"),
        (lambda x: x[0, 0, 0, 0], IndexError, "too many indices: 4"),
        (lambda x: x[..., 9], IndexError, "out of bounds"),
        (lambda x: x[..., ...], IndexError, "ellipsis"),
    ],
)
def test_what_is_wrong_is_said(call, kind, words):
    x = an.asarray(np.zeros((2, 3, 4)))
    with pytest.raises(kind, match=words):
        call(x)


KEYS = [
    None, ..., 1, -1, slice(None), slice(1, None, 2), (0, 1, 2), (None, 1), (..., None), (slice(None), None, ..., 2), (1, None, 2, None),
    (..., slice(None, None, 3)), (None, None, slice(0, 0)), (),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_keys(key, xp_device):
    a = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    x = an.asarray(a, device=xp_device)
    y = x[key]
    assert isinstance(y, an.Tensor)
    np.testing.assert_array_equal(y.numpy(), a[key])
    x.requires_grad = True
    z = x[key]
    np.testing.assert_array_equal(z.numpy(), a[key])
    an.sum(z * z).backward()
    want = np.zeros_like(a)
    want[key] = 2 * a[key]
    np.testing.assert_array_equal(x.grad.numpy(), want)


def test_a_key_of_a_vector_gives_a_tensor_of_its_own():
    x = an.asarray([1.0, 2.0])
    y = x[(1,)]
    assert y.shape == ()
    x[1] = 5.0
    assert float(y) == 2.0


def test_tables_outside_of_a_compiled_function():
    table, index = an.Parameter(np.arange(16.0).reshape(4, 4)), an.Buffer(np.asarray([3, -1, 0]))

    def f(x, i):
        return an.sum(table[index, :3] * x) + an.sum(table[i, index])

    x, i = an.asarray([1.0, 2.0, 3.0], dtype="float64"), an.asarray([0, 1, -2])
    want, compiled = f(x, i), an.compile(f)
    for _ in range(2):
        assert float(compiled(x, i)) == float(want)
    i = an.asarray([2, 2, 2])
    assert float(compiled(x, i)) == float(f(x, i))
