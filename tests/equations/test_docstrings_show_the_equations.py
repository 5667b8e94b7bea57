"""The equations in docstrings are those that are tested: `make equations` writes them into those of functions, classes show them."""

import pytest

import anynet as an
from anynet import nn, optim
from anynet.equations.paragraphs import HEADING
from anynet.equations.registry import ENTRIES
from ci.equations import changes


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
    assert thing.__doc__.count("Equation:\n") == 1
    assert line in thing.__doc__


def test_a_class_has_it_before_its_example_and_its_own_text_around_it():
    @an.equations.equation("y = a * x", where="x = input; a")
    class Scaled(nn.Module):
        """Scaled.

        >>> 1 + 1
        2

        Source: nowhere.
        """

        a = 3.0

    lines = [line.strip() for line in Scaled.__doc__.splitlines()]
    assert lines == [
        "Scaled.",
        "",
        "Equation:",
        "y = a x",
        "(x: input; a)",
        "",
        ">>> 1 + 1",
        "2",
        "",
        "Source: nowhere.",
        "",
    ]
    assert Scaled().__doc__ == Scaled.__doc__
    assert type("Own", (Scaled,), {}).__doc__ is None


def test_no_docstring_has_it_twice():
    classes = [v for v in (*vars(nn).values(), *vars(optim).values()) if isinstance(v, type)]
    for thing in (*ENTRIES, *classes):
        assert (thing.__doc__ or "").count(f"{HEADING}\n") <= 1
