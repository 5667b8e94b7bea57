"""Relaxed Bernoulli and categorical distributions against PyTorch, and what of their samples is exact."""

import numpy as np
import pytest

import anynet as an

D = an.distributions
CASES = {
    "RelaxedBernoulli": ([0.2, 0.7, 0.5], [[0.1, 0.5, 0.9], [0.6, 0.02, 0.3]]),
    "RelaxedOneHotCategorical": ([0.2, 0.7, 0.1], [[0.2, 0.3, 0.5], [0.01, 0.98, 0.01]]),
}


@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize("name", CASES)
def test_densities_and_gradients_are_those_of_pytorch(name, given):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    p, values = CASES[name]
    p = np.log(p) if given == "logits" else np.asarray(p)
    made = []
    for room, families in ((an, D), (torch, torch.distributions)):
        t, q = (room.asarray(np.asarray(v), dtype=room.float64, requires_grad=True) for v in (0.7, p))
        x = room.asarray(np.asarray(values), dtype=room.float64, requires_grad=True)
        y = getattr(families, name)(t, **{given: q}).log_prob(x)
        y.sum().backward() if room is torch else an.sum(y).backward()
        made.append((y.detach().numpy(), t.grad.numpy(), q.grad.numpy(), x.grad.numpy()))
    for found, expected in zip(*made, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_largest_numbers_have_the_probabilities():
    """The largest of samples is the k-th with probability p_k, at any temperature."""
    an.random.manual_seed(3)
    p = an.asarray([0.2, 0.7, 0.1])
    x = D.RelaxedOneHotCategorical(0.4, probs=p).rsample((20_000,))
    assert np.allclose(an.sum(x, axis=-1).numpy(), 1.0, atol=1e-5)
    found = np.bincount(an.argmax(x, axis=-1).numpy(), minlength=3) / 20_000
    np.testing.assert_allclose(found, p.numpy(), atol=0.02)
    y = D.RelaxedBernoulli(0.4, probs=p).sample((20_000,))
    np.testing.assert_allclose((y.numpy() > 0.5).mean(axis=0), p.numpy(), atol=0.02)


def test_samples_have_gradients_and_shapes():
    logits = an.asarray([[0.0, 1.0, -1.0]] * 2, requires_grad=True)
    relaxed = D.RelaxedOneHotCategorical(an.asarray([2.2]), logits=logits)
    assert (relaxed.batch_shape, relaxed.event_shape, relaxed.has_rsample) == ((2,), (3,), True)
    assert relaxed.expand((4, 2)).rsample((5,)).shape == (5, 4, 2, 3)
    an.sum(relaxed.rsample() ** 2).backward()
    assert float(an.max(an.abs(logits.grad))) > 0
    with pytest.raises(ValueError, match="temperature must be one number"):
        D.RelaxedOneHotCategorical(an.asarray([1.0, 2.0]), logits=logits)
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        D.RelaxedBernoulli(-1.0, probs=0.5)
    with pytest.raises(ValueError, match="numbers ≥ 0 that sum to 1"):
        relaxed.log_prob(an.ones((2, 3)))
