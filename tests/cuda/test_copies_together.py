"""Gradients that go into an optimizer's vector with one launch: the numbers, and what such a launch does not take."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet_backends import get_backend
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

XP = get_backend("cupy")


def pair(shape, dtype, seed, order="C"):
    source = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return cupy.full(shape, -1, dtype), cupy.asarray(source, order=order), source


def test_any_number_of_arrays_of_any_kind():
    pairs = [pair((k, 3), "float32", k) for k in range(12)]  # the first is empty
    pairs += [pair((5,), "float64", 20), pair((), "float32", 21), pair((7,), "float16", 22)]
    pairs += [pair((4, 3), "float32", 23, order="F"), pair((2, 3), "complex64", 24)]
    pairs.append((cupy.full((6, 4), -1, "float32")[:, ::2], cupy.ones((6, 2), "float32"), np.ones((6, 2))))
    pairs.append(
        (
            cupy.full((3, 2), -1, "float32"),
            cupy.broadcast_to(cupy.full((), 2, "float32"), (3, 2)),
            np.full((3, 2), 2),
        )
    )
    XP.copy_all([p[:2] for p in pairs])
    for to, _, wanted in pairs:
        np.testing.assert_array_equal(cupy.asnumpy(to), wanted)


def test_arrays_of_two_devices():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    pairs = []
    for i in (0, 1, 0, 1):
        with cupy.cuda.Device(i):
            pairs.append(pair((4, 5), "float32", i))
    with Log() as log:
        XP.copy_all([p[:2] for p in pairs])
    assert not log.having("foreign pointer", "peer access", "copy PtoP")
    for to, _, wanted in pairs:
        np.testing.assert_array_equal(cupy.asnumpy(to), wanted)


def gradients(device, hook=None):
    an.random.manual_seed(3)
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(6))).to(device)
    optim.SGD(net.parameters(), lr=0.1)  # the gradients are one vector
    if hook is not None:
        hook(net)
    an.sum(net(an.ones((2, 4), device=device)) ** 2).backward()
    return net


@pytest.mark.skipif(not present(), reason="counts launches")
def test_gradients_take_one_launch_for_eight():
    gradients("cuda")
    with Log() as log:
        net = gradients("cuda")
    assert len(log.having("launch anynet_copy")) == 2
    for a, b in zip(net.parameters(), gradients("cpu").parameters(), strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=2e-5, atol=1e-6)


def test_a_hook_sees_the_gradients_before_it():
    seen = {}

    def hook(net):
        names = [name for name, _ in net.named_parameters()]
        parameters = dict(net.named_parameters())

        def look(at):
            def hook(g):
                seen[at] = {n: parameters[n].grad.numpy() for n in names if parameters[n].grad is not None}

            return hook

        for name in ("0.bias", "3.weight"):
            parameters[name].register_hook(look(name))

    net = gradients("cuda", hook)
    assert max(map(len, seen.values())) > 1
    for found in seen.values():
        for name, g in found.items():
            np.testing.assert_array_equal(g, dict(net.named_parameters())[name].grad.numpy())


def test_a_hook_that_raises_leaves_no_gradient_without_numbers():
    def hook(net):
        def refuse(g):
            raise ValueError("no")

        net[0].weight.register_hook(refuse)

    held = []
    with pytest.raises(ValueError, match="no"):
        gradients("cuda", lambda net: (held.append(net), hook(net)))
    found = {name: p.grad.numpy() for name, p in held[0].named_parameters() if p.grad is not None}
    wanted = dict(gradients("cuda").named_parameters())
    assert found
    for name, g in found.items():
        np.testing.assert_array_equal(g, wanted[name].grad.numpy())
