"""Reading images between pixels, and fractional pooling, against PyTorch."""

import itertools
import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from torch_oracle import torch


def draw(*shape, seed=0, spread=1.0):
    return np.random.default_rng(seed).normal(size=shape) * spread


def compare(ours, theirs, *arrays, tolerance=1e-9):
    a = [an.asarray(x, requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = ours(*a), theirs(*b)
    assert tuple(y.shape) == tuple(z.shape)
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = draw(*y.shape, seed=5)
    y.backward(an.asarray(g))
    z.backward(torch.tensor(g))
    for p, q in zip(a, b, strict=True):
        mine = (
            np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        )  # "nearest" does not depend on the grid
        assert np.allclose(mine, q.grad.numpy(), rtol=tolerance, atol=tolerance)


MODES = [
    *itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True))
]


@pytest.mark.parametrize(("mode", "padding", "align"), MODES)
@pytest.mark.parametrize(
    ("shape", "spread"), [((2, 3, 5, 4), 0.6), ((1, 1, 1, 1), 1.0), ((1, 2, 6, 3), 3.0), ((2, 1, 2, 7), 50.0)]
)
def test_grid_sample_of_images(mode, padding, align, shape, spread):
    x, grid = draw(*shape), draw(shape[0], 4, 3, 2, seed=1, spread=spread)
    compare(
        lambda x, g: F.grid_sample(x, g, mode, padding, align),
        lambda x, g: torch.nn.functional.grid_sample(x, g, mode, padding, align), x, grid, tolerance=1e-8,
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "padding", "align"), MODES)
@pytest.mark.parametrize("far", [math.inf, -math.inf, 2.5e38, -2.5e38, math.nan])
def test_grid_sample_far_away_and_nowhere(mode, padding, align, far):
    """NaN is −1, and what has no mirror image; else there are zeros far away, or the edge; and no gradient."""
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    x = an.asarray(draw(1, 2, 4, 3).astype(np.float32), requires_grad=True)
    grid = an.asarray(np.asarray([[[[far, 0.3], [0.3, far], [far, far]]]], np.float32), requires_grad=True)
    y = F.grid_sample(x, grid, **options)
    lost = math.isnan(far) or padding == "reflection"
    near = an.where(an.abs(grid) < 1.0, grid, -1.0 if lost else math.copysign(50.0, far)).detach()
    np.testing.assert_allclose(
        y.detach().numpy(), F.grid_sample(x, near, **options).detach().numpy(), atol=1e-5
    )
    an.sum(y).backward()
    assert np.isfinite(x.grad.numpy()).all()
    if mode != "nearest":
        place = grid.grad.numpy()[0, 0]
        assert np.isfinite(place).all()
        assert place[0, 0] == place[1, 1] == place[2, 0] == place[2, 1] == 0


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("last", [False, True])
def test_grid_sample_as_one_call_has_the_same_bits(mode, padding, last):
    """Whatever order in memory the gradient has."""
    rng = np.random.default_rng(0)
    x, grid = rng.normal(size=(2, 3, 4, 5)), rng.uniform(-1.3, 1.3, size=(2, 3, 2, 2))
    g = rng.normal(size=(2, 3, 3, 2)).astype(np.float32)
    if last:
        g = np.moveaxis(np.ascontiguousarray(np.moveaxis(g, 1, -1)), -1, 1)
    found = []
    for _ in range(30):
        a, b = (an.asarray(v.astype(np.float32), requires_grad=True) for v in (x, grid))
        y = F.grid_sample(a, b, mode, padding)
        y.backward(an.asarray(g))
        found.append([v.numpy() for v in (y, a.grad, *([b.grad] if mode != "nearest" else []))])
    for first, later in zip(found[0], found[-1], strict=True):
        np.testing.assert_array_equal(first, later)


@pytest.mark.parametrize(("mode", "padding", "align"), [m for m in MODES if m[0] != "bicubic"])
def test_grid_sample_of_volumes(mode, padding, align):
    x, grid = draw(2, 2, 3, 5, 4), draw(2, 2, 3, 2, 3, seed=1)
    compare(
        lambda x, g: F.grid_sample(x, g, mode, padding, align),
        lambda x, g: torch.nn.functional.grid_sample(x, g, mode, padding, align), x, grid,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Since version 1.3.0")
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 1, 1, 6), (2, 1, 2, 3, 4), (1, 1, 1, 1, 2)])
def test_affine_grid(align, size):
    theta = draw(size[0], len(size) - 2, len(size) - 1)
    compare(
        lambda t: F.affine_grid(t, size, align),
        lambda t: torch.nn.functional.affine_grid(t, list(size), align),
        theta,
    )


@pytest.mark.parametrize("options", [
    {"output_size": 3}, {"output_size": (4, 2)}, {"output_ratio": (0.5, 0.5)}, {"output_ratio": (0.7, 0.4)}, {"output_size": 1},
])  # fmt: skip
@pytest.mark.parametrize("kernel", [2, (3, 2), 1])
@pytest.mark.parametrize("batched", [True, False])
def test_fractional_pooling_of_images(options, kernel, batched):
    shape = (2, 3, 7, 8) if batched else (3, 7, 8)
    x, u = draw(*shape), np.random.default_rng(1).uniform(size=(2 if batched else 1, 3, 2))
    compare(
        lambda x: F.fractional_max_pool2d(x, kernel, **options, _random_samples=an.asarray(u)),
        lambda x: torch.nn.functional.fractional_max_pool2d(x, kernel, **options, _random_samples=torch.tensor(u)), x,
    )  # fmt: skip
    _, places = F.fractional_max_pool2d(
        an.asarray(x), kernel, **options, return_indices=True, _random_samples=an.asarray(u)
    )
    _, expected = torch.nn.functional.fractional_max_pool2d(
        torch.tensor(x), kernel, **options, return_indices=True, _random_samples=torch.tensor(u)
    )
    assert (places.numpy() == expected.numpy()).all()


@pytest.mark.parametrize(
    "options", [{"output_size": 3}, {"output_size": (2, 3, 4)}, {"output_ratio": (0.5, 0.6, 0.7)}]
)
def test_fractional_pooling_of_volumes(options):
    x, u = draw(2, 2, 5, 6, 7), np.random.default_rng(1).uniform(size=(2, 2, 3))
    compare(
        lambda x: F.fractional_max_pool3d(x, (2, 1, 3), **options, _random_samples=an.asarray(u)),
        lambda x: torch.nn.functional.fractional_max_pool3d(x, (2, 1, 3), **options, _random_samples=torch.tensor(u)), x,
    )  # fmt: skip


def test_windows_are_drawn_anew_and_repeatable():
    x = an.asarray(draw(1, 1, 30, 30))
    layer = nn.FractionalMaxPool2d(2, output_size=17)
    an.random.manual_seed(3)
    one, two = layer(x).numpy(), layer(x).numpy()
    an.random.manual_seed(3)
    assert (layer(x).numpy() == one).all()
    assert (one != two).any()


@pytest.mark.parametrize(("make", "match"), [
    (lambda: F.grid_sample(an.ones((1, 1, 2, 2)), an.ones((2, 1, 1, 2))), "input and grid must be"),
    (lambda: F.grid_sample(an.ones((1, 1, 2, 2)), an.ones((1, 1, 1, 2)), "cubic"), "mode must be"),
    (lambda: F.grid_sample(an.ones((1, 1, 2, 2, 2)), an.ones((1, 1, 1, 1, 3)), "bicubic"), "mode must be"),
    (lambda: F.grid_sample(an.ones((1, 1, 2, 2)), an.ones((1, 1, 1, 2)), padding_mode="wrap"), "padding_mode"),
    (lambda: F.affine_grid(an.ones((1, 2, 2)), (1, 1, 2, 2)), "theta must be"),
    (lambda: nn.FractionalMaxPool2d(2), "either"),
    (lambda: F.fractional_max_pool2d(an.ones((1, 1, 4, 4)), 3, output_size=3), "do not fit"),
    (lambda: F.fractional_max_pool2d(an.ones((1, 1, 4, 4)), 2, output_ratio=1.5), r"output_ratio must be in \(0, 1\)"),
    (lambda: F.fractional_max_pool2d(an.ones((1, 1, 4, 4)), 2, 2, _random_samples=an.ones((1, 2))), "_random_samples must have shape"),
])  # fmt: skip
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()
