"""Every case of the parity table against finite differences, to second order."""

import pytest

import anynet as an
from anynet.testing.parity import CASES
from anynet_backends import philox

SMOOTH = [c for c in CASES if not c.steps]


def inputs(case):
    return tuple(
        an.Tensor(philox.uniform(3, 9, i, shape, case.low, case.high), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    )


@pytest.mark.parametrize("case", SMOOTH, ids=lambda c: c.name)
def test_first_order(case):
    assert an.gradcheck(case.function, inputs(case))


@pytest.mark.parametrize("case", [c for c in SMOOTH if c.second_order], ids=lambda c: c.name)
def test_second_order(case):
    assert an.gradgradcheck(case.function, inputs(case))
