"""Losses of margins and of distributions, distances: values and gradients as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

nn, T, F, TF = an.nn, torch.nn, an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)


def x(*shape, scale=1.0):
    return rng.normal(size=shape) * scale


def p(*shape):
    a = rng.uniform(0.1, 1.0, shape)
    return a / a.sum(-1, keepdims=True)


def signs(*shape):
    return np.where(rng.uniform(size=shape) < 0.5, -1.0, 1.0)


def labels(*rows):
    return np.asarray(rows)


# name, options, floating arguments (with gradients), others
CASES = [
    ("KLDivLoss", {}, [np.log(p(5, 4))], [p(5, 4)]),
    ("KLDivLoss", {"log_target": True}, [np.log(p(5, 4)), np.log(p(5, 4))], []),
    (
        "KLDivLoss",
        {"reduction": "batchmean"},
        [np.log(p(5, 4))],
        [np.where(rng.uniform(size=(5, 4)) < 0.5, 0, p(5, 4))],
    ),
    ("PoissonNLLLoss", {}, [x(5, 4), np.abs(x(5, 4, scale=3))], []),
    ("PoissonNLLLoss", {"log_input": False, "full": True}, [np.abs(x(5, 4))], [np.abs(x(5, 4, scale=3))]),
    ("PoissonNLLLoss", {"full": True}, [x(5, 4, scale=5)], [np.abs(x(5, 4, scale=3))]),
    ("GaussianNLLLoss", {}, [x(5, 4), x(5, 4), np.abs(x(5, 4))], []),
    ("GaussianNLLLoss", {"full": True}, [x(5, 4), x(5, 4), np.abs(x(5, 1))], []),
    ("GaussianNLLLoss", {"eps": 0.5}, [x(5, 4), x(5, 4), np.abs(x(5))], []),
    ("HingeEmbeddingLoss", {}, [x(5, 4)], [signs(5, 4)]),
    ("HingeEmbeddingLoss", {"margin": 0.3}, [x(7)], [signs(7)]),
    ("SoftMarginLoss", {}, [x(5, 4, scale=100)], [signs(5, 4)]),
    ("MultiLabelMarginLoss", {}, [x(3, 4)], [labels([3, 0, -1, 1], [1, -1, 2, 3], [-1, 0, 0, 0])]),
    ("MultiLabelMarginLoss", {}, [x(4)], [labels([0, 1, 2, 3])[0]]),
    ("MultiLabelSoftMarginLoss", {}, [x(3, 4, scale=50)], [rng.integers(0, 2, (3, 4)).astype(float)]),
    ("MultiLabelSoftMarginLoss", {"weight": p(4)}, [x(3, 4)], [rng.integers(0, 2, (3, 4)).astype(float)]),
    ("MultiMarginLoss", {}, [x(5, 3)], [labels(0, 2, 1, 1, 0)]),
    ("MultiMarginLoss", {"p": 2, "margin": 0.4}, [x(5, 3)], [labels(0, 2, 1, 1, 0)]),
    ("MultiMarginLoss", {"weight": p(3)}, [x(5, 3)], [labels(0, 2, 1, 1, 0)]),
    ("MultiMarginLoss", {"weight": p(3), "p": 2}, [x(3)], [np.asarray(1)]),
    ("MarginRankingLoss", {}, [x(6), x(6)], [signs(6)]),
    ("MarginRankingLoss", {"margin": 0.5}, [x(3, 2), x(3, 2)], [signs(3, 2)]),
    ("CosineEmbeddingLoss", {}, [x(6, 4), x(6, 4)], [signs(6)]),
    ("CosineEmbeddingLoss", {"margin": 0.3}, [x(4), x(4)], [np.asarray(-1.0)]),
    ("TripletMarginLoss", {}, [x(6, 4), x(6, 4), x(6, 4)], []),
    ("TripletMarginLoss", {"p": 1.0, "swap": True}, [x(6, 4), x(6, 4), x(6, 4)], []),
    ("TripletMarginLoss", {"p": 3.0, "margin": 0.2, "eps": 1e-3}, [x(4), x(4), x(4)], []),
    ("TripletMarginWithDistanceLoss", {"swap": True}, [x(6, 4), x(6, 4), x(6, 4)], []),
]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "options", "arrays", "others"), CASES, ids=lambda v: str(v)[:30])
def test_as_pytorch(name, options, arrays, others, reduction):
    options = {"reduction": reduction} | options
    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    ours = {k: an.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    a = [an.asarray(v, requires_grad=True) for v in arrays]
    t = [torch.tensor(v, requires_grad=True) for v in arrays]
    y = getattr(nn, name)(**ours)(*a, *map(an.asarray, others))
    u = getattr(T, name)(**theirs)(*t, *map(torch.tensor, others))
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-12)
    weights = rng.uniform(0.5, 1.5, y.shape)
    an.sum(y * an.asarray(weights)).backward()
    (u * torch.tensor(weights)).sum().backward()
    for mine, other in zip(a, t, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "options", "arrays", "others"), CASES, ids=lambda v: str(v)[:30])
def test_second_order(name, options, arrays, others):
    if name == "GaussianNLLLoss" and "eps" in options:
        return  # its gradient passes through the bound by definition
    options = {k: an.asarray(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    loss = getattr(nn, name)(**options)
    inputs = [an.asarray(np.clip(v, -3, 3), requires_grad=True) for v in arrays]
    rest = [an.asarray(v) for v in others]
    assert an.gradcheck(lambda *v: loss(*v, *rest), inputs)
    assert an.gradgradcheck(
        lambda *v: loss(*(i * i + i for i in v), *rest) if name != "GaussianNLLLoss" else loss(*v), inputs
    )


def test_on_every_backend(xp_device):
    for name, options, arrays, others in CASES:
        options = {
            k: an.asarray(v, device=xp_device) if isinstance(v, np.ndarray) else v for k, v in options.items()
        }
        y = getattr(nn, name)(**options)(*(an.asarray(v, device=xp_device) for v in (*arrays, *others)))
        reference = getattr(nn, name)(
            **{k: v.to("cpu") if isinstance(v, an.Tensor) else v for k, v in options.items()}
        )(*map(an.asarray, (*arrays, *others)))
        assert y.device == an.ones(1, device=xp_device).device
        np.testing.assert_allclose(y.numpy(), reference.numpy(), rtol=1e-10)


def test_cosine_similarity_broadcasts_along_dim():
    a, b = rng.normal(size=(1, 2, 3)), rng.normal(size=(2, 1, 3))
    for dim in (-2, 0, 1, 2):
        x, y = an.asarray(a, requires_grad=True), an.asarray(b, requires_grad=True)
        t, u = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        z, w = F.cosine_similarity(x, y, dim=dim), TF.cosine_similarity(t, u, dim=dim)
        np.testing.assert_allclose(z.numpy(), w.detach().numpy(), rtol=1e-12)
        an.sum(z * z).backward()
        (w * w).sum().backward()
        for mine, other in ((x, t), (y, u)):
            np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_kl_div_beyond_probabilities():
    target = np.asarray([-0.2, 0.0, 0.0, 1.2])
    x = an.asarray([0.5, -np.inf, 0.5, 0.5], dtype=an.float64, requires_grad=True)
    y = F.kl_div(x, an.asarray(target), reduction="none")
    np.testing.assert_allclose(y.numpy(), [np.nan, 0, 0, 1.2 * (np.log(1.2) - 0.5)])
    an.sum(y).backward()
    np.testing.assert_allclose(x.grad.numpy(), -target)
    never = an.asarray([-np.inf, 0.0], dtype=an.float64, requires_grad=True)
    y = F.kl_div(an.asarray([-np.inf, -1.0], dtype=an.float64), never, reduction="none", log_target=True)
    an.sum(y).backward()
    assert (y.tolist(), never.grad.tolist()) == ([0.0, 1.0], [0.0, 2.0])


def test_linear_cross_entropy_of_several_places():
    x, w, b, t = rng.normal(size=(4, 3)), rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 2)), [[0, 1]] * 4
    ours = F.linear_cross_entropy(an.asarray(x), an.asarray(w), an.asarray(t), linear_bias=an.asarray(b))
    logits = an.reshape(
        F.linear(an.asarray(x), an.asarray(w.reshape(10, 3)), an.asarray(b.ravel())), (4, 5, 2)
    )
    assert ours.item() == pytest.approx(F.cross_entropy(logits, an.asarray(t)).item(), rel=1e-12)
    layer = nn.LinearCrossEntropyLoss(3, 5, out_features=(2,), bias=True)
    assert layer(an.ones((4, 3)), an.asarray(t)).shape == ()
    for make in (
        lambda: F.linear_cross_entropy(x, w, t, options=1),
        lambda: nn.LinearCrossEntropyLoss(3, 5, options=1),
    ):
        with pytest.raises(NotImplementedError, match="not offered"):
            make()


def test_distances():
    a, b = x(5, 4, 3), x(5, 4, 3)
    for dim in (0, 1, -1):
        got = nn.CosineSimilarity(dim)(an.asarray(a), an.asarray(b))
        np.testing.assert_allclose(
            got.numpy(), T.CosineSimilarity(dim)(torch.tensor(a), torch.tensor(b)).numpy(), rtol=1e-12
        )
    zero = F.cosine_similarity(an.zeros((1, 3)), an.ones((1, 3)))
    assert zero.numpy().tolist() == [0.0]
    for power in (1.0, 2.0, 3.0, float("inf")):
        for keep in (False, True):
            got = nn.PairwiseDistance(power, keepdim=keep)(an.asarray(a), an.asarray(b))
            want = T.PairwiseDistance(power, keepdim=keep)(torch.tensor(a), torch.tensor(b))
            np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)


def test_distances_of_pairs_of_rows():
    a = rng.normal(size=(6, 4))
    for p in (1.0, 2.0, 3.0, float("inf")):
        x, t = an.asarray(a, requires_grad=True), torch.tensor(a, requires_grad=True)
        y, u = F.pdist(x, p), TF.pdist(t, p)
        np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-11)
        an.sum(y**3).backward()
        (u**3).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-8, atol=1e-9)
    with pytest.raises(ValueError, match="must be a matrix"):
        F.pdist(an.ones(3))


def test_refusals():
    one = an.ones((2, 3))
    for make, error, message in (
        (lambda: nn.KLDivLoss("batch"), ValueError, "reduction must be"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "p must be 1 or 2"),
        (lambda: F.multi_margin_loss(one, an.asarray([0, 1]), p=3), ValueError, "p must be 1 or 2"),
        (lambda: F.multi_margin_loss(one, an.asarray([0, 3])), IndexError, r"must be in \[0, 2\]"),
        (lambda: F.multi_margin_loss(one, an.asarray([0.0, 1.0])), TypeError, "class indices"),
        (
            lambda: F.multi_margin_loss(one, an.asarray([0, 1, 1])),
            ValueError,
            r"must have shapes \(n, classes\) and \(n,\)",
        ),
        (lambda: F.multilabel_margin_loss(one, an.asarray([0, 1])), ValueError, "the same shape"),
        (
            lambda: F.multilabel_margin_loss(one, an.asarray([[0, 1, 7]] * 2)),
            IndexError,
            r"must be in \[0, 2\]",
        ),
        (lambda: F.multilabel_margin_loss(one, one), TypeError, "class indices"),
        (lambda: nn.TripletMarginLoss(margin=0.0), ValueError, "margin must be > 0, got"),
        (lambda: nn.TripletMarginWithDistanceLoss(margin=-1.0), ValueError, "margin must be > 0, got"),
        (lambda: F.triplet_margin_loss(one, one, one, margin=-1.0), ValueError, "margin must be > 0"),
        (lambda: F.cosine_embedding_loss(one, an.ones(3), an.ones(2)), ValueError, "the same shape"),
        (lambda: F.gaussian_nll_loss(one, one, an.ones(7)), ValueError, r"var must have shape .* got \(7,\)"),
        (lambda: F.gaussian_nll_loss(one, one, -one), ValueError, "var must be ≥ 0, got -1"),
        (lambda: nn.GaussianNLLLoss()(one, one), TypeError, "must be given, got two"),
        (lambda: nn.MarginRankingLoss()(one, one), TypeError, "three arguments"),
        (lambda: F.kl_div(one, an.ones(3)), ValueError, "nothing is broadcast"),
    ):
        with pytest.raises(error, match=message):
            make()
