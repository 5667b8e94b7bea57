"""Each public layer, function, initializer, optimizer and schedule has an equation that can be read and shown, or a reason why not."""

import inspect
import xml.dom.minidom

import pytest

from anynet import nn, optim
from anynet.equations import NoEquationError, of
from anynet.equations.language import undeclared
from anynet.equations.without import WITHOUT
from anynet.nn import functional
from layer_examples import LAYERS

PUBLIC = {
    **{f"nn.{n}": getattr(nn, n) for n in LAYERS if not n.startswith("_")},
    **{
        f"nn.functional.{n}": f
        for n, f in vars(functional).items()
        if inspect.isfunction(f) and not n.startswith("_")
    },
    **{f"nn.init.{n}": getattr(nn.init, n) for n in nn.init.__all__},
    **{f"optim.{n}": c for n, c in vars(optim).items() if inspect.isclass(c) and not n.startswith("_")},
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_is_there_and_can_be_shown(name):
    thing = PUBLIC[name]
    if name.rpartition(".")[2] in WITHOUT:
        with pytest.raises(NoEquationError, match="has no equation"):
            of(thing)
        return
    equation = of(thing)
    for part in ("lines", "gradient"):
        for text in (equation.text(part), equation.latex(part), equation.mathml(part)):
            assert "[...]" not in text
        xml.dom.minidom.parseString(equation.mathml(part).replace("&#x2062;", "").replace("&#x2061;", ""))
        assert equation.latex(part).count("{") == equation.latex(part).count("}")
    given = {f"d{n}" for n in (*equation.result, *(s.name for s in equation.symbols))}
    names = {line.name for line in equation.lines}
    assert not undeclared(equation.lines, equation.symbols, set())
    assert not undeclared(equation.gradient, equation.symbols, given | names)
    assert equation.where() or not equation.symbols


def test_reasons_are_of_public_names():
    assert set(WITHOUT) <= {name.rpartition(".")[2] for name in PUBLIC}
