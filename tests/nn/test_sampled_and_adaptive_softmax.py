"""Losses over sampled classes against their formulas, adaptive softmax against PyTorch's."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


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

        agree_with_gradients(
            lambda x, layer=layer: layer(x, an.asarray(target), "none", an.asarray(drawn)), reference, x
        )


def test_classes_are_drawn_in_proportion():
    an.random.manual_seed(0)
    layer = nn.NegativeSampling(2, [16, 1, 0, 1], 10, power=0.5)
    found = np.bincount(np.array(layer.sample(2000)).reshape(-1), minlength=4) / 20000
    assert found == pytest.approx([4 / 6, 1 / 6, 0, 1 / 6], abs=0.015)


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
        agree_with_gradients(
            lambda x, i=i: ours(x, an.asarray(t))[i], lambda x, i=i: theirs(x, torch.tensor(t))[i], x
        )
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            expected = np.zeros(p.shape) if q.grad is None else q.grad.numpy()
            found = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
            assert np.allclose(found, expected, rtol=1e-9, atol=1e-9)
    agree_with_gradients(ours.log_prob, theirs.log_prob, x)
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
    with pytest.raises(ValueError, match=r"targets must be in \[0, 9\]"):
        layer(an.ones((1, 16)), an.asarray([10]))
    with pytest.raises(ValueError, match="one target"):
        layer(an.ones((2, 16)), an.asarray([1]))
