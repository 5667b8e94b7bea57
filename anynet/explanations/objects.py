"""Layers, losses, functions and optimizers: equation, gradient, shapes, source, and a check with numbers made now.

The equations are those of `anynet.equations`; functions of the array API that are too plain to have one there have the textbook's
formula of `anynet.explanations.derivatives`.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from anynet import equations, random
from anynet.autograd.debug.gradcheck import GradcheckError, gradcheck
from anynet.autograd.graph import GradientError
from anynet.autograd.primitive import Primitive
from anynet.equations.without import WITHOUT
from anynet.explanations import differences, formula
from anynet.explanations.derivatives import DERIVATIVES
from anynet.explanations.draws import drawn_checks
from anynet.explanations.examples import example_calls, example_made
from anynet.explanations.explanation import (
    Block,
    Cell,
    Check,
    Equations,
    Explanation,
    Paragraph,
    Table,
    equal,
    math_cell,
    partial,
    plain,
)
from anynet.explanations.recording import ExplanationError
from anynet.nn.module import Module
from anynet.ops.creation import asarray, zeros_like
from anynet.ops.manipulation import stack
from anynet.optim import LBFGS, SGD
from anynet.optim.lr_scheduler import LRScheduler
from anynet.optim.optimizer import Optimizer
from anynet.sparse_rows import SparseRows
from anynet.tensor import Parameter, Tensor, wrap
from anynet.testing import check_optimizer
from anynet.testing.cases import Case, every
from anynet_backends import resolve

__all__ = ["equation_blocks", "equation_of", "explain_object"]

_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCE = re.compile(r"[A-Z][\w’'-]+(?:(?:, | & | and )[A-Z][\w’'-]+)*(?: et al\.)?,? (?:19|20)\d\d\b")


def equation_of(thing: Any) -> Any:
    """Its `anynet.equations.Equation`, or None."""
    try:
        return equations.of(thing)
    except equations.NoEquationError:
        return None


def equation_block(equation: Any, part: str, heading: str) -> Equations:
    """The lines of an equation, or of its gradient."""
    lines = equation.text(part).splitlines()
    cells = [Cell(line, "", "") for line in lines]
    cells[0] = Cell(lines[0], rf"\[{equation.latex(part)}\]", equation.mathml(part))
    return Equations(cells, heading)


def explain_object(thing: Any, digits: int) -> Explanation:
    """The explanation of a class or function. `ExplanationError` where nothing is known of it."""
    name = _name(thing)
    equation = equation_of(thing)
    known = (
        DERIVATIVES.get(str(getattr(thing, "name", None) or getattr(thing, "__name__", "")))
        if _ours(thing)
        else None
    )
    case = _case(thing) if _ours(thing) else None
    optimizer = isinstance(thing, type) and issubclass(thing, Optimizer)
    if equation is None and known is None and case is None and not optimizer:
        reason = WITHOUT.get(getattr(thing, "__name__", "")) if _ours(thing) else None
        why = reason or "for one of yours give inputs: explain(f, x), explain(model, x, y, loss=…)"
        msg = f"explain: {name} has no equation; {why}"
        raise ExplanationError(msg)
    blocks: list[Block] = []
    summary = _summary(thing)
    if summary:
        blocks.append(Paragraph(summary))
    data: dict[str, Any] = {
        "kind": "object",
        "name": name,
        "summary": summary,
        "equation": None,
        "gradient": None,
        "where": [],
    }
    if equation is not None:
        blocks += equation_blocks(equation, data)
    elif known is not None:
        blocks += _of_formula(thing, known, data)
    checks, shapes = _checks(thing, case, equation)
    if equation is not None and not equation.gradient and any(what == _SLOPES_AGREE for what, _ in checks):
        words = (
            "That of these lines, by the chain rule; autograd's is compared with finite differences below."
        )
        blocks.append(Paragraph(words, "Gradient"))
    if shapes:
        blocks.append(Paragraph("\n".join(shapes), "Shapes in the example"))
    sources = _sources(thing)
    blocks.append(Paragraph("\n".join(sources), "Source"))
    if checks:
        rows = [[check.cell, plain(what), plain(check.note)] for what, check in checks]
        blocks.append(
            Table(["", "", ""], rows, "Checks, made now", stacked=lambda i: _check_lines(*checks[i]))
        )
    else:
        blocks.append(Paragraph("There is no example with which it could be checked here.", "Checks"))
    data |= {"shapes": shapes, "source": sources, "checks": [{"what": w, **c.to_json()} for w, c in checks]}
    data["ok"] = all(c.ok is not False for _, c in checks)
    return Explanation(f"{name}{_signature(thing)}", blocks, data)


def equation_blocks(equation: Any, data: dict[str, Any], heading: str = "Equation") -> list[Block]:
    """An equation, what its symbols are, and its gradient; in `data` as text."""
    blocks: list[Block] = [equation_block(equation, "lines", heading)]
    data["equation"], data["latex"] = equation.text(), equation.latex()
    where = [(n, m) for n, m in equation.where() if m]
    data["where"] = [list(pair) for pair in where]
    if where:
        blocks.append(Table(["symbol", "is"], [[plain(n), plain(m)] for n, m in where], "Where"))
    if equation.gradient:
        blocks.append(equation_block(equation, "gradient", "Gradient"))
        data["gradient"] = equation.text("gradient")
    return blocks


def _of_formula(prim: Any, known: Any, data: dict[str, Any]) -> list[Block]:
    y = ast.Name("y", ast.Load())
    tree = formula.parse(known.formula)
    blocks: list[Block] = [Equations([equal(math_cell(y), math_cell(tree))], "Equation")]
    lines = [equal(partial("y", n), math_cell(formula.parse(rule))) for n, rule in known.slopes.items()]
    lines += [
        equal(partial("L", n), math_cell(formula.substitute(formula.parse(rule), {"G": "∂L/∂y"})))
        for n, rule in known.pullbacks.items()
    ]
    if known.words:
        lines.append(plain(known.words + "; G is ∂L/∂y"))
    blocks.append(Equations(lines, "Gradient"))
    data["equation"], data["latex"] = f"y = {formula.text(tree)}", f"y = {formula.latex(tree)}"
    data["gradient"] = "\n".join(c.text for c in lines)
    return blocks


def _check_lines(what: str, check: Check) -> list[str]:
    line = f"{check} {what}" + (f": {check.note}" if check.note else "")
    return textwrap.wrap(line, 80, initial_indent="  ", subsequent_indent="      ")


# ----- what stands in the code -----


def _name(thing: Any) -> str:
    module = getattr(thing, "__module__", "") or ""
    short = getattr(thing, "__name__", None) or type(thing).__name__
    for start, shown in (
        ("anynet.nn.functional", "nn.functional"),
        ("anynet.nn.init", "nn.init"),
        ("anynet.nn", "nn"),
        ("anynet.optim.lr_scheduler", "optim.lr_scheduler"),
        ("anynet.optim", "optim"),
        ("anynet.losses", "losses"),
    ):
        if module.startswith(start):
            return f"{shown}.{short}"
    return f"an.{short}" if module.startswith("anynet") else str(short)


def _ours(thing: Any) -> bool:
    return (getattr(thing, "__module__", "") or "").partition(".")[0] == "anynet"


def _signature(thing: Any) -> str:
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    parts = []
    for p in found.parameters.values():
        stars = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        default = "" if p.default is p.empty else f"={p.default!r:.24}"
        parts.append(f"{stars}{p.name}{default}")
    line = f"({', '.join(parts)})"
    return line if len(line) <= 300 else f"({', '.join(p.partition('=')[0] for p in parts)})"


def _summary(thing: Any) -> str:
    doc = inspect.getdoc(thing) or ""
    first = doc.split("\n\n")[0]
    return " ".join(first.split()).replace("``", "")


def _sources(thing: Any) -> list[str]:
    """The papers that the docstring names, and where the code is."""
    doc = " ".join((inspect.getdoc(thing) or "").split())
    found = list(dict.fromkeys(_SOURCE.findall(doc)))
    target = (
        thing.reference
        if isinstance(thing, Primitive)
        else inspect.unwrap(thing)
        if not isinstance(thing, type)
        else thing
    )
    try:
        path, line = Path(inspect.getsourcefile(target) or ""), inspect.getsourcelines(target)[1]
        where = path.relative_to(_PACKAGE.parent) if path.is_relative_to(_PACKAGE.parent) else path
        found.append(f"{where}, line {max(line, 1)}")
    except (TypeError, OSError):
        found.append(str(getattr(thing, "__module__", "")))
    return found


# ----- the checks -----


def _case(thing: Any) -> Case | None:
    """Its example among the cases of the parity suite."""
    names = [getattr(thing, "__name__", "")]
    names += [f"linalg.{names[0]}", f"fft.{names[0]}", f"{names[0]}2d"]
    cases = {c.name: c for c in every()}
    found = next((cases[n] for n in names if n in cases), None)
    if found is None and names[0]:
        found = next((c for n, c in cases.items() if n.startswith(f"{names[0]}, ")), None)
    return found


def _inputs(case: Case) -> list[Tensor]:
    made = []
    for i, shape in enumerate(case.shapes):
        generator = random.Generator(100 + i)
        x = random.uniform(shape, low=case.low, high=case.high, dtype="float64", generator=generator)
        made.append(x.requires_grad_())
    return made


def _checks(thing: Any, case: Case | None, equation: Any) -> tuple[list[tuple[str, Check]], list[str]]:
    if isinstance(thing, type) and issubclass(thing, Optimizer):
        return _optimizer_checks(thing, equation), []
    if isinstance(thing, type) and issubclass(thing, LRScheduler):
        return _schedule_checks(thing, equation), []
    checks: list[tuple[str, Check]] = []
    shapes: list[str] = []
    state = random.get_state()
    try:
        if case is not None:
            inputs = _inputs(case)
            if not case.steps:
                checks.append((_SLOPES_AGREE, _gradchecked(case, inputs)))
            if case.make is not None:
                shapes, more = _layer_checks(case, inputs, equation)
                checks += more
        if equation is not None and inspect.isfunction(thing):
            checks += drawn_checks(thing, equation)
        if _ours(thing) and not any(what != _SLOPES_AGREE and c.ok for what, c in checks):
            checks, shapes = _with_the_example(thing, equation, checks, shapes)
        if equation is not None and not any(what != _SLOPES_AGREE for what, _ in checks):
            if any(line.random for line in equation.lines):
                checks.append((_NUMBERS_AGREE, Check(None, "it draws numbers, which a call does not tell")))
    finally:
        random.set_state(state)
    if not checks and isinstance(thing, Primitive):
        checks += _primitive_checks(thing)
    return checks, shapes


_SLOPES_AGREE = "gradients by autograd = central differences, float64"
_NUMBERS_AGREE = "the code = the equation, float64"


def _with_the_example(
    thing: Any, equation: Any, checks: list[tuple[str, Check]], shapes: list[str]
) -> tuple[list[tuple[str, Check]], list[str]]:
    """The checks and shapes with those of the calls in the docstring's example, where there were none."""
    for call in (call.in_double() for call in example_calls(thing)):
        try:
            y = call.run()
        except (TypeError, ValueError, IndexError, RuntimeError):
            continue
        outputs = _tensors(y)
        if isinstance(y, int | float):
            outputs = [asarray(float(y), dtype="float64")]
        if not shapes and outputs:
            shapes = _shapes(_tensors([call.args, call.options]), outputs) + _of_parameters(call.function)
        if not checks and outputs and call.slopes() and not any(x is y for x in call.slopes()):
            slopes = [x.requires_grad_() for x in call.slopes()]
            example = Case("", lambda *x, call=call: _tensors(call.at(x))[0], tuple(x.shape for x in slopes))
            checks = [(_SLOPES_AGREE, _gradchecked(example, slopes))]
        made = equation and _equated(call.function, equation, call.args, outputs, call.options)
        if made is not None:
            return [
                *((what, c) for what, c in checks if what != _NUMBERS_AGREE),
                (_NUMBERS_AGREE, made),
            ], shapes
    return checks, shapes


def _tensors(value: Any) -> list[Tensor]:
    """The Tensors in a result, or in arguments, in order."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        return [x for part in value for x in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def _shapes(given: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
    into, out = (", ".join(str(tuple(x.shape)) for x in part) or "a number" for part in (given, outputs))
    return [f"input {into} → output {out}"]


def _of_parameters(thing: Any) -> list[str]:
    named = thing.named_parameters() if isinstance(thing, Module) else ()
    return [f"{n} {tuple(p.shape)}" for n, p in named]


_SLOPES = 200
"""As many slopes are checked one by one; of more, that is of whole networks, one direction in each argument: seconds,
not a minute."""


def _gradchecked(case: Case, inputs: Sequence[Tensor]) -> Check:
    count = sum(x.size for x in inputs)
    function, targets, what = case.function, list(inputs), f"{count} slopes"
    if count > _SLOPES:
        function, targets = _along_lines(case.function, inputs)
        what = f"{count} slopes, along a random direction of each argument"
    try:
        with resolve("cpu")[0].errstate():
            gradcheck(function, targets)
    except GradcheckError as error:
        return Check(False, str(error))
    except (GradientError, ValueError, TypeError) as error:
        return Check(None, str(error).partition(";")[0])
    shapes = ", ".join("×".join(map(str, x.shape)) or "number" for x in inputs)
    return Check(True, f"{what}, arguments {shapes}")


def _along_lines(f: Callable[..., Any], inputs: Sequence[Tensor]) -> tuple[Callable[..., Any], list[Tensor]]:
    """f as a function of one number for each argument, how far it is moved along a random direction, and these numbers, 0."""
    generator = random.Generator(9)
    points = [x.detach() for x in inputs]
    ways = [random.normal(x.shape, dtype="float64", generator=generator) for x in points]

    def moved(*far: Tensor) -> Any:
        return f(*(x + t * v for x, t, v in zip(points, far, ways, strict=True)))

    return moved, [Tensor(0.0, dtype="float64", requires_grad=True) for _ in points]


def _layer_checks(
    case: Case, inputs: Sequence[Tensor], equation: Any
) -> tuple[list[str], list[tuple[str, Check]]]:
    """The shapes of a layer's case, and its result against its equation, which may not have all of the case's options."""
    assert case.make is not None
    random.manual_seed(11)
    net = case.make().to("float64")
    given = [x.detach() for x in inputs[: len(case.shapes) - len(list(net.named_parameters()))]]
    outputs = _tensors(net(*given))
    made = None if equation is None else _equated(net, equation, given, outputs, {})
    return _shapes(given, outputs) + _of_parameters(net), [] if made is None else [(_NUMBERS_AGREE, made)]


def _equated(
    thing: Any, equation: Any, given: Sequence[Any], outputs: Sequence[Tensor], options: dict[str, Any]
) -> Check | None:
    """The result of the code against the equation; None where the equation needs what a call does not tell (what is drawn)."""
    if any(line.random and line.name in equation.result for line in equation.lines):
        return None
    found = None
    for axes in (None, *(_numbers_of_axes(given) if equation.spatial else ())):
        form = equation if axes is None else equations.of(thing, axes)  # first those that the name says
        with suppress(*_CANNOT_BE_EVALUATED):
            found = form.result_of(form.evaluate(form.bind(thing, *given, **options)))
            break
    values = found if isinstance(found, tuple) else () if found is None else (found,)
    if len(values) < len(outputs) or not outputs:
        return None
    for a, b in zip(outputs, values, strict=False):
        check = _same_numbers(
            a.numpy().astype("float64"), b if hasattr(b, "shape") else wrap(a._data * 0 + b).numpy()
        )
        if check is None or not check.ok:
            return check
    return Check(True, f"{sum(a.size for a in outputs)} numbers")


_CANNOT_BE_EVALUATED = (
    equations.EquationError, equations.NoEquationError, TypeError, ValueError, KeyError, IndexError, AttributeError,
)  # fmt: skip


def _numbers_of_axes(given: Sequence[Any]) -> list[int]:
    """How many axes of the first argument may be spatial: without samples and channels, without steps as well, or those of an image."""
    count = len(getattr(given[0], "shape", ())) if given else 0
    return list(dict.fromkeys(n for n in (count - 2, count - 3, 2) if n in (1, 2, 3)))


def _same_numbers(a: Any, b: Any) -> Check | None:
    """Whether an equation gives these numbers; it may have them in another order of axes, or with several axes as one."""
    b = (b.numpy() if hasattr(b, "numpy") else b).astype("float64")
    if a.size != b.size:
        return None
    if a.shape != b.shape:
        a, b = a.reshape(-1).copy(), b.reshape(-1).copy()
        a.sort()
        b.sort()
    return differences.agree(a, b, 1e-10)


def _primitive_checks(prim: Any) -> list[tuple[str, Check]]:
    generator = random.Generator(5)
    xs = [
        random.uniform((4,), low=0.1, high=0.9, dtype="float64", generator=generator).requires_grad_()
        for _ in prim.inputs
    ]
    try:
        gradcheck(prim, xs)
    except GradcheckError as error:
        return [("gradients by autograd = central differences, float64", Check(False, str(error)))]
    except (GradientError, ValueError, TypeError):
        return []
    return [("gradients by autograd = central differences, float64", Check(True, "4 points"))]


def _schedule_checks(cls: type[LRScheduler], equation: Any) -> list[tuple[str, Check]]:
    """The rates of ten steps against the equation, with the options of the docstring's example."""
    made = example_made(cls)
    if made is None or equation is None:
        return []
    optimizer = SGD([Parameter([1.0])], lr=0.5, momentum=0.9)
    schedule: Any = cls(optimizer, *made[0][1:], **made[1])
    ours, theirs = [], []
    for t in range(10):
        values = equation.evaluate(equation.bind(schedule, t=t))
        theirs.append(float(values[equation.result[0]]))
        ours.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    check = differences.agree(
        asarray(ours, dtype="float64").numpy(), asarray(theirs, dtype="float64").numpy(), 1e-10
    )
    return [("ten rates of the code = the equation", Check(True, "") if check.ok else check)]


def _five_steps(cls: type[Optimizer], options: dict[str, Any], equation: Any) -> list[tuple[str, Check]]:
    """Five steps of an optimizer against its equation, where that says the parameters of each step."""
    generator = random.Generator(3)
    start = random.normal((4, 3), dtype="float64", generator=generator)
    gradients = random.normal(
        (6, 4, 3), dtype="float64", generator=generator
    )  # the first is not used: steps count from 1
    p, present = Parameter(start.numpy().copy()), zeros_like(gradients)
    try:
        optimizer: Any = cls([p], **options)
        after = []
        for k in range(1, 6):
            p.grad = gradients[k] + 0.0
            if optimizer.sparse_only:  # two of the four rows
                rows = sorted((k % 4, (k + 1) % 4))
                p.grad = SparseRows(rows, stack([gradients[k, i, :] for i in rows]), p.shape)
                for i in rows:
                    present[k, i, :] = 1.0
            optimizer.step()
            after.append(p.detach() + 0.0)
        given = {"r": present.numpy()} if optimizer.sparse_only else {}
        made = equation.evaluate(
            equation.bind(optimizer, G=gradients.numpy(), p_start=start.numpy(), **given)
        )
        found = made[equation.result[0]]
    except (
        equations.EquationError,
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
    ):
        return []
    check = _same_numbers(stack(after).numpy(), found) if hasattr(found, "shape") else None
    return (
        []
        if check is None
        else [
            (
                "five steps of the code = the equation, float64",
                check if not check.ok else Check(True, "60 numbers"),
            )
        ]
    )


def _optimizer_checks(cls: type[Optimizer], equation: Any) -> list[tuple[str, Check]]:
    """Five steps against the equation, and what `anynet.testing.check_optimizer` finds."""
    required = [
        p
        for p in list(inspect.signature(cls).parameters.values())[1:]
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    if any(p.name != "lr" for p in required):
        return []
    options: dict[str, Any] = {"lr": 0.01} if "lr" in inspect.signature(cls).parameters else {}
    steps = [] if equation is None else _five_steps(cls, options, equation)
    if issubclass(cls, LBFGS):  # what is checked below calls step() without a closure
        return steps
    try:
        report = check_optimizer(
            lambda p: cls(p, **options), raise_exception=False, steps=30, devices=["cpu"]
        )
    except (TypeError, ValueError) as error:
        return [*steps, ("training, copies, other devices", Check(None, str(error).partition("\n")[0]))]
    return steps + [
        (c.name, Check(None if c.skipped else c.problem is None, c.problem or c.skipped or ""))
        for c in report.checks
    ]
