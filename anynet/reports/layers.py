"""Inside the network: its layers, what they put out, and how far a step of the optimizer moves them."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

import anynet as an
from anynet.autograd.pytree import map_tree
from anynet.equations import NoEquationError, of
from anynet.nn.members import walk
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.reports.charts import Series, bars, heat_map, radar
from anynet.reports.held_out import binned
from anynet.reports.record import objective_of
from anynet.reports.sections import Figure, Section, Table, Words, bytes_in_words, percent
from anynet.streams import fork_rng
from anynet.tensor import Tensor, no_grad
from anynet.train.batches import Batches, call, device_of, first_batch, loader_of
from anynet.train.setup import OPTIMIZERS
from anynet.train.statistics import BOUNDED, CLOSE, unit_axis
from anynet.viz.svg import number

__all__ = ["LayerOutput", "activations_section", "layer_outputs", "model_section", "updates_section"]

_MOST_LAYERS = 24


@dataclass
class LayerOutput:
    """What one layer puts out for a batch: shape, moments, a histogram, and its units that say nothing."""

    name: str
    kind: str
    shape: tuple[int, ...]
    calls: int = 1
    mean: float = math.nan
    std: float = math.nan
    zeros: float = 0.0
    units: int = 0
    dead: list[int] = field(default_factory=list)
    saturated: list[int] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


def a_batch(model: Module, data: Any, size: int = 256) -> tuple[Any, Any]:
    """The inputs and targets of the first samples, as the network takes them."""
    device = device_of(model)
    loader = loader_of("report", data, size, False, 0, device)
    batch = first_batch(loader)
    pair = batch[:2] if isinstance(batch, (tuple, list)) and len(batch) > 2 else batch
    return Batches("report", model, device).pair(pair)


def layer_outputs(model: Module, inputs: Any) -> list[LayerOutput]:
    """What each layer without layers inside puts out in evaluation mode, in the order of the calls. The model stays as it is."""
    found: dict[str, LayerOutput] = {}
    removers = []

    def hook(name: str) -> Any:
        def note(module: Module, args: Any, out: Any) -> None:
            leaves = [t for _, t in walk(out, "", (Tensor,))]
            if not leaves:
                return
            if name in found:
                found[name].calls += 1
            else:
                found[name] = _described(name, type(module).__name__, leaves[0])

        return note

    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            removers.append(module.register_forward_hook(hook(name or type(module).__name__)))
    try:
        with fork_rng(), no_grad(), evaluating(model):
            call(model, inputs)
    finally:
        for remove in removers:
            remove()
    return list(found.values())


_RECTIFIERS = {
    "ReLU",
    "ReLU6",
    "LeakyReLU",
    "ELU",
    "GELU",
    "SiLU",
    "Mish",
    "Threshold",
    "Hardswish",
    "CELU",
    "SELU",
}


def _described(name: str, kind: str, out: Tensor) -> LayerOutput:
    made = LayerOutput(name, kind, tuple(map(int, out.shape)))
    if not out.dtype.is_floating or not out.size:
        return made
    x = an.astype(out.detach().to("cpu"), "float32")
    made.mean, made.std = float(an.mean(x)), float(an.std(x))
    made.zeros = float(an.mean(an.astype(x == 0.0, "float32")))
    flat = an.reshape(x, (-1,))
    step = max(1, int(flat.shape[0]) // 20_000)
    made.edges, made.counts = binned(flat[::step].tolist(), 40)
    if x.ndim < 2:
        return made
    axis = unit_axis(x.ndim)
    others = tuple(i for i in range(x.ndim) if i != axis)
    made.units = int(x.shape[axis])
    low, high = an.min(x, axis=others), an.max(x, axis=others)
    if kind in _RECTIFIERS:
        made.dead = [
            i
            for i, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
            if b <= 0.0 and b - a < 1e-6
        ]
    bounds = BOUNDED.get(kind)
    if bounds is not None:
        edge = CLOSE * (bounds[1] - bounds[0])
        near = an.logical_or(x < bounds[0] + edge, x > bounds[1] - edge)
        share = an.mean(an.astype(near, "float32"), axis=others).tolist()
        made.saturated = [i for i, s in enumerate(share) if s > 0.95]
    return made


def _unit_names(layer: LayerOutput, units: list[int]) -> str:
    word = "channel" if len(layer.shape) in (4, 5) else "unit"
    shown = ", ".join(map(str, units[:12])) + (f" and {len(units) - 12} more" if len(units) > 12 else "")
    return f"{layer.name}: {word}{'s' if len(units) > 1 else ''} {shown}"


def activations_section(layers: list[LayerOutput], count: int) -> Section | None:
    """Distributions of the outputs as a strip for each layer, and the units that are dead or saturated."""
    real = [x for x in layers if x.counts and sum(x.counts) and math.isfinite(x.std)]
    if not real:
        return None
    shown = _evenly(real, _MOST_LAYERS)
    names, deviations = [f"{x.name} {x.kind}" for x in shown], [x.std for x in shown]
    caption = (
        f"One row a layer: how its outputs are spread around zero, for {count:,} held-out samples; the strongest "
        "colour is the most frequent value."
    )
    head = ["layer", "kind", "output", "mean", "deviation", "zeros", "dead", "saturated"]
    rows = [
        [x.name, x.kind, _shape(x.shape), x.mean, x.std, percent(x.zeros), len(x.dead), len(x.saturated)]
        for x in real
    ]
    wide = max(deviations) > 50 * min(d or 1.0 for d in deviations)
    svg = bars(names, deviations, title="Deviation of the outputs", log=wide)
    table = Table(["layer", "deviation"], [list(r) for r in zip(names, deviations, strict=True)])
    blocks = [
        Figure(_strips(shown, names), "Outputs of the layers", caption, Table(head, rows)),
        Figure(
            svg, "Deviation of the outputs", "Signals that grow or fade from layer to layer show here.", table
        ),
    ]
    return Section("Activations", blocks, _silent_units(real))


def _strips(shown: list[LayerOutput], names: list[str], count: int = 25) -> Markup:
    reach = max(_reach(x) for x in shown)
    middles = [-reach + 2 * reach * (i + 0.5) / count for i in range(count)]

    def tip(i: int, j: int) -> str:
        x = shown[i]
        return f"{names[i]}: mean {number(x.mean, 3)}, deviation {number(x.std, 3)}, {percent(x.zeros)} zeros"

    columns = [number(m, 2) if i % 6 == 0 else "" for i, m in enumerate(middles)]
    return heat_map(
        [_strip(x, reach, count) for x in shown], names, columns, title="Outputs of the layers", tip=tip
    )


def _silent_units(layers: list[LayerOutput]) -> str:
    """The units that say nothing, in words."""
    said = []
    for words, found in (
        ("Dead, zero for every sample", [_unit_names(x, x.dead) for x in layers if x.dead]),
        (
            "Saturated, at the end of their range for over 95 % of the samples",
            [_unit_names(x, x.saturated) for x in layers if x.saturated],
        ),
    ):
        if found:
            more = f"; and in {len(found) - 6} more layers" if len(found) > 6 else ""
            said.append(f"{words}: {'; '.join(found[:6])}{more}.")
    return " ".join(said) or "No unit is dead and none is saturated on these samples."


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _reach(x: LayerOutput) -> float:
    """How far from zero nearly all outputs of a layer lie."""
    return max(1e-9, min(max(abs(x.edges[0]), abs(x.edges[-1])), abs(x.mean) + 4 * x.std))


def _strip(x: LayerOutput, reach: float, count: int) -> list[float]:
    cells = [0.0] * count
    for a, b, n in zip(x.edges[:-1], x.edges[1:], x.counts, strict=True):
        low, high = (a + reach) / (2 * reach) * count, (b + reach) / (2 * reach) * count
        first, last = math.floor(low), math.ceil(high)
        for i in range(max(0, first), min(count, last)):
            overlap = min(high, i + 1) - max(low, i)
            if overlap > 0:
                cells[i] += n * overlap / (high - low)
    top = max(cells) or 1.0
    return [math.sqrt(c / top) for c in cells]


# ----- the table of the model -----

_SENTENCE = re.compile(r"[.:](?=\s+[A-Z`(x]|$)")


def formula_of(module: Module) -> str:
    """A layer's equation, the one that is tested, where it is short; else, and for classes of one's own, the docstring's first sentence."""
    own = type(module).__dict__.get("__doc__")
    if type(module).__module__.startswith("anynet.") or not own:
        with contextlib.suppress(NoEquationError):
            equation = "; ".join(of(module).text().splitlines())
            if len(equation) <= 240:
                return equation
    text = " ".join((inspect.cleandoc(own) if isinstance(own, str) else "").split("\n\n")[0].split())
    if not text and type(module).__module__.startswith("anynet."):
        text = " ".join((inspect.getdoc(type(module)) or "").split("\n\n")[0].split())
    sentence = _SENTENCE.split(text, maxsplit=1)[0].replace("`", "")
    return sentence if len(sentence) <= 240 else sentence[:239] + "…"


def model_section(model: Module, layers: list[LayerOutput]) -> Section:
    """Each layer with shape, parameters and formula."""
    shapes = {x.name: _shape(x.shape) for x in layers}
    rows: list[list[Any]] = []
    for name, module in model.named_modules():
        if next(module.children(), None) is not None:
            continue
        own = sum(p.size for p in module.parameters(recurse=False))
        label = name or type(module).__name__
        rows.append([label, module.label(), shapes.get(label, "–"), own or None, formula_of(module)])
    total = sum(p.size for p in model.parameters())
    trained = sum(p.size for p in model.parameters() if p.requires_grad)
    memory = sum(t.size * t.dtype.itemsize for t in (*model.parameters(), *model.buffers()))
    lead = (
        f"{total:,} parameters"
        + (f", {trained:,} of them trained" if trained != total else "")
        + f"; {bytes_in_words(memory)} with its buffers."
    )
    note = f"the first 150 of {len(rows):,} layers" if len(rows) > 150 else ""
    table = Table(
        ["layer", "kind", "output", "parameters", "what it computes"], rows[:150], note=note, code=(1,)
    )
    return Section("Model", [table], lead)


# ----- one step of the optimizer -----


def updates_section(run: Any, model: Module, data: Any) -> Section | None:
    """One more step of the run's optimizer, on a copy: gradients, updates against weights, learning rates by layer."""
    blocks: list[Any] = []
    lead = ""
    try:
        step = _one_step(run, model, data)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        step = None
        blocks.append(Words(f"A further step of the optimizer could not be made: {error}"))
    if step:
        blocks += _step_figures(step)
        lead = (
            f"One more step of the run's optimizer ({step[0].optimizer}) on a copy of the network, with "
            f"{step[0].samples:,} samples."
        )
    return Section("Gradients and updates", blocks, lead) if blocks else None


@dataclass
class _LayerStep:
    name: str
    optimizer: str
    samples: int
    rate: float
    weight: float
    gradient: float
    update: float
    size: int

    @property
    def ratio(self) -> float:
        return self.update / self.weight if self.weight else math.nan

    @property
    def effective(self) -> float:
        return self.update / self.gradient if self.gradient else math.nan


def _optimizer_of(run: Any) -> tuple[str | None, dict[str, Any]]:
    """Name and options of the optimizer, as run.json has them."""
    value = run.info.get("optimizer")
    if not isinstance(value, Mapping):
        return (value if isinstance(value, str) else None), {}
    name, options = value.get("name"), value.get("options")
    return (str(name) if name else None), dict(options if isinstance(options, Mapping) else value)


def _one_step(run: Any, model: Module, data: Any) -> list[_LayerStep]:
    objective, (name, options) = objective_of(run), _optimizer_of(run)
    if objective is None or name is None:
        msg = "the run does not say its loss and its optimizer by names of anynet's"
        raise ValueError(msg)
    key = name.rsplit(".", 1)[-1]
    known = {**OPTIMIZERS, **{cls.__name__: cls for cls in OPTIMIZERS.values()}}
    if key not in known:
        msg = f"the optimizer {name!r} is none of anynet's"
        raise ValueError(msg)
    with fork_rng(0):
        twin = copy.deepcopy(model)
        x, y = a_batch(twin, data)
        state = run.training_state()
        if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
            twin.load_state_dict(state.get("training_point") or state["model"])
        optimizer = _restored(known[key], twin, state, options)
        twin.train()
        twin.zero_grad()
        value = objective(call(twin, x), y)
        value.backward()
        before = [
            (n, p, an.asarray(p.detach(), copy=True), p.grad)
            for n, p in twin.named_parameters()
            if p.grad is not None
        ]
        rates = {id(p): float(g["lr"]) for g in optimizer.param_groups for p in g["params"] if "lr" in g}
        optimizer.step()
    samples = int(next(t for _, t in walk(y, "", (Tensor,))).shape[0])
    kinds = {n: type(m).__name__ for n, m in twin.named_modules()}
    layers: dict[str, list[Any]] = {}
    for n, p, old, grad in before:
        layers.setdefault(n.rpartition(".")[0] or n, []).append((p, old, grad))
    found = []
    for layer, parts in layers.items():
        sums = [0.0, 0.0, 0.0]
        for p, old, grad in parts:
            for i, t in enumerate((old, grad, p.detach() - old)):
                sums[i] += float(an.sum(an.astype(t, "float64") ** 2))
        w, g, u = map(math.sqrt, sums)
        label = f"{layer} {kinds[layer]}" if layer in kinds else layer
        found.append(
            _LayerStep(
                label,
                key,
                samples,
                rates.get(id(parts[0][0]), math.nan),
                w,
                g,
                u,
                sum(p.size for p, _, _ in parts),
            )
        )
    return found


def _restored(cls: Any, model: Module, state: Any, options: Mapping[str, Any]) -> Any:
    """The run's optimizer, with its state where the checkpoint has one for these parameters."""
    allowed = inspect.signature(cls).parameters
    given = {
        k: v for k, v in options.items() if k in allowed and isinstance(v, (int, float, bool, list, tuple))
    }
    optimizer = cls(list(model.parameters()), **given)
    saved = state.get("optimizer") if isinstance(state, Mapping) else None
    if isinstance(saved, Mapping):
        optimizer.load_state_dict(dict(saved))
    return optimizer


def _evenly(items: list[Any], most: int) -> list[Any]:
    return (
        items
        if len(items) <= most
        else [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
    )


def _step_figures(step: list[_LayerStep]) -> list[Any]:
    shown = _evenly(step, _MOST_LAYERS)
    head = [
        "layer",
        "parameters",
        "learning rate",
        "effective",
        "‖weights‖",
        "‖gradient‖",
        "‖update‖",
        "update / weights",
    ]
    rows = [[s.name, s.size, s.rate, s.effective, s.weight, s.gradient, s.update, s.ratio] for s in step]
    rates = Table([head[0], *head[2:4]], [[s.name, s.rate, s.effective] for s in step])
    blocks: list[Any] = []
    for title, caption, values, table in (
        (
            "Update against weights",
            "‖update‖ / ‖weights‖ of each layer; about 10⁻³ is usual, 10⁻¹ is too fast, 10⁻⁶ stands still.",
            [s.ratio for s in shown],
            Table(head, rows),
        ),
        (
            "Gradient by layer",
            "Norms; gradients that fade or explode towards the input show here.",
            [s.gradient for s in shown],
            Table([head[0], head[5]], [[s.name, s.gradient] for s in step]),
        ),
        (
            "Effective learning rate by layer",
            "‖update‖ / ‖gradient‖: with SGD the learning rate itself, with adaptive methods what comes of it.",
            [s.effective for s in shown],
            rates,
        ),
    ):
        if any(math.isfinite(v) and v > 0 for v in values):
            svg = bars([s.name for s in shown], values, title=title, log=True)
            blocks.append(Figure(svg, title, caption, table))
    if len(step) >= 3 and any(math.isfinite(s.effective) and s.effective > 0 for s in step):
        caption = "A spoke a layer, from the input clockwise; a round figure means that all layers learn at one pace."
        blocks.append(Figure(_rate_radar(_evenly(step, 12)), "Learning rates at a glance", caption, rates))
    return blocks


def _rate_radar(step: list[_LayerStep]) -> Markup:
    spokes = list(range(len(step)))
    series = [Series("effective", spokes, [s.effective for s in step])]
    if all(math.isfinite(s.rate) and s.rate > 0 for s in step):
        series.append(Series("set", spokes, [s.rate for s in step]))
    return radar([s.name for s in step], series, title="Learning rates as a radar", log=True)


def few(tree: Any, count: int) -> Any:
    """The first samples of inputs."""
    return map_tree(lambda x: x[:count, ...] if isinstance(x, Tensor) and x.ndim else x, tree)
