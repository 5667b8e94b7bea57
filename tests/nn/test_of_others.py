"""Layers and losses of Keras, MLX and Chainer, against their formulas written with PyTorch or by enumeration."""

import itertools
import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from torch_oracle import torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


def both(function, reference, *arrays, tolerance=1e-9):
    """Values and gradients of a function of Tensors and of its reference in PyTorch."""
    ours = [an.asarray(a.copy(), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = function(*ours), reference(*theirs)
    assert tuple(y.shape) == tuple(z.shape)
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.random.default_rng(9).normal(size=tuple(y.shape))
    y.backward(an.asarray(g))
    z.backward(torch.tensor(g))
    for a, b in zip(ours, theirs, strict=True):
        expected = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
        assert np.allclose(a.grad.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dim", [None, 0, (1, 2)])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1)])
def test_dice_and_tversky(reduction, dim, shape):
    p, t = draw(*shape, low=0, high=1), draw(*shape, seed=1, low=0, high=1)
    over = tuple(range(3)) if dim is None else dim

    def reduced(x):
        return {"mean": torch.mean, "sum": torch.sum, "none": lambda x: x}[reduction](x)

    both(
        lambda p, t: F.dice_loss(p, t, dim, 0.1, reduction),
        lambda p, t: reduced(1 - (2 * (p * t).sum(over) + 0.1) / (p.sum(over) + t.sum(over) + 0.1)), p, t,
    )  # fmt: skip

    def tversky(p, t):
        hits, false, missed = (p * t).sum(over), (p * (1 - t)).sum(over), ((1 - p) * t).sum(over)
        return reduced(1 - (hits + 0.1) / (hits + 0.3 * false + 0.7 * missed + 0.1))

    both(lambda p, t: F.tversky_loss(p, t, 0.3, 0.7, dim, 0.1, reduction), tversky, p, t)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_binary_focal(gamma, alpha, scale):
    x, t = draw(4, 5) * scale, (draw(4, 5, seed=1) > 0).astype(float)

    def reference(x, t):
        p = torch.sigmoid(x)
        right = p * t + (1 - p) * (1 - t)
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction="none")
            * (1 - right) ** gamma
        )
        return (loss if alpha is None else loss * (alpha * t + (1 - alpha) * (1 - t))).mean()

    target = an.asarray(t)
    both(lambda x: F.binary_focal_loss(x, target, alpha, gamma), lambda x: reference(x, torch.tensor(t)), x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("alpha", [None, [0.1, 0.5, 0.4]])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4)])
def test_focal(reduction, alpha, shape):
    x = draw(*shape)
    t = np.random.default_rng(1).integers(0, 3, (shape[0], *shape[2:]))
    t.reshape(-1)[2] = -100
    weights = None if alpha is None else an.asarray(alpha, dtype="float64")

    def reference(x):
        logs = torch.log_softmax(x, 1)
        known = torch.tensor(np.where(t < 0, 0, t))
        at = logs.gather(1, known.unsqueeze(1)).squeeze(1)
        w = torch.ones(3, dtype=torch.float64) if alpha is None else torch.tensor(alpha, dtype=torch.float64)
        loss = -w[known] * (1 - at.exp()) ** 2 * at * torch.tensor(t >= 0)
        return {"mean": lambda y: y.sum() / (t >= 0).sum(), "sum": torch.sum, "none": lambda y: y}[reduction](
            loss
        )

    both(lambda x: F.focal_loss(x, an.asarray(t), weights, reduction=reduction), reference, x)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_log_cosh(scale):
    x, t = draw(5, 4) * scale, draw(5, 4, seed=1) * scale

    def reference(x, t):
        d = (x - t).abs()
        return (d + torch.log1p(torch.exp(-2 * d)) - math.log(2)).mean()

    both(F.log_cosh_loss, reference, x, t)


@pytest.mark.parametrize(("gamma", "margin"), [(80.0, 0.4), (2.0, 0.25), (16.0, 0.0)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_circle(gamma, margin, reduction):
    x, t = draw(7, 4), np.array([0, 1, 0, 2, 1, 0, 3])

    def reference(x):
        unit = torch.nn.functional.normalize(x, dim=1)
        s = unit @ unit.T
        rows = []
        for i in range(len(t)):
            p = [s[i, j] for j in range(len(t)) if j != i and t[j] == t[i]]
            n = [s[i, j] for j in range(len(t)) if t[j] != t[i]]
            if not p or not n:
                rows.append(0 * s[i, i])
                continue
            down = sum(torch.exp(-gamma * max(1 + margin - v.item(), 0) * (v - 1 + margin)) for v in p)
            up = sum(torch.exp(gamma * max(v.item() + margin, 0) * (v - margin)) for v in n)
            rows.append(torch.log(1 + down * up))
        out = torch.stack(rows)
        return {"mean": torch.mean, "sum": torch.sum, "none": lambda y: y}[reduction](out)

    both(lambda x: F.circle_loss(x, an.asarray(t), gamma, margin, reduction), reference, x)


@pytest.mark.parametrize("options", [
    {}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 1}, {"reduction": "none"},
])  # fmt: skip
@pytest.mark.parametrize("bias", [False, True])
def test_linear_cross_entropy_equals_torch(options, bias):
    x, w, b, t = draw(6, 4), draw(5, 4, seed=1), draw(5, seed=2), np.array([0, 1, 4, 1, 2, 3])
    arrays = (x, w, b) if bias else (x, w)
    both(
        lambda x, w, b=None: F.linear_cross_entropy(x, w, an.asarray(t), linear_bias=b, **options),
        lambda x, w, b=None: torch.nn.functional.linear_cross_entropy(
            x, w, torch.tensor(t), linear_bias=b, **options
        ),
        *arrays,
    )
    ours, theirs = (
        nn.LinearCrossEntropyLoss(4, 5, bias=bias),
        torch.nn.LinearCrossEntropyLoss(4, 5, bias=bias),
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize(("dims", "width", "offset", "scale", "base"), [
    (4, 4, 0, 1.0, 10000.0), (4, 6, 3, 1.0, 10000.0), (2, 2, 0, 0.5, 100.0), (6, 6, 1000, 1.0, 10.0),
])  # fmt: skip
def test_rope_turns_pairs(traditional, dims, width, offset, scale, base):
    x = draw(2, 3, 5, width)

    def reference(x):
        parts = [x[..., j] for j in range(width)]
        for j in range(dims // 2):
            a, b = (2 * j, 2 * j + 1) if traditional else (j, j + dims // 2)
            angle = (torch.arange(5, dtype=torch.float64) + offset) * scale * base ** (-2 * j / dims)
            one, two = x[..., a], x[..., b]
            parts[a] = one * angle.cos() - two * angle.sin()
            parts[b] = one * angle.sin() + two * angle.cos()
        return torch.stack(parts, -1)

    both(lambda x: nn.RoPE(dims, traditional, base, scale)(x, offset), reference, x)


def test_rope_keeps_products_of_equal_distance():
    q, k = (an.asarray(draw(1, 8, seed=s)) for s in (0, 1))
    rope = nn.RoPE(8)
    products = [an.sum(rope(q, 5 + s) * rope(k, 2 + s)).item() for s in (0, 7, 100)]
    assert products == pytest.approx([products[0]] * 3, rel=1e-10)


@pytest.mark.parametrize(("heads", "queries", "keys", "offset"), [(8, 4, 4, 0), (1, 3, 5, 0), (6, 1, 9, 8)])
def test_alibi(heads, queries, keys, offset):
    x = draw(2, heads, queries, keys)

    def reference(x):
        slope = torch.tensor([2.0 ** (-8 * h / heads) for h in range(1, heads + 1)], dtype=torch.float64)
        apart = (torch.arange(queries)[:, None] + offset - torch.arange(keys)).abs()
        return x - slope[:, None, None] * apart

    both(lambda x: nn.ALiBi()(x, offset), reference, x)


@pytest.mark.parametrize(
    "options",
    [{}, {"cos_first": True}, {"full_turns": True, "scale": 1.0}, {"min_freq": 0.01, "max_freq": 2.0}],
)
def test_sinusoids(options):
    x = draw(3, 4) * 10
    layer = nn.SinusoidalPositionalEncoding(8, **options)

    def reference(x):
        low, high = math.log(options.get("min_freq", 1e-4)), math.log(options.get("max_freq", 1.0))
        rate = torch.exp((1 - torch.arange(4, dtype=torch.float64) / 3) * (high - low) + low)
        angle = x[..., None] * rate * (2 * math.pi if options.get("full_turns") else 1)
        parts = (angle.cos(), angle.sin()) if options.get("cos_first") else (angle.sin(), angle.cos())
        return torch.cat(parts, -1) * options.get("scale", math.sqrt(2 / 4))

    both(layer, reference, x)


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_group_query_attention_repeats_keys(heads, shared, causal):
    an.random.manual_seed(0)
    layer = nn.GroupQueryAttention(8, heads, shared).to("float64")
    x = draw(2, 5, 8)
    state = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}

    def project(x, name, n):
        y = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        return y.reshape(2, 5, n, 2).transpose(1, 2)

    def reference(x):
        q = project(x, "q_proj", heads)
        k, v = (project(x, n, shared).repeat_interleave(heads // shared, 1) for n in ("k_proj", "v_proj"))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return y.transpose(1, 2).reshape(2, 5, 8) @ state["out_proj.weight"].T + state["out_proj.bias"]

    both(lambda x: layer(x, x, x, is_causal=causal), reference, x)


def test_maxout_and_highway():
    an.random.manual_seed(0)
    maxout, highway = nn.Maxout(3, 2, 4).to("float64"), nn.Highway(3).to("float64")
    x = draw(5, 3)
    w, b = (torch.tensor(p.numpy()) for p in maxout.parameters())
    both(maxout, lambda x: (x @ w.T + b).reshape(5, 2, 4).max(-1).values, x)
    s = {k: torch.tensor(v.numpy()) for k, v in highway.state_dict().items()}
    assert (s["transform.bias"] == -1).all()

    def reference(x):
        gate = torch.sigmoid(x @ s["transform.weight"].T + s["transform.bias"])
        return torch.relu(x @ s["plain.weight"].T + s["plain.bias"]) * gate + x * (1 - gate)

    both(highway, reference, x)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"padding": "same", "depth_multiplier": 3}, {"bias": False}]
)
def test_separable_convolution(options):
    an.random.manual_seed(0)
    layer = nn.SeparableConv2d(2, 3, 3, **options).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}

    def reference(x):
        y = torch.nn.functional.conv2d(
            x, s["depthwise.weight"], None, options.get("stride", 1), options.get("padding", 0), groups=2
        )
        return torch.nn.functional.conv2d(y, s["pointwise.weight"], s.get("pointwise.bias"))

    both(layer, reference, draw(2, 2, 7, 6))


@pytest.mark.parametrize("given", [False, True])
def test_convolutional_lstm(given):
    an.random.manual_seed(0)
    layer = nn.ConvLSTM2d(2, 3, 3).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}
    x, state = draw(3, 2, 2, 4, 5), draw(2, 3, 4, 5, seed=1)

    def reference(x, h0):
        h, c = (h0, h0) if given else (0 * h0, 0 * h0)
        out = []
        for t in range(3):
            a = torch.nn.functional.conv2d(x[t], s["input.weight"], s["input.bias"], padding=1)
            i, f, g, o = (a + torch.nn.functional.conv2d(h, s["hidden.weight"], padding=1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack([*out, c])

    def ours(x, h0):
        y, (_, c) = layer(x, (h0, h0) if given else None)
        return an.concat([y, an.expand_dims(c, axis=0)]) + 0.0 * h0

    both(ours, reference, x, state)


def test_tree_lstms():
    an.random.manual_seed(0)
    x, y = draw(2, 3), draw(2, 3, seed=1)
    child_sum, binary = nn.ChildSumTreeLSTM(3, 2).to("float64"), nn.NaryTreeLSTM(3, 2, 2).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in child_sum.state_dict().items()}
    b = {k: torch.tensor(v.numpy()) for k, v in binary.state_dict().items()}

    def summed(x, children):
        a = x @ s["input.weight"].T + s["input.bias"]
        h = sum(h for h, _ in children) if children else torch.zeros(2, 2, dtype=torch.float64)
        i, o, u = (a[:, :6] + h @ s["hidden.weight"].T).chunk(3, 1)
        c = torch.sigmoid(i) * torch.tanh(u)
        for h, before in children:
            c = c + torch.sigmoid(a[:, 6:] + h @ s["forget.weight"].T) * before
        return torch.sigmoid(o) * torch.tanh(c), c

    def nary(x, children):
        a = x @ b["input.weight"].T + b["input.bias"]
        parts = [h @ b[f"children_weights.{k}.weight"].T for k, (h, _) in enumerate(children)]
        i, o, u = (a[:, :6] + sum(p[:, :6] for p in parts)).chunk(3, 1)
        c = torch.sigmoid(i) * torch.tanh(u)
        for k, (_, before) in enumerate(children):
            c = c + torch.sigmoid(a[:, 6:] + sum(p[:, 6 + 2 * k : 8 + 2 * k] for p in parts)) * before
        return torch.sigmoid(o) * torch.tanh(c), c

    def tree(node):
        return lambda x, y: node(y, [node(x, []), node(y, [node(x, [])] * 2)])[0]

    both(lambda x, y: child_sum(y, [child_sum(x), child_sum(y, [child_sum(x)] * 2)])[0], tree(summed), x, y)
    both(lambda x, y: binary(y, [binary(x), binary(y, [binary(x)] * 2)])[0], tree(nary), x, y)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_crf_by_enumeration(masked, batch_first):
    an.random.manual_seed(0)
    crf = nn.CRF(3, batch_first).to("float64")
    steps, batch = 4, 2
    x = draw(steps, batch, 3)
    tags = np.random.default_rng(1).integers(0, 3, (steps, batch))
    lengths = [4, 2] if masked else [4, 4]
    mask = np.arange(steps)[:, None] < np.array(lengths)
    start, end, move = (p.numpy() for p in (crf.start_transitions, crf.end_transitions, crf.transitions))

    def score(i, path):
        total = start[path[0]] + end[path[-1]] + sum(x[t, i, k] for t, k in enumerate(path))
        return total + sum(move[a, b] for a, b in itertools.pairwise(path))

    expected, best = [], []
    for i, n in enumerate(lengths):
        scores = {path: score(i, path) for path in itertools.product(range(3), repeat=n)}
        total = math.log(math.fsum(math.exp(v) for v in scores.values()))
        expected.append(scores[tuple(tags[:n, i])] - total)
        best.append(list(max(scores, key=scores.get)))

    def turned(a):
        return an.asarray(np.swapaxes(a, 0, 1).copy() if batch_first else a)

    given = (turned(mask),) if masked else ()
    found = crf(turned(x), turned(tags), *given, reduction="none")
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-10)
    total = sum(expected)
    for reduction, value in (("sum", total), ("mean", total / 2), ("token_mean", total / sum(lengths))):
        assert crf(turned(x), turned(tags), *given, reduction=reduction).item() == pytest.approx(
            value, rel=1e-10
        )
    assert crf.decode(turned(x), *given) == best


def test_negative_sampling_and_nce():
    an.random.manual_seed(0)
    x, w = draw(3, 4), draw(5, 4, seed=1)
    target, drawn = np.array([0, 4, 2]), np.array([[1, 1], [0, 3], [2, 4]])
    q = np.array([5, 1, 0, 2, 2.0]) ** 0.75 / (np.array([5, 1, 0, 2, 2.0]) ** 0.75).sum()
    q[2] = 1e-3
    classes = np.concatenate([target[:, None], drawn], 1)
    sign = torch.tensor([-1.0, 1.0, 1.0])
    for kind, lift in ((nn.NegativeSampling, 0.0), (nn.NCELoss, np.log(2 * q[classes]))):
        layer = kind(4, [5, 1, 0, 2, 2], 2, dtype="float64")
        layer.weight.assign_(an.asarray(w))
        layer.probabilities.assign_(an.asarray(q))

        def reference(x, lift=lift):
            logits = (torch.tensor(w[classes]) * x[:, None]).sum(-1) - torch.tensor(lift)
            return torch.nn.functional.softplus(logits * sign).sum(1)

        both(lambda x, layer=layer: layer(x, an.asarray(target), "none", an.asarray(drawn)), reference, x)


def test_classes_are_drawn_in_proportion():
    an.random.manual_seed(0)
    layer = nn.NegativeSampling(2, [16, 1, 0, 1], 10, power=0.5)
    found = np.bincount(np.array(layer.sample(2000)).reshape(-1), minlength=4) / 20000
    assert found == pytest.approx([4 / 6, 1 / 6, 0, 1 / 6], abs=0.015)


@pytest.mark.parametrize(("make", "match"), [
    (lambda: nn.RoPE(3), "even"), (lambda: nn.SinusoidalPositionalEncoding(4, min_freq=2.0), "min_freq"),
    (lambda: nn.GroupQueryAttention(8, 4, 3), "must divide"), (lambda: nn.GroupQueryAttention(9, 4, 2), "head_dim"),
    (lambda: nn.GroupQueryAttention(8, 4, 2, dropout=2.0), r"dropout must be in \[0, 1\]"), (lambda: nn.Maxout(2, 2, 0), "must be ≥ 1"),
    (lambda: nn.SeparableConv1d(2, 2, 3, depth_multiplier=0), "must be ≥ 1"), (lambda: nn.CRF(0), "must be ≥ 1"),
    (lambda: nn.NaryTreeLSTM(2, 2, 0), "must be ≥ 1"), (lambda: nn.NegativeSampling(2, [0, 0], 2), "a number > 0"),
    (lambda: nn.CRF(2)(an.ones((2, 3, 2)), an.asarray([[0, 1]])), "tags of shape"),
    (lambda: nn.CRF(2)(an.ones((2, 3, 4)), an.asarray([[0, 1, 1], [0, 0, 0]])), "expected"),
    (lambda: nn.ConvLSTM1d(2, 2, 3)(an.ones((2, 1, 3, 5))), "expected"),
    (lambda: nn.RoPE(8)(an.ones((2, 4))), "at least 8"), (lambda: nn.ALiBi()(an.ones((2, 4))), "heads"),
    (lambda: F.dice_loss(an.ones(3), an.ones((3, 1))), "equal shapes"),
    (lambda: F.circle_loss(an.ones((3, 2)), an.asarray([1, 2])), r"\(n,\)"),
    (lambda: F.focal_loss(an.ones((3, 2)), an.asarray([1, 0, 0]), reduction="max"), "reduction"),
])  # fmt: skip
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("cutoffs", "bias", "div"), [([3, 6], False, 4.0), ([2], True, 2.0), ([1, 2, 9], False, 1.0)]
)
@pytest.mark.parametrize("target", [[0, 9, 5, 3, 2, 9, 0], [0, 0, 0, 0, 0, 0, 0], [9]])
def test_adaptive_softmax_equals_torch(cutoffs, bias, div, target):
    ours = nn.AdaptiveLogSoftmaxWithLoss(16, 10, cutoffs, div, bias, dtype="float64")
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 10, cutoffs, div, bias).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    x, t = draw(len(target), 16), np.array(target)
    for i in (0, 1):
        ours.zero_grad()
        theirs.zero_grad()
        both(lambda x, i=i: ours(x, an.asarray(t))[i], lambda x, i=i: theirs(x, torch.tensor(t))[i], x)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            expected = np.zeros(p.shape) if q.grad is None else q.grad.numpy()
            found = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
            assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)
    both(ours.log_prob, theirs.log_prob, x)
    assert (ours.predict(an.asarray(x)).numpy() == theirs.predict(torch.tensor(x)).numpy()).all()
    one = ours(an.asarray(x[0]), an.asarray(t[0]))
    assert one.output.item() == pytest.approx(
        theirs(torch.tensor(x[0]), torch.tensor(t[0])).output.item(), rel=1e-9
    )


def test_adaptive_softmax_refuses():
    with pytest.raises(ValueError, match="increasing"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 10, [6, 3])
    with pytest.raises(ValueError, match=r"div_value\^2 must be ≥ 1"):
        nn.AdaptiveLogSoftmaxWithLoss(4, 10, [2, 4])
    layer = nn.AdaptiveLogSoftmaxWithLoss(16, 10, [3, 6])
    with pytest.raises(ValueError, match="between 0 and 9"):
        layer(an.ones((1, 16)), an.asarray([10]))
    with pytest.raises(ValueError, match="one target"):
        layer(an.ones((2, 16)), an.asarray([1]))
