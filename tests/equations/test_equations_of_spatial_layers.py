"""Convolutions, pooling, normalization and padding against their equations, in one, two and three dimensions."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from equations.equation_checks import agrees, normal

SHAPES = {1: (2, 4, 7), 2: (2, 4, 5, 6), 3: (1, 2, 4, 3, 4)}
AXES = (1, 2, 3)
double = {"dtype": an.float64}


def of_axes(family, name, axes):
    return getattr(family, f"{name}{axes}d")


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}, {"padding": 2, "stride": 3}]
)
@pytest.mark.parametrize("axes", AXES)
def test_convolution(axes, options):
    groups = options.get("groups", 1)
    x = normal(*SHAPES[axes])
    kernel = (2,) * axes
    agrees(of_axes(F, "conv", axes), x, normal(4, x.shape[1] // groups, *kernel), normal(4), **options)
    layer = of_axes(nn, "Conv", axes)(x.shape[1], 4, 2, **options, **double)
    agrees(layer, x)
    agrees(layer, x[0])


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "zeros"])
@pytest.mark.parametrize("padding", ["same", "valid", 2])
def test_what_stands_outside(mode, padding):
    agrees(nn.Conv1d(4, 3, 4, padding=padding, padding_mode=mode, **double), normal(2, 4, 7))
    agrees(
        nn.Conv2d(4, 3, (2, 3), padding=padding, padding_mode=mode, bias=False, **double), normal(2, 4, 5, 6)
    )


def test_convolution_with_an_option_for_each_axis():
    agrees(
        nn.Conv2d(4, 3, (2, 3), stride=(1, 2), padding=(0, 1), dilation=(2, 1), **double), normal(2, 4, 5, 6)
    )
    agrees(F.conv_tbc, normal(5, 2, 3), normal(2, 3, 4), normal(4), pad=1)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": 2, "groups": 2}]
)
@pytest.mark.parametrize("axes", AXES)
def test_transposed_convolution(axes, options):
    groups = options.get("groups", 1)
    x = normal(*SHAPES[axes][:2], *(3,) * axes)
    agrees(
        of_axes(F, "conv_transpose", axes),
        x,
        normal(x.shape[1], 4 // groups, *(2,) * axes),
        normal(4),
        **options,
    )
    agrees(of_axes(nn, "ConvTranspose", axes)(x.shape[1], 4, 2, **options, **double), x)


@pytest.mark.parametrize("axes", AXES)
def test_separable_convolution(axes):
    layer = of_axes(nn, "SeparableConv", axes)(SHAPES[axes][1], 3, 2, padding=1, depth_multiplier=2, **double)
    agrees(layer, normal(*SHAPES[axes]))


WINDOWS = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
]  # fmt: skip


@pytest.mark.parametrize("options", WINDOWS)
@pytest.mark.parametrize("axes", AXES)
def test_windows(axes, options):
    x = normal(*SHAPES[axes])
    for more in ({}, {"dilation": 2}) if axes < 3 else ({},):
        agrees(of_axes(F, "max_pool", axes), x, **options, **more)
        agrees(of_axes(nn, "MaxPool", axes)(**options, **more), x)
    for more in ({}, {"count_include_pad": False}, *([{"divisor_override": 3}] if axes > 1 else [])):
        agrees(of_axes(F, "avg_pool", axes), x, **options, **more)
        agrees(of_axes(nn, "AvgPool", axes)(**options, **more), x)
    options = {k: v for k, v in options.items() if k != "padding"}
    agrees(of_axes(F, "lp_pool", axes), np.abs(x), norm_type=3.0, **options)
    agrees(of_axes(nn, "LPPool", axes)(3.0, **options), np.abs(x))


@pytest.mark.parametrize("axes", AXES)
def test_bins(axes):
    x = normal(*SHAPES[axes])
    for size in (2, 3, (None, 2, 3)[3 - axes :]):
        for function, layer in (
            ("adaptive_avg_pool", "AdaptiveAvgPool"),
            ("adaptive_max_pool", "AdaptiveMaxPool"),
        ):
            agrees(of_axes(F, function, axes), x, size)
            agrees(of_axes(nn, layer, axes)(size), x)
    agrees(of_axes(nn, "GlobalAvgPool", axes)(), x)
    agrees(of_axes(nn, "GlobalMaxPool", axes)(), x[0])


@pytest.mark.parametrize("axes", AXES)
def test_unpooling(axes):
    pooled, indices = of_axes(F, "max_pool", axes)(an.asarray(normal(*SHAPES[axes])), 2, return_indices=True)
    inputs = pooled.numpy(), indices.numpy()
    agrees(of_axes(F, "max_unpool", axes), *inputs, kernel_size=2)
    agrees(of_axes(nn, "MaxUnpool", axes)(2), *inputs)
    agrees(of_axes(nn, "MaxUnpool", axes)(2), *inputs, output_size=SHAPES[axes][2:])


@pytest.mark.parametrize("axes", [2, 3])
def test_fractional_pooling(axes):
    x = normal(*SHAPES[axes])
    samples = np.random.default_rng(0).random((*x.shape[:2], axes))
    order = (1, 0) if axes == 2 else range(3)  # as PyTorch draws them
    drawn = {f"u{k + 1}": samples[..., a] for k, a in enumerate(order)}
    agrees(
        of_axes(F, "fractional_max_pool", axes),
        x,
        2,
        output_size=2,
        _random_samples=an.asarray(samples),
        given=drawn,
    )
    agrees(
        of_axes(nn, "FractionalMaxPool", axes)(2, output_ratio=0.5, _random_samples=an.asarray(samples)),
        x,
        given=drawn,
    )


@pytest.mark.parametrize("axes", AXES)
def test_normalization(axes):
    x = normal(*SHAPES[axes]) if axes < 3 else normal(2, 2, 4, 3, 4)
    c = x.shape[1]
    layer = of_axes(nn, "BatchNorm", axes)(c, eps=0.1, **double)
    agrees(layer, x)
    agrees(layer.eval(), x)
    agrees(of_axes(nn, "BatchNorm", axes)(c, track_running_stats=False, affine=False, **double).eval(), x)
    agrees(of_axes(nn, "InstanceNorm", axes)(c, affine=True, **double), x)
    agrees(of_axes(nn, "InstanceNorm", axes)(c, **double).eval(), x[0])
    tracking = of_axes(nn, "InstanceNorm", axes)(c, track_running_stats=True, **double)
    agrees(tracking, x)
    agrees(tracking.eval(), x)
    agrees(nn.SyncBatchNorm(c, **double), x)
    agrees(nn.GroupNorm(2, c, **double), x)


def test_normalization_of_rows():
    x = normal(3, 4, 5)
    agrees(nn.BatchNorm1d(4, **double), x[:, :, 0])
    for shape in (5, (4, 5)):
        agrees(nn.LayerNorm(shape, **double), x)
        agrees(nn.LayerNorm(shape, elementwise_affine=False), x)
        agrees(nn.RMSNorm(shape, **double), x)
        agrees(nn.RMSNorm(shape, eps=0.1, elementwise_affine=False), x)
        size = (5,) if shape == 5 else shape
        agrees(F.layer_norm, x, size, normal(*size), normal(*size))
        agrees(F.rms_norm, x, size, normal(*size), 0.2)
    agrees(F.group_norm, x, 2, normal(4), normal(4))
    agrees(F.instance_norm, x, None, None, normal(4), normal(4))
    agrees(F.batch_norm, x, normal(4), np.abs(normal(4)), normal(4), normal(4))
    agrees(F.batch_norm, x, None, None, normal(4), normal(4), training=True)
    agrees(F.normalize, x, p=3.0, dim=1)
    agrees(nn.UnitNorm(), x)
    agrees(nn.UnitNorm(0), x)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_response_normalization(size):
    x = normal(2, 6, 3, 3)
    agrees(nn.LocalResponseNorm(size, alpha=0.3, k=2.0), x)
    agrees(F.local_response_norm, x, size, alpha=0.5)
    agrees(nn.CrossMapLRN2d(size, alpha=0.3), x)


@pytest.mark.parametrize("axes", AXES)
def test_padding(axes):
    x = normal(*SHAPES[axes])
    for padding in (1, tuple(range(2 * axes))[::-1] if axes == 1 else (2, 1, 0, 2, 1, 1)[: 2 * axes]):
        for kind in ("Zero", "Reflection", "Replication", "Circular"):
            agrees(of_axes(nn, f"{kind}Pad", axes)(padding), x)
        agrees(of_axes(nn, "ConstantPad", axes)(padding, 2.5), x[0])
