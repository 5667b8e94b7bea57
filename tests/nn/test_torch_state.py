"""Weights that PyTorch saved as safetensors load unchanged: the same outputs, gradients and running statistics."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import torch

save_file = pytest.importorskip("safetensors.torch", reason="needs safetensors").save_file

LIMITS = {"float64": 1e-10, "float32": 1e-5}  # norm-wise

# name of the layer, its arguments, keywords, shapes of the inputs
CASES = [
    ("Linear", (5, 3), {}, [(4, 5)]),
    ("Linear", (5, 3), {"bias": False}, [(2, 4, 5)]),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}, [(2, 4, 11)]),
    ("Conv2d", (3, 5, 3), {"padding": "same"}, [(2, 3, 7, 6)]),
    ("Conv2d", (3, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 3, "bias": False}, [(2, 3, 7, 6)]),
    ("Conv2d", (2, 4, 3), {"padding": 1, "padding_mode": "reflect"}, [(2, 2, 5, 5)]),
    ("MaxPool2d", (2,), {}, [(2, 3, 6, 6)]),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, [(2, 3, 7, 7)]),
    ("AdaptiveAvgPool2d", (3,), {}, [(2, 3, 7, 5)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 3, 7)]),
    ("BatchNorm1d", (4,), {"momentum": 0.3}, [(6, 4)]),
    ("BatchNorm1d", (4,), {"affine": False}, [(6, 4, 3)]),
    ("BatchNorm2d", (3,), {"eps": 1e-3}, [(4, 3, 5, 5)]),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, [(4, 3, 5, 5)]),
    ("LayerNorm", ((4, 3),), {}, [(5, 4, 3)]),
    ("LayerNorm", (3,), {"elementwise_affine": False}, [(5, 4, 3)]),
    ("GroupNorm", (2, 4), {}, [(3, 4, 5)]),
    ("Flatten", (), {}, [(3, 4, 5)]),
    *(
        (name, (), {}, [(3, 4)])
        for name in ("Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus")
    ),
    ("GELU", (), {"approximate": "tanh"}, [(3, 4)]),
    ("Softmax", (1,), {}, [(3, 4)]),
    ("LogSoftmax", (1,), {}, [(3, 4)]),
    *(
        (name, (3, 4), options, [(5, 2, 3)])
        for name in ("RNN", "LSTM", "GRU")
        for options in (
            {},
            {"num_layers": 2, "bidirectional": True},
            {"num_layers": 3, "bias": False},
            {"bidirectional": True},
        )
    ),
    ("RNN", (3, 4), {"nonlinearity": "relu", "num_layers": 2}, [(5, 2, 3)]),
    *((name, (3, 4), {"batch_first": True, "num_layers": 2}, [(2, 5, 3)]) for name in ("RNN", "LSTM", "GRU")),
    *((name, (3, 4), {"bidirectional": True}, [(5, 3)]) for name in ("RNN", "LSTM", "GRU")),
    *((name, (3, 4), {"num_layers": 2}, [(5, 2, 3), (2, 2, 4)]) for name in ("RNN", "GRU")),
    *((name, (3, 4), {}, [(1, 1, 3), (1, 1, 4)]) for name in ("RNN", "GRU")),
    ("LSTM", (3, 4), {"proj_size": 2, "num_layers": 2, "bidirectional": True}, [(5, 2, 3)]),
    ("RNNCell", (3, 4), {"nonlinearity": "relu"}, [(2, 3), (2, 4)]),
    ("RNNCell", (3, 4), {"bias": False}, [(3,)]),
    ("LSTMCell", (3, 4), {}, [(2, 3)]),
    ("GRUCell", (3, 4), {}, [(2, 3), (2, 4)]),
    ("GRUCell", (3, 4), {"bias": False}, [(3,), (4,)]),
    ("MultiheadAttention", (6, 2), {}, [(4, 3, 6), (5, 3, 6), (5, 3, 6)]),
    ("MultiheadAttention", (6, 3), {"bias": False, "batch_first": True}, [(3, 4, 6), (3, 5, 6), (3, 5, 6)]),
    ("MultiheadAttention", (6, 2), {"kdim": 3, "vdim": 5}, [(4, 2, 6), (5, 2, 3), (5, 2, 5)]),
    ("MultiheadAttention", (6, 2), {"add_bias_kv": True, "add_zero_attn": True}, [(4, 2, 6), (5, 2, 6), (5, 2, 6)]),
    ("MultiheadAttention", (6, 2), {}, [(4, 6), (5, 6), (5, 6)]),
]  # fmt: skip


def leaves(tree):
    if isinstance(tree, (tuple, list)):
        return [x for item in tree for x in leaves(item)]
    return [tree] if tree is not None else []


def close(got, want, limit, what):
    want = want.detach().numpy()
    assert got.dtype.name == str(want.dtype), what
    assert tuple(got.shape) == want.shape, what
    scale = np.linalg.norm(want)
    assert np.linalg.norm(got.detach().numpy() - want) <= limit * (scale if scale > limit else 1.0), what


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("name", "args", "options", "shapes"), CASES, ids=lambda x: str(x).replace(" ", ""))
def test_layer(name, args, options, shapes, dtype, tmp_path):
    torch.manual_seed(0)
    native = getattr(torch, dtype)
    theirs = getattr(torch.nn, name)(*args, **options).to(native)
    with torch.no_grad():
        for p in theirs.parameters():  # no zeros and ones that hide a mistake
            p.add_(torch.randn_like(p) * 0.2)
    save_file(theirs.state_dict(), tmp_path / "layer.safetensors")
    ours = getattr(nn, name)(*args, **options, **({"dtype": dtype} if list(theirs.parameters()) else {}))
    if dtype == "float64":
        ours.to(an.float64)
    ours.load_state_dict(an.load(tmp_path / "layer.safetensors"))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    rng = np.random.default_rng(1)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
        mine = [an.asarray(a, requires_grad=True) for a in arrays]
        other = [torch.tensor(a, requires_grad=True) for a in arrays]
        ys, zs = leaves(ours(*mine)), leaves(theirs(*other))
        assert len(ys) == len(zs)
        gs = [rng.standard_normal(tuple(z.shape)).astype(dtype) for z in zs]
        sum(an.sum(y * an.asarray(g)) for y, g in zip(ys, gs, strict=True)).backward()
        sum((z * torch.tensor(g)).sum() for z, g in zip(zs, gs, strict=True)).backward()
        limit = LIMITS[dtype]
        for i, (y, z) in enumerate(zip(ys, zs, strict=True)):
            close(y, z, limit, f"output {i}")
        for i, (a, b) in enumerate(zip(mine, other, strict=True)):
            close(a.grad, b.grad, limit, f"gradient of input {i}")
        mine_by_name = dict(ours.named_parameters())
        for key, p in theirs.named_parameters():
            close(mine_by_name[key].grad, p.grad, limit, f"gradient of {key}")
            mine_by_name[key].grad = p.grad = None
        for key, b in theirs.named_buffers():
            close(ours.state_dict()[key], b, limit, key)


def test_a_whole_network(tmp_path):
    def build(n):
        return n.Sequential(
            n.Conv2d(1, 4, 3), n.BatchNorm2d(4), n.ReLU(), n.MaxPool2d(2), n.Flatten(), n.Linear(4 * 3 * 3, 8),
            n.LayerNorm(8), n.GELU(), n.Linear(8, 3),
        )  # fmt: skip

    theirs = build(torch.nn).double()
    save_file(theirs.state_dict(), tmp_path / "net.safetensors")
    ours = build(nn).to(an.float64)
    ours.load_state_dict(an.load(tmp_path / "net.safetensors"))
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8))
    y = [0, 1, 2, 1, 0]
    loss = an.losses.cross_entropy(ours(an.asarray(x)), an.asarray(y))
    other = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(y))
    loss.backward(), other.backward()
    close(loss, other, 1e-10, "loss")
    for (key, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        # a bias before batch normalisation has no effect: its gradient is rounding noise
        if key != "0.bias":
            close(q.grad, p.grad, 1e-10, key)


MASKS = ["none", "boolean", "added", "per head", "padding", "both", "causal"]


@pytest.mark.parametrize("weights", [True, False], ids=["weights", "no weights"])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_multihead_attention(mask, weights):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(6, 2, batch_first=True).double()
    ours = nn.MultiheadAttention(6, 2, batch_first=True, dtype="float64")
    ours.load_state_dict({k: an.asarray(v.numpy()) for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 5, 6))
    hide = rng.random((5, 5)) < 0.4
    hide[:, 0] = False
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    options = {
        "none": {},
        "boolean": {"attn_mask": hide},
        "added": {"attn_mask": rng.standard_normal((5, 5))},
        "per head": {"attn_mask": rng.standard_normal((6, 5, 5))},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": hide, "key_padding_mask": padding},
        "causal": {"attn_mask": np.triu(np.ones((5, 5), bool), 1)},
    }[mask]
    flags = {
        "need_weights": weights,
        "average_attn_weights": mask != "boolean",
        "is_causal": mask == "causal",
    }
    a, b = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, w = ours(a, a, a, **{k: an.asarray(v) for k, v in options.items()}, **flags)
    z, u = theirs(b, b, b, **{k: torch.tensor(v) for k, v in options.items()}, **flags)
    g = rng.standard_normal(z.shape)
    y.backward(an.asarray(g)), z.backward(torch.tensor(g))
    close(y, z, 1e-10, "output")
    close(a.grad, b.grad, 1e-10, "gradient")
    assert (w is None) == (u is None)
    if w is not None:
        close(w, u, 1e-10, "weights")


SHAPES = [
    ((2, 3, 4), (2, 5, 4), (2, 5, 6)),
    ((4, 3), (4, 3), (4, 2)),
    ((2, 3, 0, 4), (2, 3, 5, 4), (2, 3, 5, 4)),
    ((0, 2, 3, 4), (0, 2, 3, 4), (0, 2, 3, 4)),
    ((1, 2, 300, 4), (1, 2, 530, 4), (1, 2, 530, 3)),
    ((3, 1, 4), (1, 5, 4), (3, 5, 2)),
]


@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "added"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_attention_equals_torch(shapes, mask):
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(s) for s in shapes]
    n, m = shapes[0][-2], shapes[1][-2]
    extra = None
    if mask == "boolean":
        extra = rng.random((n, m)) < 0.6
        extra[: n // 2, 0] = True
        if n > 1:
            extra[-1] = False  # a query that may look at nothing
    elif mask == "added":
        extra = rng.standard_normal((n, m))
    mine = [an.asarray(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = nn.functional.scaled_dot_product_attention(
        *mine, None if extra is None else an.asarray(extra), is_causal=mask == "causal", scale=0.7
    )
    z = torch.nn.functional.scaled_dot_product_attention(
        *other, None if extra is None else torch.tensor(extra), is_causal=mask == "causal", scale=0.7
    )
    g = rng.standard_normal(z.shape)
    y.backward(an.asarray(g)), z.backward(torch.tensor(g))
    close(y, z, 1e-10, "output")
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        close(a.grad, b.grad, 1e-10, f"gradient of input {i}")


def test_grouped_queries_equal_torch():
    rng = np.random.default_rng(4)
    q, k, v = (rng.standard_normal((2, h, 5, 4)) for h in (6, 2, 2))
    y = nn.functional.scaled_dot_product_attention(*(an.asarray(a) for a in (q, k, v)), enable_gqa=True)
    z = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(a) for a in (q, k, v)), enable_gqa=True
    )
    close(y, z, 1e-10, "output")


def test_memory_of_long_sequences_is_linear():
    import tracemalloc

    n = 4096
    q = an.asarray(np.random.default_rng(0).standard_normal((1, n, 8)).astype("float32"), requires_grad=True)
    tracemalloc.start()
    an.sum(nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)).backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n  # bytes: a quarter of one matrix of scores
