"""Losses by name, and what the mean of each is taken over.

The loss of a data set is not the mean of the losses of its batches where these do not count the same: the last batch is
shorter, targets are ignored, classes weigh more. An `Objective` is a loss together with the *denominator* of its mean,
so that Σ loss · denominator / Σ denominator over any batches is the loss of the whole.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

from anynet.autograd.pytree import flatten
from anynet.nn import losses
from anynet.nn.module import Module
from anynet.ops.manipulation import reshape
from anynet.tensor import Tensor, unwrap
from anynet.train.checks import plain_options, unknown
from anynet_backends import backend_of

__all__ = ["LOSSES", "Objective", "rows"]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


LOSSES: dict[str, type[Module]] = {
    _snake(name.removesuffix("Loss")): getattr(losses, name)
    for name in sorted(losses.__all__)
    if name.endswith("Loss")
}
"""The losses of `anynet.nn` by name."""

_ALIASES = {
    "mae": "l1", "mean_absolute_error": "l1", "mean_squared_error": "mse", "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_with_logits", "negative_log_likelihood": "nll", "kl_divergence": "kl_div",
}  # fmt: skip

_FUNCTIONS: dict[Any, type[Module]] = {}
for _cls in (c for name, c in LOSSES.items() if name != "squared_hinge"):
    _FUNCTIONS.setdefault(getattr(_cls, "_function", _cls), _cls)

_ON_LOGITS = (
    losses.BCEWithLogitsLoss, losses.BinaryFocalLoss, losses.SoftMarginLoss, losses.MultiLabelSoftMarginLoss,
    losses.HingeLoss, losses.SquaredHingeLoss, losses.HingeEmbeddingLoss,
)  # fmt: skip
_OF_CLASSES = (
    losses.CrossEntropyLoss, losses.NLLLoss, losses.FocalLoss, losses.MultiMarginLoss, losses.CategoricalHingeLoss,
    losses.KLDivLoss,
)  # fmt: skip


def _spread(loss: Any, output: Any, target: Any) -> Any:
    """A loss of three or more arguments, given the outputs of a network that has several, or several targets."""
    if isinstance(loss, losses.GaussianNLLLoss):  # of a mean and a variance
        return loss(output[0], target, output[1])
    if isinstance(loss, losses.CTCLoss):  # targets with their lengths and the inputs'
        return loss(output, *target)
    if isinstance(loss, (losses.TripletMarginLoss, losses.TripletMarginWithDistanceLoss)):
        return loss(*output)
    return loss(output[0], output[1], target)


_SPREAD = (
    losses.GaussianNLLLoss, losses.CTCLoss, losses.TripletMarginLoss, losses.TripletMarginWithDistanceLoss,
    losses.MarginRankingLoss, losses.CosineEmbeddingLoss,
)  # fmt: skip


def rows(tree: Any) -> int:
    """How many samples a batch has: the length of its first array."""
    for leaf in flatten(tree)[0]:
        shape = getattr(leaf, "shape", None)
        if shape:
            return int(shape[0])
    return 1


def _by_name(name: str) -> Module:
    short = name.lower().replace("-", "_").removesuffix("loss").rstrip("_")
    short = _ALIASES.get(short, short)
    key = short.replace("_", "")
    found = next((cls for known, cls in LOSSES.items() if known.replace("_", "") == key), None)
    if found is None:
        raise ValueError(unknown("loss", name, LOSSES))
    return _made(found)


def _made(cls: type[Module]) -> Module:
    try:
        made: Module = cls()
        return made
    except TypeError as error:
        msg = f"the loss {cls.__name__} needs arguments ({error}); give an instance of it"
        raise TypeError(msg) from None


class Objective:
    """A loss as `fit` and `evaluate` use it.

    `loss` is the name of a loss of `anynet.nn` ("cross_entropy", "CrossEntropyLoss"), an instance or a class of one, one of
    the functions of `anynet.losses` (or a `functools.partial` of it with its options), or any function (output, target) →
    Tensor of one element. Of the first kinds it is known what their mean is taken over. Of others it is taken to be the
    mean over the samples of the batch, unless the function has

    - an attribute or method ``denominator(output, target)``, which gives the number (or the sum of weights) that the loss
      of this batch has been divided by; or
    - an attribute ``reduction = "sum"``: then the loss of an epoch is the sum of those of its batches.
    """

    def __init__(self, loss: Any) -> None:
        named = isinstance(loss, str)
        if named:
            loss = _by_name(loss)
        elif inspect.isclass(loss) and issubclass(loss, Module):
            loss = _made(loss)
        elif not callable(loss):
            msg = (
                f"loss must be a name or a function (output, target), got {type(loss).__name__} {loss!r:.60}"
            )
            raise TypeError(msg)
        self.function: Callable[..., Any] = loss
        self.known = self._equivalent(loss)
        self.reduction: str = getattr(self.known or loss, "reduction", "mean")
        if self.reduction == "none":
            msg = (
                f"the loss {self.name} must give one number, got one for each element (reduction='none'); "
                "use reduction='mean' or 'sum'"
            )
            raise ValueError(msg)
        self._denominator: Callable[[Any, Any], Any] | None = getattr(
            loss, "denominator", getattr(self.known, "denominator", None)
        )
        self.module = loss if isinstance(loss, Module) else None
        if named and hasattr(
            loss, "_function"
        ):  # nobody else can change its options: no need to ask the module
            plain = inspect.signature(loss._function).parameters
            options = {
                k: v
                for k, v in loss._options().items()
                if v is not plain[k].default and v != plain[k].default
            }
            self.function = functools.partial(loss._function, **options) if options else loss._function
        self.spread = isinstance(loss, _SPREAD)
        self.all_count = False  # known by `look_at`: each element of a target counts as one
        self.classes: tuple[int, int] | None = None  # the smallest and largest class index of the data

    def look_at(self, targets: list[Any]) -> None:
        """Check all class indices of the data: where none is ignored no batch needs to be checked, and those that
        are out of range are found before the first update."""
        known: Any = self.known
        if not isinstance(known, (losses.CrossEntropyLoss, losses.NLLLoss, losses.FocalLoss)):
            return
        found: list[tuple[int, int]] = []
        ignored = False
        for t in map(unwrap, targets):
            xp = backend_of(t)
            if not xp.isdtype(t.dtype, "integral"):
                return
            live = t[t != known.ignore_index]
            ignored = ignored or live.shape[0] != math.prod(t.shape)
            if live.shape[0]:
                found.append((int(xp.min(live)), int(xp.max(live))))
        self.all_count = bool(targets) and not ignored and getattr(known, "weight", None) is None
        if found:
            self.classes = min(low for low, _ in found), max(high for _, high in found)

    def check_classes(self, output: Any) -> None:
        """Refuse targets somewhere in the data that the output has no class for."""
        shape: tuple[int, ...] = getattr(output, "shape", ())
        if self.classes is None or len(shape) < 2:
            return
        low, high = self.classes
        if low < 0 or high >= shape[1]:
            msg = (
                f"the data hold the class index {low if low < 0 else high}, which is out of range for the {shape[1]} classes of "
                "the model's output; nothing was updated"
            )
            raise IndexError(msg)

    @staticmethod
    def _equivalent(loss: Any) -> Module | None:
        """The loss of `anynet.nn` that computes the same as a function."""
        if isinstance(loss, Module):
            return loss if type(loss).__module__ == losses.__name__ else None
        options: dict[str, Any] = {}
        if isinstance(loss, functools.partial) and not loss.args:
            loss, options = loss.func, loss.keywords
        cls = _FUNCTIONS.get(loss) if getattr(loss, "__hash__", None) else None
        if cls is None:
            return None
        accepted = inspect.signature(cls).parameters
        return cls(**options) if all(k in accepted for k in options) else None

    @property
    def name(self) -> str:
        """The name of the function or class."""
        inner = self.function.func if isinstance(self.function, functools.partial) else self.function
        return str(getattr(inner, "__name__", type(inner).__name__))

    def describe(self) -> dict[str, Any]:
        """What a resumed run compares: the name and the options that are plain data."""
        source = self.known if self.known is not None else self.function
        options = plain_options(vars(source)) if isinstance(source, Module) else {}
        return {"name": type(source).__name__ if self.known is not None else self.name, **options}

    @property
    def labels(self) -> tuple[str, int] | None:
        """("classes", index that is ignored) or ("logits", …), ("values", …): what accuracy compares; None: not known."""
        if self.known is None:
            return None
        ignored = getattr(self.known, "ignore_index", None)
        kind = "values"
        if isinstance(self.known, (*_OF_CLASSES, losses.LinearCrossEntropyLoss)):
            kind = "classes"
        elif isinstance(self.known, _ON_LOGITS):
            kind = "logits"
        return kind, -100 if ignored is None else ignored

    def __call__(self, output: Any, target: Any) -> Any:
        """The loss of a batch, one element."""
        if isinstance(output, (tuple, list, dict)) and self.known is not None and not self.spread:
            msg = (
                f"the model returns a {type(output).__name__} of {len(output)}, and {self.name} takes one Tensor; give a loss that "
                "takes them apart: loss=lambda outputs, targets: …"
            )
            raise TypeError(msg)
        value = _spread(self.function, output, target) if self.spread else self.function(output, target)
        shape = getattr(value, "shape", None)
        if shape == () and isinstance(value, Tensor):
            return value
        if not isinstance(value, Tensor):
            msg = f"the loss {self.name} returned {type(value).__name__}, expected a Tensor of one element"
            raise TypeError(msg)
        if value.size != 1:
            msg = f"the loss {self.name} has shape {value.shape}, expected one element; take its mean or sum"
            raise ValueError(msg)
        return reshape(value, ())

    def weight(self, output: Any, target: Any) -> float:
        """What the loss of this batch was divided by; 0 where it counts nothing, and 0 for a sum."""
        if self.reduction == "sum":
            return 0.0
        if self.all_count:
            return float(target.size)
        if self._denominator is None:
            return float(rows(target) if isinstance(target, Tensor) and target.shape else rows(output))
        return float(unwrap(self._denominator(output, target)))
