"""The equations in docstrings are those that are tested: `make equations` writes them."""

import pytest

import anynet as an
from anynet import nn, optim
from anynet.equations.registry import ENTRIES
from ci.equations import HEADING, changes


def test_docstrings_are_as_they_are_written():
    different = [path.name for path, source, new in changes() if source != new]
    assert not different, f"run `make equations`: {different}"


def test_updates_are_written_once():
    """What a step does stands in the equation alone: no second form of it by hand above."""
    twice = [
        t.__name__ for t in ENTRIES if "←" in (t.__doc__ or "").partition(HEADING)[0] and HEADING in t.__doc__
    ]
    assert twice == [
        "batch_norm",
        "instance_norm",
        "SyncBatchNorm",
    ]  # running statistics, which their equations leave out


@pytest.mark.parametrize(
    ("thing", "line"),
    [
        (nn.ReLU, "  y = max(x, 0)\n"), (nn.Conv2d, "u[t, i] = s t + d i − a"), (nn.LazyLinear, "yₖ = Σ_j W[k, j] xⱼ + bₖ"),
        (nn.functional.conv3d, "L = ⌊(T + 2 p − d · (K − 1) − 1) / s⌋ + 1"), (optim.Adam, "mₜ = β₁ mₜ₋₁ + (1 − β₁) gₜ"),
        (an.optim.StepLR, "η = η₀"),
    ],
)  # fmt: skip
def test_help_shows_them(thing, line):
    assert "Equation:\n" in thing.__doc__
    assert line in thing.__doc__
