"""Every row of the table of `anynet.torch`: its lines run here and with PyTorch, and agree in values, dtypes, shapes and gradients."""

import numpy as np
import pytest

import anynet.torch as ours
from anynet.torch.table import TABLE

theirs = pytest.importorskip("torch")
LINES = [(name, line) for name, row in TABLE.items() for line in row.examples]


def tensors(torch):
    """The tensors that lines name; x, y, v, pos, sq, spd, b are variables."""
    draw = np.random.default_rng(7)

    def new(array, grad=True):
        t = torch.tensor(array.tolist(), dtype=torch.float32)
        return t.requires_grad_() if grad else t

    square = draw.normal(size=(3, 3))
    named = {
        "x": new(draw.normal(size=(3, 4))),
        "y": new(draw.normal(size=(3, 4))),
        "u": new(draw.uniform(-0.9, 0.9, size=(3, 4))),
        "v": new(draw.normal(size=4)),
        "pos": new(draw.uniform(0.2, 2.0, size=(3, 4))),
        "sq": new(square),
        "spd": new(square @ square.T + np.eye(3)),
        "b": new(draw.normal(size=(2, 3, 4))),
        "i": torch.tensor([[0, 1, 2, 0], [2, 1, 0, 1], [1, 1, 0, 2]]),
        "perm": torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]]),
        "m": torch.tensor(
            [[True, False, True, False], [False, False, True, True], [True, True, False, False]]
        ),
        "special": torch.tensor([0.0, -0.0, 1.0, float("inf"), -float("inf"), float("nan"), -2.5, 0.5]),
    }
    return {**named, "torch": torch}


def same(a, b, line):
    """Values of this room and of PyTorch."""
    if isinstance(b, theirs.Tensor):
        assert isinstance(a, ours.Tensor), (line, type(a))
        assert tuple(a.shape) == tuple(b.shape), line
        assert f"torch.{a.dtype}" == str(b.dtype), line
        left, right = np.asarray(a.detach().numpy()), b.detach().resolve_conj().numpy()
        np.testing.assert_allclose(left, right, rtol=2e-5, atol=2e-5, err_msg=line)
    elif isinstance(b, (tuple, list)):
        assert len(a) == len(b), line
        assert getattr(a, "_fields", None) is None or all(hasattr(b, n) for n in a._fields), line
        for p, q in zip(a, b, strict=True):
            same(p, q, line)
    elif isinstance(b, theirs.dtype):
        assert f"torch.{a}" == str(b), line
    else:
        assert a == b, line
        assert type(a) is type(b) or isinstance(b, theirs.Size), line


def weighted(value, torch):
    """A number that depends on every floating-point result."""
    parts = value if isinstance(value, (tuple, list)) else [value]
    total = None
    for p in parts:
        if isinstance(p, torch.Tensor) and p.requires_grad and not p.is_complex():
            weights = torch.arange(p.numel()).view(p.shape).float() * 0.1 + 1.0
            term = (p.float() * weights).sum()
            total = term if total is None else total + term
    return total


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
@pytest.mark.filterwarnings("ignore")  # of PyTorch's own names that it calls deprecated
def test_agrees(name, line):
    here, there = tensors(ours), tensors(theirs)
    expected = eval(line, there)
    found = eval(line, here)
    same(found, expected, line)
    total = weighted(expected, theirs)
    if total is None or not bool(theirs.isfinite(total)):
        return
    total.backward()
    mine = weighted(found, ours)
    if mine is not None:
        mine.backward()
    for key, t in there.items():
        if isinstance(t, theirs.Tensor) and t.requires_grad:
            g = here[key].grad
            if t.grad is None:
                assert g is None or not bool(g.abs().sum()), (line, key)  # zeros for what PyTorch leaves out
            else:
                g = here["torch"].zeros_like(here[key]) if g is None else g
                np.testing.assert_allclose(
                    g.detach().numpy(), t.grad.numpy(), rtol=2e-4, atol=2e-4, err_msg=f"{line}: {key}"
                )


IN_PLACE = [
    row for row in TABLE.values() if row.in_place and any(f".{row.name}(" in line for line in row.examples)
]


@pytest.mark.parametrize("row", IN_PLACE, ids=lambda row: f"{row.name}_")
@pytest.mark.filterwarnings("ignore")
def test_the_form_in_place_agrees(row):
    for line in row.examples:
        target, dot, rest = line.partition(f".{row.name}(")
        if not dot or target not in ("x", "i", "m", "pos", "u", "sq", "spd"):
            continue
        results = []
        for torch in (ours, theirs):
            names = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in tensors(torch).items()}
            names["whole"] = torch.stack([names[target]] * 2)
            names[target] = names["whole"][1]  # a view
            try:
                y = eval(f"{target}.{row.name}_({rest}", names)
                results.append((y, names[target], names["whole"]))
            except RuntimeError as error:  # a result of another kind
                results.append(str(error)[:40])
        if isinstance(results[1], str):
            assert isinstance(results[0], str), line
        else:
            same(results[0], results[1], f"{line} in place")
