"""The distillation loss against PyTorch, and its limit for high temperatures."""

import numpy as np
import pytest

import anynet as an
from anynet.methods import DistillationLoss, distillation_loss
from torch_oracle import torch

rng = np.random.default_rng(0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_as_torch(temperature: float, xp_device: str) -> None:
    student, teacher, target = rng.normal(size=(6, 5)), rng.normal(size=(6, 5)), rng.integers(0, 5, 6)
    s = torch.tensor(student, requires_grad=True)
    soft = torch.nn.functional.kl_div(
        torch.log_softmax(s / temperature, 1),
        torch.softmax(torch.tensor(teacher) / temperature, 1),
        reduction="batchmean",
    )
    expected = 0.3 * temperature**2 * soft + 0.7 * torch.nn.functional.cross_entropy(s, torch.tensor(target))
    expected.backward()
    ours = an.asarray(student, device=xp_device, requires_grad=True)
    given = an.asarray(teacher, device=xp_device, requires_grad=True)
    found = DistillationLoss(temperature, 0.3)(ours, given, an.asarray(target, device=xp_device))
    found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)
    np.testing.assert_allclose(ours.grad.numpy(), s.grad.numpy(), atol=1e-10)
    assert given.grad is None


def test_high_temperatures_match_centred_logits() -> None:
    """Hinton et al. (2015), equation 4: the gradient becomes that of ½ Σ (zᵢ − vᵢ)² / classes for centred logits."""
    z, v = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    z, v = z - z.mean(1, keepdims=True), v - v.mean(1, keepdims=True)
    ours = an.asarray(z, requires_grad=True)
    distillation_loss(ours, v, temperature=1e4, reduction="sum").backward()
    np.testing.assert_allclose(ours.grad.numpy(), (z - v) / 4, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"temperature": 0}, "temperature"), ({"alpha": 1.5}, "alpha"), ({"reduction": "max"}, "reduction")],
)
def test_errors(options, text) -> None:
    with pytest.raises(ValueError, match=text):
        distillation_loss(an.zeros((2, 3)), an.zeros((2, 3)), **options)
    with pytest.raises(ValueError, match=r"\(n, classes\)"):
        distillation_loss(an.zeros((2, 3)), an.zeros((2, 4)))
