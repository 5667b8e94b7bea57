"""A network layer by layer: equation, input, output, the gradients of the output, the input and the parameters, each checked."""

from __future__ import annotations

import contextlib
import copy
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anynet import streams
from anynet.autograd.backward import backprop
from anynet.autograd.pytree import flatten, unflatten
from anynet.explanations import differences
from anynet.explanations.chain_rule import jsonable
from anynet.explanations.explanation import (
    Block,
    Cell,
    Check,
    Explanation,
    Paragraph,
    Table,
    formatted,
    plain,
)
from anynet.explanations.objects import equation_blocks, equation_of
from anynet.explanations.recording import ExplanationError, as_float64
from anynet.nn import containers, transformer
from anynet.nn.module import Module
from anynet.ops import reductions
from anynet.ops.elementwise import positive
from anynet.tensor import Leaf, Tensor, enable_grad, no_grad, wrap
from anynet.train.objectives import Objective
from anynet_backends import backend_of, resolve

__all__ = ["explain_model", "in_float64", "layer_calls"]


@dataclass(eq=False)
class Call:
    """One call of a layer, with the state of the random numbers before it."""

    name: str
    module: Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[Tensor]
    state: dict[str, int]

    def again(self, first: Any) -> list[Tensor]:
        """The results with another first argument, and the random numbers of then."""
        with self._then():
            return tensors(self.module(*((first, *self.args[1:]) if self.args else ()), **self.kwargs))

    @contextlib.contextmanager
    def _then(self) -> Iterator[None]:
        before = streams.get_state()
        streams.set_state(self.state)
        try:
            yield
        finally:
            streams.set_state(before)


def tensors(tree: Any) -> list[Tensor]:
    """The floating-point Tensors in a result."""
    return [x for x in flatten(tree)[0] if isinstance(x, Tensor) and x.dtype.is_floating]


def in_float64(model: Module) -> Module:
    """A copy in double precision."""
    made: Module = copy.deepcopy(model)
    return made.to("float64")


def is_layer(module: Module) -> bool:
    """Whether it is explained as one: layers of this library, and modules without others inside."""
    if isinstance(module, (containers.Sequential, containers.ModuleList, containers.ModuleDict)):
        return False
    own = type(module).__module__
    return (own.startswith("anynet.nn.") and own != transformer.__name__) or not list(module.children())


@contextlib.contextmanager
def layer_calls(model: Module) -> Iterator[list[Call]]:
    """Within the block, the calls of the layers of a model are noted."""
    found: list[Call] = []
    with contextlib.ExitStack() as stack:
        inside: set[int] = set()
        for name, module in model.named_modules():
            if id(module) not in inside and is_layer(module):
                inside |= {id(m) for m in module.modules()}
                _watch(name or type(module).__name__, module, found, stack)
        yield found


def _watch(name: str, module: Module, found: list[Call], stack: contextlib.ExitStack) -> None:
    """Note the calls of one layer, until the stack is closed. Hooks do not see arguments by name, which its `forward` does."""
    forward, given = module.forward, []

    def noted(*args: Any, **kwargs: Any) -> Any:
        given.append((dict(streams.get_state()), args, kwargs))
        return forward(*args, **kwargs)

    def after(m: Module, args: Any, output: Any) -> Any:
        state, positional, named = given.pop()
        leaves, structure = flatten(output)
        # of its own, so that its gradient is what comes from outside: one result of a layer may be computed from another
        leaves = [positive(x) if isinstance(x, Tensor) and x.dtype.is_floating else x for x in leaves]
        found.append(Call(name, m, positional, named, tensors(leaves), state))
        return unflatten(structure, leaves)

    own = vars(module).get("forward")
    vars(module)["forward"] = noted
    stack.callback(lambda: vars(module).pop("forward") if own is None else vars(module).update(forward=own))
    stack.callback(module.register_forward_hook(after).remove)


def explain_model(model: Module, inputs: Sequence[Any], loss: Any, digits: int) -> Explanation:
    """The explanation of a model on a batch: `inputs` are those of the model, then the targets where `loss` is given."""
    if not inputs:
        msg = (
            "explain: a model is explained on a batch: explain(model, x, y, loss='mse'), or explain(model, x)"
        )
        raise TypeError(msg)
    given, target = (tuple(inputs), None) if loss is None else (tuple(inputs[:-1]), inputs[-1])
    if loss is None:
        taken_by("explain", model, given)
    elif not given:
        msg = "explain: loss= needs targets: explain(model, x, y, loss=…)"
        raise ExplanationError(msg)
    state = dict(streams.get_state())
    try:
        with resolve("cpu")[0].errstate():
            return _explained(in_float64(model), given, target, loss, digits)
    finally:
        streams.set_state(state)


def taken_by(where: str, model: Module, inputs: Sequence[Any]) -> None:
    """Refuse inputs of another number than the model has: targets without a loss."""
    try:
        inspect.signature(model.forward).bind(*inputs)
    except TypeError as error:
        msg = (
            f"{where}: {type(model).__name__} does not take {len(inputs)} inputs ({error}); with targets give loss=: a name "
            "('cross_entropy', 'mse', …) or a function of output and target"
        )
        raise ExplanationError(msg) from None


def _tensor(x: Any) -> Any:
    if isinstance(x, (list, tuple, int, float)):
        x = Tensor(x)
    return as_float64(x)


def _explained(net: Module, given: tuple[Any, ...], target: Any, loss: Any, digits: int) -> Explanation:
    xs = [_tensor(x) for x in given]
    xs = [x.detach().requires_grad_() if isinstance(x, Tensor) and x.dtype.is_floating else x for x in xs]
    objective = None if loss is None else Objective(loss)
    y = None if target is None else _tensor(target)
    start = dict(streams.get_state())

    def run() -> Tensor:
        output = net(*xs)
        if objective is not None:
            return objective.function(output, y)  # type: ignore[no-any-return]
        parts = tensors(output)
        total = reductions.sum(parts[0])
        for other in parts[1:]:
            total = total + reductions.sum(other)
        return total

    net.zero_grad()
    with layer_calls(net) as calls, enable_grad():
        value = run()
    if value.size != 1 or value.edge is None:
        msg = f"explain: the loss must be one number with a graph, got shape {tuple(value.shape)}"
        raise ExplanationError(msg)
    for call in calls:
        for x in (*call.outputs, *tensors(call.args[:1])):
            if x.edge is not None and type(x.edge) is not Leaf:
                x.retain_grad()
    value.backward(retain_graph=True)
    uses: dict[int, int] = {}
    for call in calls:
        uses[id(call.module)] = uses.get(id(call.module), 0) + 1
    blocks, rows = [], []
    for call in calls:
        block, row = _layer(call, uses[id(call.module)], digits)
        blocks.append(block)
        rows.append(row)
    table, sums = _parameters(net, run, start, digits)
    name = objective.name if objective is not None else "sum of the outputs"
    shape = tuple(xs[0].shape) if isinstance(xs[0], Tensor) else ()
    head = f"{type(net).__name__} on an input of shape {shape}: {name} = {formatted(value, digits)}"
    intro = Paragraph(
        f"L is the {name}. {len(calls)} layers, {sum(p.size for p in net.parameters()):,} parameters, mode "
        f"{'training' if net.training else 'evaluation'}; computed in float64. ✓ stands where a gradient agrees with finite differences "
        "of the layer alone; the table at the end has those of the whole network."
    )
    data = {"kind": "model", "loss": name, "value": value.item(), "layers": rows, "parameters": sums}
    wrong = [c for c in _checks(data) if c is False]
    verdict = (
        f"All {sum(c is not None for c in _checks(data))} checks agree."
        if not wrong
        else f"{len(wrong)} checks do not agree."
    )
    data["ok"] = not wrong
    equation = equation_of(objective.known or objective.function) if objective is not None else None
    if equation is not None:
        blocks += equation_blocks(equation, data, f"L: {name}")
    return Explanation(head, [intro, *blocks, table, Paragraph(verdict)], data)


def _checks(data: Any) -> list[Any]:
    if isinstance(data, Mapping):
        own = [data["ok"]] if "ok" in data else []
        return own + [c for v in data.values() for c in _checks(v)]
    return [c for v in data for c in _checks(v)] if isinstance(data, list) else []


def _local(call: Call, uses: int) -> tuple[Check, dict[str, Check], Any]:
    """The layer's own gradients, of ⟨∂L/∂output, output⟩, against finite differences: of the input, and of the parameters."""
    g = [_gradient(y) for y in call.outputs]
    host = [v.numpy() for v in g]
    x = next(iter(tensors(call.args[:1])), None)
    params = dict(call.module.named_parameters())
    first: Any = x.detach().requires_grad_() if x is not None else (call.args[0] if call.args else None)
    with enable_grad():
        outputs = call.again(first)
    roots = [(y.edge, v._data) for y, v in zip(outputs, g, strict=True) if y.edge is not None]
    wanted: list[Tensor] = [
        *([first] if x is not None else []),
        *(p for p in params.values() if p.edge is not None),
    ]
    found = backprop(roots, targets=[w.edge for w in wanted]) or [] if roots else [None] * len(wanted)
    grads = {
        id(w): wrap(gi).numpy() if gi is not None else w.numpy() * 0.0
        for w, gi in zip(wanted, found, strict=True)
    }

    def forward(moved: Tensor) -> Sequence[Tensor]:
        with no_grad():
            return call.again(moved)

    at_input = Check(None, "no floating-point input")
    if x is not None and isinstance(first, Tensor):
        at_input = differences.directional(forward, x.detach(), host, grads[id(first)])
    of_params = {}
    for name, p in params.items():
        if id(p) not in grads:
            of_params[name] = Check(None, "frozen")
            continue
        check = differences.directional(_with(p, lambda: forward(first)), p.detach(), host, grads[id(p)])  # noqa: B023
        if check.ok and uses == 1 and p.grad is not None:
            check = differences.agree(grads[id(p)], p.grad.numpy(), 1e-8)
        of_params[name] = check
    return at_input, of_params, x


def _with(p: Tensor, f: Any) -> Any:
    """f as a function of a parameter."""

    def g(moved: Tensor) -> Any:
        before = p._data
        p._data = moved._data
        try:
            return f()
        finally:
            p._data = before

    return g


def _gradient(y: Tensor) -> Tensor:
    return (
        y.grad if y.edge is not None and y.grad is not None else wrap(backend_of(y._data).zeros_like(y._data))
    )


def _layer(call: Call, uses: int, digits: int) -> tuple[Block, dict[str, Any]]:
    at_input, of_params, x = _local(call, uses)
    equation = equation_of(type(call.module))
    lines = equation.text().splitlines() if equation is not None else []
    rows: list[list[Cell]] = []
    shown = [a for a in call.args if isinstance(a, Tensor)][:1]
    if shown:
        gradient = x.grad if x is not None and x.edge is not None else None
        rows.append(
            [
                plain("input"),
                plain(formatted(shown[0], digits)),
                plain(formatted(gradient, digits)),
                at_input.cell,
            ]
        )
    for i, y in enumerate(call.outputs):
        label = "output" if len(call.outputs) == 1 else f"output {i}"
        rows.append(
            [plain(label), plain(formatted(y, digits)), plain(formatted(_gradient(y), digits)), plain("")]
        )
    params = dict(call.module.named_parameters())
    for name, p in params.items():
        rows.append(
            [plain(name), plain(formatted(p, digits)), plain(formatted(p.grad, digits)), of_params[name].cell]
        )
    head = f"{call.name}: {repr(call.module).partition(chr(10))[0]}" + (
        f", used {uses} times" if uses > 1 else ""
    )
    table = _LayerTable(
        ["", "value", "gradient of L", "difference"], rows, head, equation=equation, lines=lines
    )
    data = {
        "name": call.name, "layer": type(call.module).__name__, "equation": "\n".join(lines) or None,
        "input": jsonable(shown[0]) if shown else None,
        "outputs": [{"value": jsonable(y.detach()), "gradient": jsonable(_gradient(y))} for y in call.outputs],
        "input_gradient": jsonable(x.grad) if x is not None and x.edge is not None and x.grad is not None else None,
        "input_check": at_input.to_json(),
        "parameters": {
            n: {"value": jsonable(p.detach()), "gradient": None if p.grad is None else jsonable(p.grad), "check": of_params[n].to_json()}
            for n, p in params.items()
        },
    }  # fmt: skip
    return table, data


@dataclass
class _LayerTable(Table):
    """A table under the equation of its layer."""

    equation: Any = None
    lines: Sequence[str] = ()

    def text(self) -> str:
        inner = Table(self.head, self.rows).text()
        equation = [
            row
            for line in self.lines
            for row in textwrap.wrap(line, 76, initial_indent="    ", subsequent_indent="        ")
        ]
        heading = textwrap.fill(self.heading, 80, subsequent_indent="    ")
        return "\n".join([heading, *equation, *(f"  {line}" for line in inner.splitlines())])

    def html(self) -> str:
        whole = super().html()
        if self.equation is None:
            return whole
        return whole.replace("</h3>", f'</h3><div class="an-equation">{self.equation.mathml()}</div>', 1)

    def latex(self) -> str:
        whole = super().latex()
        if self.equation is None:
            return whole
        first, _, rest = whole.partition("\n")
        return f"{first}\n\\[{self.equation.latex()}\\]\n{rest}"


def _parameters(
    net: Module, run: Any, start: dict[str, int], digits: int
) -> tuple[Block, list[dict[str, Any]]]:
    """The gradients of the parameters, and finite differences of the whole network."""

    def whole() -> list[Tensor]:
        streams.set_state(start)
        with no_grad():
            return [run()]

    rows, data = [], []
    for name, p in net.named_parameters():
        if p.grad is None:
            continue
        like = p.numpy()
        check = differences.directional(_with(p, whole), p.detach(), [1.0], p.grad.numpy())
        norm = float((like**2).sum()) ** 0.5
        size = f"{float((p.grad.numpy() ** 2).sum()) ** 0.5 / norm:.3g}" if norm else "–"
        rows.append(
            [
                plain(name),
                plain("×".join(map(str, p.shape))),
                plain(formatted(p.grad, digits)),
                plain(size),
                check.cell,
            ]
        )
        data.append(
            {"name": name, "shape": list(p.shape), "gradient": jsonable(p.grad), "check": check.to_json()}
        )
    return Table(
        ["parameter", "shape", "gradient of L", "‖gradient‖ / ‖·‖", "difference"], rows, "All parameters"
    ), data
