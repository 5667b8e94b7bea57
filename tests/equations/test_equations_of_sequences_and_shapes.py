"""Attention, transformers, embeddings, dropout, shuffles and resampling against their equations."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from equations.equation_checks import agrees, normal

double = {"dtype": an.float64}


def test_linear_maps():
    x = normal(2, 5, 3)
    agrees(nn.Linear(3, 4, **double), x)
    agrees(nn.Linear(3, 4, bias=False, **double), x)
    agrees(F.linear, x, normal(4, 3), normal(4))
    agrees(nn.Bilinear(3, 2, 4, **double), x, normal(2, 5, 2))
    agrees(F.bilinear, x, normal(2, 5, 2), normal(4, 3, 2))
    agrees(nn.Maxout(3, 4, 2, **double), x)
    agrees(nn.Highway(3, **double), x)
    agrees(nn.Identity(), x)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": normal(4, 5)}])
def test_attention(options):
    agrees(
        F.scaled_dot_product_attention, normal(2, 3, 4, 6), normal(2, 3, 5, 6), normal(2, 3, 5, 2), **options
    )


LEFT = (
    np.arange(5) < np.asarray([[[4]], [[2]], [[0]]])[:, None]
)  # of each example so many keys; of the last none


@pytest.mark.parametrize(
    "mask", [normal(2, 5) > 0, normal(3, 2, 4, 5) > 0, LEFT, normal(3, 1, 1, 5), normal(4, 1)]
)
def test_masked_attention(mask):
    q = normal(3, 2, 4, 6) if mask.shape[0] != 2 else normal(3, 2, 2, 6)
    agrees(
        F.scaled_dot_product_attention, q, normal(3, 2, 5, 6), normal(3, 2, 5, 2), attn_mask=mask, scale=0.4
    )


@pytest.mark.parametrize("padding", [None, normal(2, 5), np.arange(5) >= np.asarray([[3], [0]])])
@pytest.mark.parametrize(
    "mask", [None, normal(3, 5), normal(4, 3, 5), normal(3, 5) > 0, normal(4, 3, 5) > 0.5]
)
def test_masked_heads(mask, padding):
    if mask is not None and padding is not None and mask.dtype != padding.dtype:
        return  # refused
    layer = nn.MultiheadAttention(4, 2, **double)
    masks = {k: v for k, v in (("attn_mask", mask), ("key_padding_mask", padding)) if v is not None}
    agrees(layer, normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4), **masks)
    one = {k: v[0] if v.ndim > 2 or k == "key_padding_mask" else v for k, v in masks.items()}
    if mask is None or mask.ndim == 2:
        agrees(layer, normal(3, 4), normal(5, 4), normal(5, 4), **one)


@pytest.mark.parametrize(
    "options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"add_bias_kv": True, "add_zero_attn": True}]
)
def test_heads_with_more_keys(options):
    layer = nn.MultiheadAttention(4, 2, **options, **double)
    inputs = normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4)
    for masks in (
        {},
        {"attn_mask": normal(3, 5)},
        {"attn_mask": normal(4, 3, 5) > 0, "key_padding_mask": ~LEFT[:2, 0, 0]},
    ):
        agrees(layer, *inputs, **masks)


def test_causal_heads():
    hidden = np.triu(np.ones((4, 4), dtype=bool), 1)
    agrees(nn.MultiheadAttention(4, 2, **double), *[normal(4, 2, 4)] * 3, attn_mask=hidden, is_causal=True)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"kdim": 3, "vdim": 2}, {"bias": False}])
def test_heads(options):
    layer = nn.MultiheadAttention(4, 2, **options, **double)
    k, v = options.get("kdim", 4), options.get("vdim", 4)
    inputs = normal(3, 2, 4), normal(5, 2, k), normal(5, 2, v)
    if options.get("batch_first"):
        inputs = tuple(np.moveaxis(x, 0, 1).copy() for x in inputs)

    def turned(value):
        return (
            np.moveaxis(value.numpy(), 0, 1)
            if options.get("batch_first") and value.shape == (2, 3, 4)
            else value
        )

    agrees(layer, *inputs, out=turned)
    agrees(layer, *inputs, attn_mask=normal(3, 5), out=turned)


def test_shared_heads():
    layer = nn.GroupQueryAttention(8, num_query_heads=4, num_key_value_heads=2, **double)
    agrees(layer, normal(2, 3, 8), normal(2, 3, 8), normal(2, 3, 8), is_causal=True)
    agrees(layer, normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 8))
    for mask in (normal(3, 5), normal(4, 3, 5), normal(2, 1, 3, 5) > 0, normal(2, 4, 3, 5), normal(1, 5) > 0):
        agrees(layer, normal(2, 3, 8), normal(2, 5, 8), normal(2, 5, 8), attn_mask=mask)
    turned = nn.GroupQueryAttention(8, 4, 2, rope=nn.RoPE(2), **double)
    agrees(turned, normal(2, 3, 8), normal(2, 3, 8), normal(2, 3, 8), is_causal=True)


@pytest.mark.parametrize(
    "options", [{}, {"is_causal": True}, {"attn_mask": normal(4, 5)}, {"attn_mask": normal(6, 1, 5) > 0}]
)
def test_attention_with_fewer_heads_of_keys(options):
    inputs = normal(2, 6, 4, 3), normal(2, 3, 5, 3), normal(2, 3, 5, 2)
    agrees(F.scaled_dot_product_attention, *inputs, enable_gqa=True, **options)
    agrees(F.scaled_dot_product_attention, *(x[0, 0] for x in inputs))  # without any


def test_attention_with_dropout():
    """Which weights are dropped is seen where the values are the identity: then the results are the weights."""
    q, k, v = (an.asarray(normal(2, 4, 5, 3, seed=i), requires_grad=True) for i in range(3))
    for options in ({}, {"is_causal": True}):
        an.random.manual_seed(3)
        kept = F.scaled_dot_product_attention(
            q, k, an.eye(5, dtype="float64") + an.zeros((2, 4, 5, 5)), dropout_p=0.4, **options
        )
        an.random.manual_seed(3)
        agrees(
            F.scaled_dot_product_attention, q.numpy(), k.numpy(), v.numpy(), dropout_p=0.4,
            given={"d": (kept.numpy() != 0).astype(float)}, **options,
        )  # fmt: skip


def test_heads_with_dropout():
    inputs = [normal(5, 2, 4, seed=i) for i in range(3)]
    layer = nn.MultiheadAttention(4, 2, dropout=0.4, **double)
    an.random.manual_seed(3)
    weights = layer(*map(an.asarray, inputs), average_attn_weights=False)[1]
    an.random.manual_seed(3)
    agrees(layer, *inputs, given={"z": (weights.numpy() != 0).astype(float)})
    agrees(layer.eval(), *inputs)


@pytest.mark.parametrize("norm_first", [False, True])
def test_transformers(norm_first):
    options = {"dim_feedforward": 6, "norm_first": norm_first, **double}
    agrees(nn.TransformerEncoderLayer(4, 2, **options).eval(), normal(5, 2, 4))
    agrees(
        nn.TransformerDecoderLayer(4, 2, activation="gelu", **options).eval(),
        normal(3, 2, 4),
        normal(5, 2, 4),
    )
    agrees(nn.Transformer(4, 2, 2, 1, **options).eval(), normal(5, 2, 4), normal(3, 2, 4))
    agrees(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, **options), 2).eval(), normal(5, 2, 4))


def test_positions():
    x = normal(2, 3, 5, 6)
    for options in ({}, {"traditional": True, "scale": 0.5, "base": 100.0}):
        for dims in (4, 6):
            agrees(nn.RoPE(dims, **options), x, offset=2)
    agrees(nn.ALiBi(), x, offset=1)
    agrees(nn.SinusoidalPositionalEncoding(6), np.abs(normal(2, 3)) * 4)
    agrees(nn.SinusoidalPositionalEncoding(6, cos_first=True, full_turns=True), np.abs(normal(2, 3)) * 4)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_rows_of_tables(mode):
    index = np.asarray([[0, 2, 2], [3, 1, 0]])
    agrees(nn.Embedding(4, 3, **double), index)
    agrees(F.embedding, index, normal(4, 3))
    agrees(nn.EmbeddingBag(4, 3, mode=mode, **double), index)
    agrees(
        F.embedding_bag,
        index,
        normal(4, 3),
        mode=mode,
        per_sample_weights=normal(2, 3) if mode == "sum" else None,
    )
    agrees(F.one_hot, index, num_classes=5)
    agrees(nn.Embedding(4, 3, padding_idx=-1, **double), index)


@pytest.mark.parametrize("padding", [None, 2, -1])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode, padding):
    index, offsets = np.asarray([0, 2, 2, 3, 1, 3]), np.asarray([0, 2, 2, 5])  # the second is empty
    options = {"mode": mode, "padding_idx": padding}
    weights = {"per_sample_weights": normal(6)} if mode == "sum" else {}
    agrees(F.embedding_bag, index, normal(4, 3), offsets, **weights, **options)
    agrees(F.embedding_bag, index, normal(4, 3), np.asarray([0, 2, 6]), include_last_offset=True, **options)
    agrees(F.embedding_bag, np.asarray([[0, 2], [3, 3]]), normal(4, 3), **options)
    agrees(nn.EmbeddingBag(4, 3, **options, **double), index, offsets)
    agrees(nn.EmbeddingBag(4, 3, include_last_offset=True, **options, **double), index, offsets)


def masks(x, value=0.0):
    return lambda y: {"m": np.where(np.isclose(y.numpy(), value), 0.0, 1.0)}


@pytest.mark.parametrize("training", [True, False])
def test_dropout(training):
    x = normal(4, 5) + 5
    agrees(nn.Dropout(0.3).train(training), x, given=masks(x))
    agrees(F.dropout, x, 0.3, training, given=masks(x))
    spatial = normal(2, 3, 4) + 5
    agrees(nn.Dropout1d(0.4).train(training), spatial, given=lambda y: {"m": (y.numpy()[..., 0] != 0) * 1.0})
    agrees(
        F.dropout2d,
        normal(2, 3, 4, 2) + 5,
        0.4,
        training,
        given=lambda y: {"m": (y.numpy()[..., 0, 0] != 0) * 1.0},
    )

    def saturated(y):  # the value that dropped elements take
        p, s = 0.3, -1.7580993408473766
        a = ((1 - p) * (1 + p * s * s)) ** -0.5
        return np.isclose(y.numpy(), a * s * (1 - p))

    agrees(nn.AlphaDropout(0.3).train(training), x, given=lambda y: {"m": 1.0 - saturated(y)})
    agrees(
        nn.FeatureAlphaDropout(0.3).train(training),
        spatial,
        given=lambda y: {"m": 1.0 - saturated(y)[..., 0]},
    )
    agrees(nn.GaussianNoise(0.3).train(training), x, given=lambda y: {"ε": (y.numpy() - x) / 0.3})
    agrees(nn.GaussianDropout(0.2).train(training), x, given=lambda y: {"ε": (y.numpy() / x - 1) / 0.5})


def test_rearranged_elements():
    agrees(nn.Flatten(), normal(2, 3, 4))
    agrees(nn.Unflatten(1, (2, 3)), normal(4, 6))
    agrees(nn.PixelShuffle(2), normal(2, 8, 3, 4))
    agrees(nn.PixelUnshuffle(2), normal(2, 2, 4, 6))
    agrees(nn.ChannelShuffle(3), normal(2, 6, 4, 2))
    options = {"kernel_size": (2, 3), "dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)}
    agrees(nn.Unfold(**options), normal(2, 3, 5, 7))
    agrees(F.unfold, normal(2, 3, 5, 7), **options)
    agrees(nn.Fold((5, 7), **options), normal(2, 18, 9))
    for mode in ("constant", "reflect", "replicate", "circular"):
        agrees(F.pad, normal(2, 5), (2, 1), mode=mode)
    agrees(F.pad, normal(2, 5), (2, -1), value=3.0)


def test_resampling():
    for x in (normal(1, 2, 5), normal(1, 2, 3, 4), normal(1, 2, 3, 2, 4)):
        agrees(nn.Upsample(size=(5, 7, 6)[: x.ndim - 2]), x, axes=x.ndim - 2)
        agrees(nn.Upsample(scale_factor=2.0), x, axes=x.ndim - 2)
        agrees(F.upsample, x, size=4, axes=x.ndim - 2)
    agrees(nn.UpsamplingNearest2d(scale_factor=2.0), normal(1, 2, 3, 4))
    agrees(nn.UpsamplingNearest2d(scale_factor=2.3), normal(1, 2, 3, 4))
    agrees(nn.UpsamplingBilinear2d(size=(5, 7)), normal(1, 2, 3, 4))
    for align in (True, False):
        theta = normal(2, 2, 3)
        agrees(F.affine_grid, theta, size=(2, 1, 3, 4), align_corners=align)


@pytest.mark.parametrize("how", [{"size": 3}, {"size": 7}, {"scale_factor": 0.6}, {"scale_factor": 2.3},
                                 {"scale_factor": 1.7, "recompute_scale_factor": True}])  # fmt: skip
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "area", "linear", "bicubic"])
def test_modes_of_interpolation(mode, how):
    for axes, shape in enumerate([(1, 2, 5), (1, 2, 4, 6), (1, 1, 3, 4, 5)], 1):
        named = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes] if mode == "linear" else mode
        if mode == "bicubic" and axes != 2:
            continue
        for align in (None, True) if mode in ("linear", "bicubic") else (None,):
            agrees(F.interpolate, normal(*shape), mode=named, align_corners=align, axes=axes, **how)
            agrees(nn.Upsample(mode=named, align_corners=align, **how), normal(*shape), axes=axes)
        if axes == 2 and mode in ("linear", "bicubic"):
            agrees(F.interpolate, normal(*shape), mode=named, antialias=True, axes=axes, **how)


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_places_in_images(mode, padding, align):
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    for scale in (0.6, 3.0):
        agrees(F.grid_sample, normal(2, 3, 4, 5), normal(2, 2, 3, 2) * scale, axes=2, **options)
        agrees(F.grid_sample, normal(2, 1, 1, 5), normal(2, 2, 3, 2) * scale, axes=2, **options)
        if mode != "bicubic":
            agrees(F.grid_sample, normal(1, 2, 3, 4, 2), normal(1, 2, 2, 3, 3) * scale, axes=3, **options)


def test_sampled_classes():
    samples = np.asarray([[0, 2], [1, 1], [2, 0]])
    for layer in (nn.NegativeSampling(4, [1, 2, 3], 2, **double), nn.NCELoss(4, [1, 2, 3], 2, **double)):
        an.nn.init.normal_(layer.weight)
        for reduction in ("sum", "mean", "none"):
            agrees(layer, normal(3, 4), np.asarray([0, 1, 2]), reduction=reduction, samples=samples)


def test_graphs():
    matrix = np.asarray([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0], [0.3, 0.0, 2.0]])
    for options in ({}, {"improved": True}, {"normalize": False}, {"bias": False, "add_self_loops": False}):
        layer = nn.GCNConv(4, 2, **options, **double)
        agrees(
            layer, normal(3, 4), matrix, gradient=False
        )  # an edge that is not there has no gradient in the code
        agrees(layer, normal(3, 4), np.abs(normal(3, 3)) + 0.1)
    for options in ({}, {"heads": 2}, {"heads": 2, "concat": False}, {"add_self_loops": False}):
        agrees(nn.GATConv(4, 2, **options, **double), normal(3, 4), matrix)
