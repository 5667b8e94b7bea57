"""Fine-tuning: a network that others have trained, trained further: parts that stay as they are, rates that fall towards the input."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anynet._hints import nearest
from anynet.nn.containers import ModuleList, Sequential
from anynet.nn.module import Module
from anynet.train.callbacks import Callback
from anynet.train.checks import real_number, unknown, whole_number
from anynet.train.loop import fit
from anynet.train.setup import OPTIMIZERS
from anynet.train.state import History

if TYPE_CHECKING:
    from anynet.train.training import Training

__all__ = ["fine_tune", "layer_groups"]

Freeze = str | int | Sequence[str] | None


# ----- depth -----


def layer_groups(model: Module) -> list[list[str]]:
    """The names of a model's parameters in groups by depth, from the input to the output.

    A group is a layer or a block: a child of the model, or an item of a `Sequential` or `ModuleList` in it. Norms and other layers
    without a matrix belong to the layer before them, a module's own parameters to the first layer in it.

    >>> import anynet as an
    >>> layer_groups(an.models.MLP(4, 2, hidden=(8,), norm="batch"))
    [['0.weight', '0.bias', '1.weight', '1.bias'], ['3.weight', '3.bias']]
    >>> len(layer_groups(an.models.resnet18(width=8)))  # the stem, 8 blocks, the head
    10
    """
    if any(m.waiting for m in model.modules()):
        msg = "the model has layers whose shapes are not known yet; call it once on an example first"
        raise RuntimeError(msg)
    named = dict(model.named_parameters())
    left = dict(named)
    groups: list[list[str]] = []
    ahead: list[str] = []  # of modules' own tensors, which go with the layer after them
    for path, whole in _units(model, ""):
        prefix = f"{path}." if path else ""
        inside = [
            name for name in left if (name.startswith(prefix) if whole else name.rpartition(".")[0] == path)
        ]
        for name in inside:
            del left[name]
        if not whole:
            ahead += inside
        elif inside and groups and not ahead and all(named[name].ndim < 2 for name in inside):
            groups[-1] += inside
        elif inside:
            groups.append(ahead + inside)
            ahead = []
    if ahead and groups:
        groups[-1] += ahead
    elif ahead:
        groups.append(ahead)
    return groups


def _units(module: Module, path: str) -> Iterator[tuple[str, bool]]:
    """Paths in the order of the members: a layer as a whole (True), or what a module has itself (False)."""
    yield path, False
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if isinstance(child, (Sequential, ModuleList)):
            items = list(child.named_children())
            yield from ((f"{inner}.{key}", True) for key, _ in items)
        elif any(
            isinstance(part, (Sequential, ModuleList)) and len(part) > 1 for part in child.children()
        ) and not (isinstance(module, (Sequential, ModuleList)) and path):
            yield from _units(child, inner)
        else:
            yield inner, True


def _frozen(model: Module, freeze: Freeze, groups: list[list[str]]) -> set[str]:
    """The names of the parameters that `freeze` means."""
    if freeze is None:
        return set()
    if freeze == "backbone":
        freeze = -1
    if isinstance(freeze, int) and not isinstance(freeze, bool):
        if not -len(groups) < freeze < len(groups):
            msg = f"fine_tune: freeze must be less than the number of layers, {len(groups)} (see layer_groups), got {freeze}"
            raise ValueError(msg)
        return {name for group in groups[:freeze] for name in group}
    patterns = [freeze] if isinstance(freeze, str) else freeze
    if (
        isinstance(patterns, bool)
        or not isinstance(patterns, Sequence)
        or not all(isinstance(p, str) for p in patterns)
    ):
        msg = f"fine_tune: freeze must be 'backbone', a number of layers, names or None, got {freeze!r:.60}"
        raise TypeError(msg)
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        fitting = {
            n
            for n in names
            if n == pattern or n.startswith(pattern.rstrip(".") + ".") or fnmatch.fnmatch(n, pattern)
        }
        if not fitting:
            parts = [path for path, _ in model.named_modules() if path]
            msg = f"fine_tune: freeze has {pattern!r}, which is the name of no part of the model{nearest(pattern, parts)}"
            raise ValueError(msg)
        found |= fitting
    return found


# ----- freezing -----


@contextmanager
def _freezing(model: Module, names: set[str]) -> Iterator[Callable[[], None]]:
    """Within the block these parameters are not trained, and modules of which that is all are in evaluation; gives a function that ends
    that. Afterwards everything requires gradients, and is in the mode, as before."""
    named = dict(model.named_parameters())
    before = {name: p.requires_grad for name, p in named.items()}
    modes = [(m, m.training) for m in model.modules()]
    kept = {id(named[name]) for name in names}
    if not model.training:
        model.train()
    still: list[Module] = []
    for _, module in model.named_modules():
        own = list(module.parameters())
        if own and all(id(p) in kept for p in own):
            still += [m for m in module.modules() if m.training]
            module.eval()
    for name in names:
        named[name].requires_grad_(False)

    def thaw() -> None:
        for name in names:
            named[name].requires_grad_(before[name])
        for m in still:
            m.training = True

    try:
        yield thaw
    finally:
        for name, p in named.items():
            if p.requires_grad != before[name]:
                p.requires_grad_(before[name])
        for m, training in modes:
            if m.training != training:
                m.training = training


class _Unfreeze(Callback):
    """Train the frozen parts too after so many epochs."""

    def __init__(self, after: int, thaw: Callable[[], None]) -> None:
        self.after, self.thaw, self.done = after, thaw, False

    def _thaw(self) -> None:
        if not self.done:
            self.thaw()
            self.done = True

    def on_epoch_begin(self, run: Training) -> None:
        if run.epoch > self.after:
            self._thaw()

    def state_dict(self) -> dict[str, Any]:
        return {"unfrozen": self.done, "after": self.after}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["after"] != self.after:
            msg = f"fine_tune: the run has unfreeze_after={state['after']}, got {self.after}"
            raise ValueError(msg)
        if state["unfrozen"]:
            self._thaw()


# ----- the optimizer -----


def _grouped(
    model: Module, groups: list[list[str]], optimizer: Any, lr: float, decay: float, left_out: set[str]
) -> Callable[[list[Any]], Any]:
    """A function that makes the optimizer: a group for each depth, the output's first, each with its learning rate."""
    make = optimizer
    if isinstance(optimizer, str):
        key = optimizer.lower().replace("-", "_")
        if key not in OPTIMIZERS:
            raise ValueError(unknown("optimizer", optimizer, OPTIMIZERS))
        make = OPTIMIZERS[key]
    elif not callable(optimizer) or hasattr(optimizer, "param_groups"):
        msg = f"fine_tune: optimizer must be a name, a class or a function of parameter groups, got {type(optimizer).__name__}"
        raise TypeError(msg)
    named = dict(model.named_parameters())
    own = {id(p) for p in named.values()}

    def build(params: list[Any]) -> Any:
        made = []
        for depth, names in enumerate(reversed(groups)):
            some = [named[name] for name in names if name not in left_out]
            if some:
                made.append({"params": some, "lr": lr * decay**depth})
        more = [p for p in params if id(p) not in own]  # of the loss
        if more:
            made.append({"params": more, "lr": lr})
        return make(made, lr=lr)

    return build


# Over 60 lines, most of them the signature and what each option means, which belong where help looks.
def fine_tune(
    model: Module,
    data: Any,
    val: Any = None,
    *,
    freeze: Freeze = "backbone",
    unfreeze_after: int | None = None,
    layer_decay: float = 1.0,
    optimizer: Any = "adamw",
    lr: float = 1e-3,
    callbacks: Callback | Sequence[Callback] = (),
    **options: Any,
) -> History:
    """Train a network further that has been trained on other data (`anynet.models.load_weights`); returns the `History` of `fit`.

    Parameters:
      data, val: as for `fit`.
      freeze: what is not trained: "backbone", all but the last layer; a number n, the first n layers of `layer_groups`, or −n, all but the
        last n; names of parts or parameters ("layer1", "encoder", "*.bias"), or a list of them; None: nothing.
      unfreeze_after: after so many epochs everything is trained; None: never.
      layer_decay: d multiplies the learning rate of each layer by this for each layer between it and the output: lr · layer_decay^depth.
      optimizer: a name, a class, or a function of parameter groups; `lr` is the rate of the last layer.
      options: of `fit`: loss, epochs, metrics, batch_size, scheduler, run_dir, …

    Frozen parts keep every bit: their parameters are not updated or decayed, and their batch norms (all of a module that is frozen as a
    whole) are in evaluation, so that the statistics stay, too. Afterwards everything may be trained again, as before. A run goes on
    with ``resume=True`` and the same arguments, frozen or unfrozen as it was.

    Errors: ValueError and TypeError, before anything is changed, for names that the model lacks and numbers that cannot be.

    >>> import anynet as an
    >>> net = an.models.MLP(4, 3, hidden=(8,))
    >>> before = net[0].weight.tolist()
    >>> data = an.ones((6, 4)), an.asarray([0, 1, 2, 0, 1, 2])
    >>> history = an.fine_tune(net, data, loss="cross_entropy", epochs=2, progress=False)
    >>> net[0].weight.tolist() == before
    True

    Source: layer-wise rates: Howard and Ruder: Universal language model fine-tuning for text classification (2018).
    """
    if not isinstance(model, Module):
        msg = f"fine_tune: model must be a Module, got {type(model).__name__}"
        raise TypeError(msg)
    lr = real_number("fine_tune", "lr", lr)
    layer_decay = real_number("fine_tune", "layer_decay", layer_decay, positive=True)
    if layer_decay > 1:
        msg = f"fine_tune: layer_decay must be in (0, 1], got {layer_decay}"
        raise ValueError(msg)
    groups = layer_groups(model)
    names = _frozen(model, freeze, groups)
    if unfreeze_after is not None:
        unfreeze_after = whole_number("fine_tune", "unfreeze_after", unfreeze_after, 1)
        if not names:
            msg = "fine_tune: unfreeze_after is for what is frozen, and nothing is"
            raise ValueError(msg)
    make = _grouped(model, groups, optimizer, lr, layer_decay, names if unfreeze_after is None else set())
    more = list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]
    with _freezing(model, names) as thaw:
        if unfreeze_after is not None:
            more.append(_Unfreeze(unfreeze_after, thaw))
        return fit(model, data, val, optimizer=make, callbacks=more, **options)
