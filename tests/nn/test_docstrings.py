"""The docstring of every layer is whole, and tells of itself."""

import inspect
import pydoc
import re

import pytest

import anynet as an

LAYERS = sorted(
    name
    for name, value in vars(an.nn).items()
    if inspect.isclass(value) and issubclass(value, an.nn.Module) and not name.startswith("_")
)
VARIANTS = [
    name for name in LAYERS if hasattr(getattr(an.nn, name), "axes") and name[-2:] in ("1d", "2d", "3d")
]


@pytest.mark.parametrize("name", LAYERS)
def test_has_an_example_and_sends_nowhere(name):
    text = getattr(an.nn, name).__doc__
    assert ">>> " in text
    assert f"an.nn.{name}" in text or name in ("Module", "TimeDistributed")
    assert "$" not in text
    assert not re.search(r"(?i)\b(see|as|arguments as (for|in)) `[A-Z]\w*`[,:]? (of|with|for)", text)
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_names_its_own_axes(name):
    text = getattr(an.nn, name).__doc__
    assert {"1": "length", "2": "height, width", "3": "depth, height, width"}[name[-2]] in text
    assert f"an.nn.{name}(" in pydoc.render_doc(getattr(an.nn, name), renderer=pydoc.plaintext)


def test_a_subclass_without_docstring_has_none():
    class Own(an.nn.Conv2d):
        pass

    assert Own.__doc__ is None
    assert "images" in inspect.getdoc(Own)


def test_an_instance_has_the_docstring_of_its_class():
    assert an.nn.Conv1d(1, 1, 1).__doc__ == an.nn.Conv1d.__doc__
    assert "Conv2d" in an.nn.LazyConv2d.__doc__
    assert "height, width" in an.nn.LazyConv2d.__doc__
