"""Capsules: the paper's formulas in NumPy, gradients against finite differences, every device."""

import numpy as np
import pytest

import anynet as an
from anynet.methods import (
    CapsNet,
    CapsuleLayer,
    CapsuleRouting,
    PrimaryCapsules,
    capsule_lengths,
    margin_loss,
    squash,
)

rng = np.random.default_rng(0)


def squashed(s: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(s, axis=-1, keepdims=True)
    return size**2 / (1 + size**2) * s / size


def routed(votes: np.ndarray, iterations: int) -> np.ndarray:
    b = np.zeros(votes.shape[:3])
    for i in range(iterations):
        c = np.exp(b) / np.exp(b).sum(2, keepdims=True)
        v = squashed(np.einsum("nij,nijd->njd", c, votes))
        if i < iterations - 1:
            b = b + np.einsum("nijd,njd->nij", votes, v)
    return v


def test_squash(xp_device: str) -> None:
    s = rng.normal(size=(3, 4, 5))
    found = squash(an.asarray(s, device=xp_device))
    np.testing.assert_allclose(found.numpy(), squashed(s), atol=1e-10)
    along = squash(an.asarray(s.swapaxes(1, 2), device=xp_device), dim=1)
    np.testing.assert_allclose(along.numpy().swapaxes(1, 2), squashed(s), atol=1e-10)
    x = an.asarray(np.zeros((2, 3)), device=xp_device, requires_grad=True)
    an.sum(squash(x) + capsule_lengths(x)[:, None]).backward()
    assert np.isfinite(x.grad.numpy()).all()
    assert an.gradcheck(squash, an.asarray(s[0], requires_grad=True))


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_routing(iterations: int, xp_device: str) -> None:
    votes = rng.normal(size=(2, 6, 3, 4))
    found = CapsuleRouting(iterations)(an.asarray(votes, device=xp_device))
    np.testing.assert_allclose(found.numpy(), routed(votes, iterations), atol=1e-9)
    assert found.dtype == an.float64


def test_routing_finds_the_votes_that_agree() -> None:
    votes = rng.normal(size=(1, 40, 2, 8))
    votes[0, :, 0] = 0.5 + 0.05 * votes[0, :, 0]  # all say the same of the first capsule
    before, after = (capsule_lengths(CapsuleRouting(k)(an.asarray(votes / 4))).numpy()[0] for k in (1, 3))
    assert after[0] > before[0]


def test_layer_is_votes_and_routing(xp_device: str) -> None:
    layer = CapsuleLayer(5, 3, 2, 4, dtype="float64").to(xp_device)
    u = rng.normal(size=(6, 5, 3))
    votes = np.einsum("nid,idk->nik", u, layer.weight.numpy()).reshape(6, 5, 2, 4)
    np.testing.assert_allclose(layer(an.asarray(u, device=xp_device)).numpy(), routed(votes, 3), atol=1e-9)


def test_primary_capsules_group_channels() -> None:
    layer = PrimaryCapsules(1, 2, 3, kernel_size=2, stride=1)
    x = rng.normal(size=(1, 1, 3, 3)).astype("float32")
    maps = layer.conv(an.asarray(x)).numpy().reshape(2, 3, 4)  # capsule, dimension, place
    expected = squashed(maps.transpose(0, 2, 1).reshape(1, 8, 3))
    np.testing.assert_allclose(layer(an.asarray(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_margin_loss(xp_device: str) -> None:
    lengths, target = rng.uniform(size=(5, 4)), rng.integers(0, 4, 5)
    there = np.eye(4)[target]
    each = there * np.maximum(0.9 - lengths, 0) ** 2 + 0.5 * (1 - there) * np.maximum(lengths - 0.1, 0) ** 2
    given = an.asarray(lengths, device=xp_device)
    for t in (target, there):
        t = an.asarray(t, device=xp_device)
        assert margin_loss(given, t).item() == pytest.approx(each.sum(1).mean())
        assert margin_loss(given, t, reduction="sum").item() == pytest.approx(each.sum())
        np.testing.assert_allclose(margin_loss(given, t, reduction="none").numpy(), each.sum(1))


def test_a_small_capsule_network_learns_and_reconstructs(xp_device: str) -> None:
    an.random.manual_seed(0)
    options = {
        "size": 8,
        "kernel_size": 3,
        "channels": 8,
        "primary_channels": 2,
        "primary_kernel": 3,
        "decoder": (16, 16),
    }
    net = CapsNet(classes=2, **options).to(xp_device)
    pictures = np.zeros((8, 1, 8, 8), dtype="float32")
    pictures[:4, :, 2:6, 1:3] = 1
    pictures[4:, :, 1:3, 2:6] = 1
    x, y = an.asarray(pictures, device=xp_device), an.asarray([0] * 4 + [1] * 4, device=xp_device)
    opt = an.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        opt.zero_grad()
        loss = net.loss(x, y)
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    found = net.capsules(x)
    np.testing.assert_allclose(net(x).numpy(), np.linalg.norm(found.numpy(), axis=-1), atol=1e-5)
    drawn = net.reconstruct(found, y)
    assert (drawn.shape, drawn.dtype) == (x.shape, an.float32)
    best = np.argmax(net(x).numpy(), axis=1)
    np.testing.assert_array_equal(
        net.reconstruct(found).numpy(), net.reconstruct(found, an.asarray(best, device=xp_device)).numpy()
    )


def test_the_papers_network() -> None:
    net = CapsNet()
    assert sum(p.numpy().size for p in net.parameters()) == 8_215_568  # the paper: 8.2M
    assert net.digits.in_capsules == 1152


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: CapsuleRouting(0), "iterations"),
        (lambda: CapsuleRouting()(an.zeros((2, 3, 4))), r"\(n, in, out, dim\)"),
        (lambda: CapsuleLayer(2, 3, 4, 5)(an.zeros((1, 3, 2))), r"\(n, 2, 3\)"),
        (lambda: margin_loss(an.zeros((2, 3)), an.asarray([0, 1, 2])), "target must be"),
        (lambda: margin_loss(an.zeros((2, 3)), an.asarray([0, 1]), reduction="max"), "reduction"),
        (lambda: CapsNet(size=8), "too small"),
        (lambda: CapsNet(reconstruction=0).reconstruct(an.zeros((1, 10, 16))), "no decoder"),
    ],
)  # fmt: skip
def test_errors(call, text) -> None:
    with pytest.raises(ValueError, match=text):
        call()
