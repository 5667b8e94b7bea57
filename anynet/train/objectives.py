"""Losses by name, and what the mean of each is taken over.

The loss of a data set is not the mean of the losses of its batches where these do not count the same: the last batch is
shorter, targets are ignored, classes weigh more. An `Objective` is a loss together with the *denominator* of its mean,
so that Σ loss · denominator / Σ denominator over any batches is the loss of the whole.
"""

from __future__ import annotations

import builtins
import copy
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import Primitive
from anynet.autograd.pytree import flatten
from anynet.dtypes import int64
from anynet.nn import losses
from anynet.nn.module import Module
from anynet.ops.creation import asarray, ones_like, zeros_like
from anynet.ops.elementwise import where
from anynet.ops.indexing import take
from anynet.ops.manipulation import astype, broadcast_to, moveaxis, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.train.batches import call
from anynet.train.checks import plain_options, real_number, unknown
from anynet_backends import backend_of

__all__ = ["LOSSES", "ClassWeights", "Objective", "OwnStep", "loss_of", "rows"]


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


def _as_column(output: Any, target: Any) -> Any:
    """Targets (n,) of an output (n, 1) as (n, 1), and the other way round: one number a sample each, so that nothing else can be
    meant. The functions of `anynet.losses` refuse such a pair, as they know nothing of samples."""
    if isinstance(output, Tensor) and isinstance(target, Tensor) and output.ndim + target.ndim == 3:
        n = output.shape[0]
        if {output.shape, target.shape} == {(n,), (n, 1)}:
            return reshape(target, output.shape)
    return target


@contextmanager
def _without_squares(name: str, output: Any, target: Any) -> Iterator[None]:
    """Within the block an output (n, 1) and targets (n,) must not meet in an operation that makes (n, n) of them: the loss would be
    that of each output with each target."""
    shapes = {getattr(output, "shape", None), getattr(target, "shape", None)}
    n = rows(target)
    if n < 2 or shapes != {(n,), (n, 1)}:
        yield
        return
    below = INTERCEPT.own[-1] if INTERCEPT and INTERCEPT.own else Primitive.bind

    def handle(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        found = below(prim, args, meta)
        if getattr(found, "shape", None) == (n, n) and {getattr(x, "shape", None) for x in args} >= shapes:
            msg = (
                f"the loss {name}: {prim.name} of the output {output.shape} and the targets {target.shape} has shape {(n, n)}, each output "
                "with each target; give targets of shape (n, 1), y[:, None], or take output[:, 0]"
            )
            raise ValueError(msg)
        return found

    INTERCEPT.append(handle)
    try:
        yield
    finally:
        INTERCEPT.remove(handle)


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


def _with_options(given: Mapping[str, Any]) -> Module:
    """A loss from plain data: its name and its options."""
    name = given.get("name")
    if not isinstance(name, str):
        msg = f"a loss as a mapping has a name and options, {{'name': 'cross_entropy', 'label_smoothing': 0.1}}, got {given!r:.80}"
        raise TypeError(msg)
    cls = type(_by_name(name))
    known = list(inspect.signature(cls).parameters)
    options = {
        str(k): asarray(v) if isinstance(v, (list, tuple)) else v for k, v in given.items() if k != "name"
    }
    wrong = next((k for k in options if k not in known), None)
    if wrong is not None:
        raise ValueError(unknown(f"option of {cls.__name__}", wrong, known))
    return cls(**options)


def loss_of(described: Any) -> Module | None:
    """The loss that `Objective.describe` has written down, made again; None where it is none of this library's.

    >>> loss_of({"name": "HuberLoss", "delta": 2.0}).delta, loss_of({"name": "mine"})
    (2.0, None)
    """
    name = described.get("name") if isinstance(described, Mapping) else described
    cls = next((c for known, c in LOSSES.items() if name in (known, c.__name__)), None)
    if cls is None or not isinstance(described, Mapping):
        return None if cls is None else cls()
    known = inspect.signature(cls).parameters
    return cls(**{k: v for k, v in described.items() if k in known and not isinstance(v, (list, dict))})


class Objective:
    """A loss as `fit` and `evaluate` use it.

    `loss` is the name of a loss of `anynet.nn` ("cross_entropy", "CrossEntropyLoss"), a mapping with its name and options, an
    instance or a class of one, one of the functions of `anynet.losses` (or a `functools.partial` of it with its options), or any
    function (output, target) →
    Tensor of one element. Of the first kinds it is known what their mean is taken over. Of others it is taken to be the
    mean over the samples of the batch, unless the function has

    - an attribute or method ``denominator(output, target)``, which gives the number (or the sum of weights) that the loss
      of this batch has been divided by; or
    - an attribute ``reduction = "sum"``: then the loss of an epoch is the sum of those of its batches.
    """

    def __init__(self, loss: Any) -> None:
        named = isinstance(loss, str)
        if isinstance(loss, str):
            loss = _by_name(loss)
        elif isinstance(loss, Mapping):
            loss = _with_options(loss)
        elif inspect.isclass(loss) and issubclass(loss, Module):
            loss = _made(loss)
        elif not callable(loss):
            msg = f"loss must be a name, a mapping with one, or a function (output, target), got {type(loss).__name__} {loss!r:.60}"
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
        self.by_element = not self.spread and self.labels is not None and self.labels[0] != "classes"
        self._one_by_one: Callable[..., Any] | None = None
        self._looked = (
            self.known is not None
        )  # whether the first batch has shown what a function of the user's does
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
        classes = shape[-1] if self.of_tokens else shape[1]
        if low < 0 or high >= classes:
            msg = (
                f"the data hold the class index {low if low < 0 else high}, which is out of range for the {classes} classes of "
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
    def of_tokens(self) -> bool:
        """Whether the classes are the last axis of the output, and not axis 1."""
        return isinstance(self.known, losses.TokenCrossEntropyLoss)

    def for_metrics(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Output and target as metrics take them, with the classes along axis 1: those of tokens (…, classes) are moved there."""
        if not self.of_tokens or not isinstance(output, Tensor) or len(output.shape) < 3:
            return output, target
        same = tuple(target.shape) == tuple(output.shape)  # rows of probabilities
        return moveaxis(output, -1, 1), moveaxis(target, -1, 1) if same else target

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
        self._check_output(output)
        if self.by_element:
            target = _as_column(output, target)
        if self._looked:
            value = _spread(self.function, output, target) if self.spread else self.function(output, target)
        else:
            self._looked = True
            with _without_squares(self.name, output, target):
                value = self.function(output, target)
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

    def _check_output(self, output: Any) -> None:
        if isinstance(output, (tuple, list, dict)) and self.known is not None and not self.spread:
            msg = (
                f"the model returns a {type(output).__name__} of {len(output)}, and {self.name} takes one Tensor; give a loss that "
                "takes them apart: loss=lambda outputs, targets: …"
            )
            raise TypeError(msg)

    def of_batch(self, model: Module, batch: Sequence[Any]) -> tuple[Any, ...]:
        """The loss and the output for (inputs, targets), for (inputs, targets, weights) also Σ w."""
        output = call(model, batch[0])
        if len(batch) == 3:
            value, mass = self.weighted(output, batch[1], batch[2])
            return value, output, mass
        return self(output, batch[1]), output

    # ----- samples that have weights -----

    def weighted(self, output: Any, target: Any, weight: Any) -> tuple[Any, Any]:
        """Σ w l / Σ w over the losses l of the samples, or of their elements, and Σ w, both of one element; 0 and 0 where no
        sample counts. Of a ``reduction="sum"`` Σ w l and 0."""
        self._check_output(output)
        if self.by_element:
            target = _as_column(output, target)
        each = self._each(output, target, weight.shape[0])
        w = _along(weight, each)
        total = sum(each * w)
        if self.reduction == "sum":
            return total, zeros_like(total.detach())
        mass = self._mass(target, each, w)
        return total / where(
            mass == 0, ones_like(mass), mass
        ), mass  # 0 where nothing counts: no learning, and no NaN

    def _each(self, output: Any, target: Any, samples: int) -> Any:
        """The losses of the samples, or of their elements, before they are summed."""
        if self._one_by_one is None:
            own = self.known if self.known is not None else self.module
            self._one_by_one = self.function
            if own is not None and hasattr(own, "reduction"):
                self._one_by_one = copy.copy(own)
                self._one_by_one.reduction = "none"
        function = self._one_by_one
        each = _spread(function, output, target) if self.spread else function(output, target)
        if not isinstance(each, Tensor) or each.shape[:1] != (samples,):
            got = f"shape {each.shape}" if isinstance(each, Tensor) else type(each).__name__
            msg = (
                f"weights of samples need the loss of each of the {samples} samples, and {self.name} gives {got}; a function must "
                "return them as they are, before their mean is taken"
            )
            raise ValueError(msg)
        if isinstance(self.known, losses.CTCLoss) and self.reduction == "mean":
            lengths = astype(asarray(target[2], device=each.device), each.dtype)
            each = each / where(lengths < 1.0, ones_like(lengths), lengths)
        return each

    def _mass(self, target: Any, each: Any, w: Any) -> Any:
        """Σ w, over what the mean without weights counts: each element once, ignored targets not, classes by their weights."""
        known: Any = self.known
        if self.reduction == "batchmean":  # of rows, whatever their length
            return sum(reshape(w, (w.shape[0], -1))[:, 0])
        ignored = getattr(known, "ignore_index", False)
        counts = None
        if ignored is not False and target.dtype.kind in ("int", "uint"):
            live = target != (-100 if ignored is None else ignored)
            counts = astype(live, w.dtype)
            if getattr(known, "weight", None) is not None:
                index = where(live, target, zeros_like(target))
                share = take(known.weight.detach(), reshape(astype(index, int64), (-1,)), axis=0)
                counts = counts * reshape(share, target.shape)
        return sum(broadcast_to(w, each.shape) if counts is None else w * counts)

    def weight(self, output: Any, target: Any) -> float:
        """What the loss of this batch was divided by; 0 where it counts nothing, and 0 for a sum."""
        return float(self.mass(output, target))

    def mass(self, output: Any, target: Any) -> Any:
        """The same, a number, or a plain array of one where it has to be computed."""
        if self.reduction == "sum":
            return 0.0
        if self.all_count:
            return float(target.size)
        if self._denominator is None:
            return float(rows(target) if isinstance(target, Tensor) and target.shape else rows(output))
        target = _as_column(output, target) if self.by_element else target
        return unwrap(self._denominator(output, target))

    def certainly_counts(self, batch: Sequence[Any]) -> bool:
        """Whether it is known beforehand that the loss of a batch counts something."""
        if len(batch) != 2:
            return False
        if self.reduction == "sum":
            return True
        target = batch[1]
        return (
            (self.all_count or self._denominator is None) and isinstance(target, Tensor) and target.size > 0
        )


class OwnStep:
    """A module's own ``training_step(self, batch)`` in the place of a loss: it gives the loss, or a dict with it as "loss" and further
    numbers, which are recorded. The mean over an epoch is that over the samples.

    ``validation_step(self, batch)`` does the same for validation; without it the training's is called, in evaluation mode.
    """

    reduction = "mean"
    known = module = labels = classes = None
    all_count = False
    name = "of training_step"

    def __init__(self, model: Module) -> None:
        self.model = model
        for method in ("training_step", "validation_step"):
            function = getattr(model, method, None)
            if function is not None:
                _check_step(model, method, function)
        self.function = model

    def look_at(self, targets: list[Any]) -> None:
        """Nothing is known of the targets."""

    def check_classes(self, output: Any) -> None:
        """Nothing is known of the classes."""

    def describe(self) -> dict[str, Any]:
        """What a resumed run compares."""
        return {"name": f"{type(self.model).__name__}.training_step"}

    def for_metrics(self, output: Any, target: Any) -> tuple[Any, Any]:
        """There are no metrics."""
        return output, target

    def weight(self, output: Any, target: Any) -> float:
        """The samples are given by `of_batch`."""
        raise NotImplementedError

    def certainly_counts(self, batch: Sequence[Any]) -> bool:
        """As for an `Objective`."""
        return rows(batch[0]) > 0

    def of_batch(self, model: Module, batch: Sequence[Any]) -> tuple[Any, ...]:
        """The loss, the further numbers, and how many samples the batch has."""
        step: Any = model
        validates = not model.training and hasattr(model, "validation_step")
        name = "validation_step" if validates else "training_step"
        found = getattr(step, name)(batch[0])
        logs: dict[str, Any] = {}
        if isinstance(found, Mapping):
            if "loss" not in found:
                msg = f"{type(model).__name__}.{name} returned a dict without 'loss'; it has {', '.join(map(str, found)) or 'nothing'}"
                raise KeyError(msg)
            logs = {str(k): v for k, v in found.items() if k != "loss"}
            found = found["loss"]
        if not isinstance(found, Tensor) or found.size != 1:
            got = f"shape {found.shape}" if isinstance(found, Tensor) else type(found).__name__
            msg = f"{type(model).__name__}.{name} must return the loss, a Tensor of one element, or a dict with it as 'loss', got {got}"
            raise TypeError(msg)
        for k, v in logs.items():
            if math.prod(getattr(v, "shape", ())) != 1 or not isinstance(v, (Tensor, int, float)):
                msg = f"{type(model).__name__}.{name}: {k!r} must be a number, got {type(v).__name__} of shape {getattr(v, 'shape', None)}"
                raise TypeError(msg)
        kept = {k: v.detach() if isinstance(v, Tensor) else v for k, v in logs.items()}
        return reshape(found, ()), kept, rows(batch[0])


def _check_step(model: Module, method: str, function: Callable[..., Any]) -> None:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        given = str(inspect.signature(function))
        msg = f"fit: {type(model).__name__}.{method} is called with one argument, the batch: {method}(self, batch), got {method}{given}"
        raise TypeError(msg) from None


class ClassWeights:
    """Weights of classes as weights of samples: w[target], times the samples' own.

    With ``"balanced"`` n / (classes · n_c), from the counts n_c of the classes in the training data, as in scikit-learn.
    """

    def __init__(self, given: Any, targets: list[Any], labels: Sequence[Any] | None) -> None:
        if isinstance(given, str):
            if given != "balanced":
                msg = f"fit: class_weight must be 'balanced' or the weights by class, got {given!r}"
                raise ValueError(msg)
            found = _balanced(targets)
        elif isinstance(given, Mapping):
            found = {_class_number(k, labels): v for k, v in given.items()}
        elif hasattr(given, "__len__") and not isinstance(given, bytes):
            found = dict(enumerate(given.tolist() if hasattr(given, "tolist") else given))
            if (classes := _classes(targets)) > len(found):
                msg = f"fit: class_weight must have a weight for each of the {classes} classes, got {len(found)}"
                raise ValueError(msg)
        else:
            msg = f"fit: class_weight must be 'balanced', a mapping or a sequence of numbers, got {type(given).__name__}"
            raise TypeError(msg)
        self.of = {c: real_number("fit", f"class_weight[{c}]", w) for c, w in sorted(found.items())}
        if not self.of or not any(self.of.values()):
            msg = f"fit: class_weight must have a weight above 0, got {given!r:.60}"
            raise ValueError(msg)
        self.table: Tensor | None = None

    def __call__(self, target: Any, weight: Any, dtype: Any) -> Any:
        """The weights for a batch; classes without one, and targets that are none (ignored ones), have weight 1."""
        if not isinstance(target, Tensor):
            msg = (
                f"fit: class_weight needs targets that are one array of classes, got {type(target).__name__}"
            )
            raise TypeError(msg)
        if self.table is None or self.table.device != target.device:
            plain = [self.of.get(c, 1.0) for c in range(max(self.of) + 2)]  # the last for all others
            self.table = asarray(plain, dtype=dtype, device=target.device)
        last = self.table.shape[0] - 1
        index = astype(target, int64)
        index = where((index >= 0) & (index < last), index, last)
        found = reshape(take(self.table, reshape(index, (-1,)), axis=0), index.shape)
        return (
            found
            if weight is None
            else found * reshape(weight, (*weight.shape, *(1,) * (found.ndim - weight.ndim)))
        )


def _class_number(key: Any, labels: Sequence[Any] | None) -> int:
    if labels is not None and key in labels:
        return list(labels).index(key)
    if labels is not None and str(key) in (
        said := [str(label) for label in labels]
    ):  # 3 and "3": as in a file
        return said.index(str(key))
    if labels is None and isinstance(key, str) and key.isdecimal():
        return int(key)
    if labels is not None or isinstance(key, (str, bool)) or not hasattr(key, "__index__") or key < 0:
        known = (
            f"one of the classes {', '.join(map(repr, labels[:10]))}"
            if labels is not None
            else "the number of a class"
        )
        msg = f"fit: class_weight: a key must be {known}, got {key!r}"
        raise ValueError(msg)
    return int(key)


def _classes(targets: list[Any]) -> int:
    """How many classes there are in training by the largest; 0 where the targets are not numbers of classes."""
    values = to_plain(targets[0]) if targets else None
    if values is None or not backend_of(values).isdtype(values.dtype, "integral") or 0 in values.shape:
        return 0
    return int(backend_of(values).max(values)) + 1


def _balanced(targets: list[Any]) -> dict[int, float]:
    if not targets:
        msg = "fit: class_weight='balanced' counts the targets, which takes them as an array; give the weights: class_weight={0: …, 1: …}"
        raise ValueError(msg)
    values = to_plain(targets[0])
    xp = backend_of(values)
    if xp.isdtype(values.dtype, "bool"):
        values = xp.astype(values, xp.int64)
    if not xp.isdtype(values.dtype, "integral"):
        whole = xp.isdtype(values.dtype, "real floating") and bool(xp.all((values == 0) | (values == 1)))
        if not whole:
            msg = f"fit: class_weight='balanced' takes classes, integers (or 0 and 1), got {values.dtype}"
            raise ValueError(msg)
        values = xp.astype(values, xp.int64)
    found = xp.unique_counts(values[values >= 0])
    counts = {int(c): int(n) for c, n in zip(found.values, found.counts, strict=True)}
    total = builtins.sum(counts.values())
    return {c: total / (len(counts) * n) for c, n in counts.items()}


def _along(weight: Any, losses: Any) -> Any:
    """Weights of samples in a shape that is broadcast to the losses of their elements."""
    if weight.shape != losses.shape[: weight.ndim]:
        msg = f"weights of shape {weight.shape} do not go with losses of shape {losses.shape}: expected one a sample, ({losses.shape[0]},)"
        raise ValueError(msg)
    return reshape(weight, (*weight.shape, *(1,) * (losses.ndim - weight.ndim)))
