"""CTC as PyTorch's, through log_softmax; by hand on a small example."""

import itertools
import math

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

F, TF = an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)

CASES = [
    ((12, 3, 5), [[1, 2, 2], [3, 1, 4], [4, 4, 4]], [12, 12, 12], [3, 3, 3], {}),
    ((12, 3, 5), [[1, 2, 2], [3, 1, 0], [4, 0, 0]], [12, 7, 3], [3, 2, 1], {}),
    ((12, 3, 5), [1, 2, 2, 3, 1, 4], [12, 7, 3], [3, 2, 1], {"reduction": "sum"}),
    ((8, 2, 4), [[0, 1], [2, 1]], [8, 8], [2, 2], {"blank": 3, "reduction": "none"}),
    ((8, 2, 4), [[1, 1], [2, 1]], [8, 8], [0, 2], {"reduction": "none"}),
    ((6, 4), [1, 2], [6], [2], {}),
    ((3, 2, 4), [[1, 1, 1], [2, 1, 3]], [3, 3], [3, 3], {"zero_infinity": True}),
]


@pytest.mark.parametrize(("shape", "targets", "inputs", "lengths", "options"), CASES, ids=str)
def test_as_pytorch(shape, targets, inputs, lengths, options):
    v = rng.normal(size=shape)
    a, t = an.asarray(v, requires_grad=True), torch.tensor(v, requires_grad=True)
    y = an.nn.CTCLoss(**options)(
        F.log_softmax(a, -1), an.asarray(targets), an.asarray(inputs), an.asarray(lengths)
    )
    u = torch.nn.CTCLoss(**options)(
        TF.log_softmax(t, -1), torch.tensor(targets), torch.tensor(inputs), torch.tensor(lengths)
    )
    assert y.shape == tuple(u.shape) or len(shape) == 2
    np.testing.assert_allclose(y.numpy(), u.detach().numpy().reshape(y.shape), rtol=1e-9)
    an.sum(y).backward()
    u.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize(
    ("frames", "labels"), [([0], [0]), ([0], [1]), ([0, 0], [1, 2]), ([0, 3], [1, 1]), ([0, 3, 2], [0, 0, 2])]
)
def test_without_frames(frames, labels, zero_infinity):
    """No frames spell the empty target with probability 1, and nothing else."""
    n = len(frames)
    v, targets = rng.normal(size=(3, n, 3)), np.ones((n, 2), np.int64)
    options = {"reduction": "none", "zero_infinity": zero_infinity}
    a, t = an.asarray(v, requires_grad=True), torch.tensor(v, requires_grad=True)
    y = F.ctc_loss(F.log_softmax(a, -1), an.asarray(targets), frames, labels, **options)
    u = TF.ctc_loss(
        TF.log_softmax(t, -1), torch.tensor(targets), torch.tensor(frames), torch.tensor(labels), **options
    )
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-12)
    an.sum(y).backward()
    u.sum().backward()
    wanted = np.nan_to_num(t.grad.numpy())  # PyTorch's gradient of an infinite loss is nan, here it is 0
    np.testing.assert_allclose(a.grad.numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_by_enumeration():
    p = rng.uniform(0.1, 1, (4, 3))
    p /= p.sum(1, keepdims=True)

    def collapse(path):
        return [k for k, _ in itertools.groupby(path) if k != 0]

    total = math.fsum(
        math.prod(p[t, k] for t, k in enumerate(path))
        for path in itertools.product(range(3), repeat=4)
        if collapse(path) == [1, 2]
    )
    loss = F.ctc_loss(an.asarray(np.log(p)), an.asarray([1, 2]), [4], [2], reduction="sum")
    assert loss.item() == pytest.approx(-math.log(total), rel=1e-12)
    x = an.asarray(np.log(p), requires_grad=True)
    assert an.gradcheck(lambda x: F.ctc_loss(x, an.asarray([1, 2]), [4], [2]), x)
    assert an.gradgradcheck(lambda x: F.ctc_loss(x, an.asarray([1, 2]), [4], [2]), x)


def test_impossible_and_refused():
    x = F.log_softmax(an.zeros((2, 1, 3), dtype=an.float32), -1)
    assert F.ctc_loss(x, an.asarray([[1, 1]]), [2], [2]).item() == math.inf
    assert F.ctc_loss(x, an.asarray([[1, 1]]), [2], [2], zero_infinity=True).item() == 0.0
    for args, options, message in (
        ((x, an.asarray([[1, 0]]), [2], [2]), {}, "other than blank=0"),
        ((x, an.asarray([[1, 3]]), [2], [2]), {}, r"in \[0, 2\]"),
        ((x, an.asarray([[1, 2]]), [3], [2]), {}, r"in \[0, 2\]"),
        ((x, an.asarray([[1, 2]]), [2], [2]), {"blank": 7}, r"blank must be a class in \[0, 2\], got 7"),
        ((an.ones(3), an.asarray([1]), [1], [1]), {}, "must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            F.ctc_loss(*args, **options)


def test_lengths_and_labels_are_arguments_of_a_compiled_function():
    """A program takes other targets than those it was recorded with, gives the bits of the eager loss, and refuses what that refuses."""
    x = an.asarray(rng.normal(size=(9, 3, 5)))

    def loss_and_gradient(x, targets, frames, lengths):
        return an.value_and_grad(lambda x: F.ctc_loss(F.log_softmax(x, -1), targets, frames, lengths))(x)

    program = an.compile(loss_and_gradient)
    for labels, frames, lengths in (
        ([[1, 2, 2], [3, 1, 4], [4, 4, 4]], [9, 9, 9], [3, 3, 3]),
        ([[2, 1, 1], [4, 0, 0], [3, 3, 1]], [9, 4, 7], [3, 1, 2]),
        ([[1, 0, 0], [0, 0, 0], [2, 1, 0]], [5, 0, 9], [1, 0, 2]),
    ):
        given = [an.asarray(v) for v in (labels, frames, lengths)]
        for mine, eager in zip(program(x, *given), loss_and_gradient(x, *given), strict=True):
            assert mine.tolist() == eager.tolist()
    assert len(program.steps) == 1
    with pytest.raises(ValueError, match="must hold classes"):
        program(
            x, an.asarray([[1, 2, 2], [3, 1, 9], [4, 4, 4]]), an.asarray([9, 9, 9]), an.asarray([3, 3, 3])
        )
