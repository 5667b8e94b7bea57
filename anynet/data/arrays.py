"""Models of plain arrays: what is known of their inputs, and what their outputs mean."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from anynet import dtypes
from anynet.autograd.pytree import map_tree
from anynet.data.catalog import normalize
from anynet.data.idx import read_idx
from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing, Task
from anynet.ops.elementwise import exp
from anynet.ops.manipulation import permute_dims
from anynet.ops.softmax import softmax
from anynet.tensor import Tensor, to_plain, unwrap, wrap

__all__ = ["ArrayPreprocessing"]

Outputs = Literal["classes", "logits", "values"]


class ArrayPreprocessing(Preprocessing):
    """Arrays as they are: the samples' shape and dtype are checked, nothing else is done to them.

    Parameters:
      inputs: the shape of one sample and its dtype, ``{"shape": [64], "dtype": "float32"}``; for several inputs a list or dict of these.
      outputs: what the network's outputs are: "classes" (scores of classes along axis 1), "logits" (of a yes or no) or "values".
      classes: names of the classes, in the order of the outputs.
      scale: for pictures of whole numbers: ``{"levels": 255, "mean": 0.13, "std": 0.31}``, with which they become float32
        (n, channels, height, width). What is floating-point already is left as it is.

    >>> import anynet as an
    >>> p = ArrayPreprocessing({"shape": [2], "dtype": "float32"}, outputs="classes", classes=["cat", "dog"])
    >>> p.decode(an.asarray([[2.0, 0.0], [0.0, 1.0]])).values
    ['cat', 'dog']
    """

    kind: ClassVar[str] = "arrays"

    def __init__(
        self,
        inputs: Any,
        *,
        outputs: Outputs = "values",
        classes: Sequence[Any] | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> None:
        if outputs not in ("classes", "logits", "values"):
            msg = f"ArrayPreprocessing: outputs must be 'classes', 'logits' or 'values', got {outputs!r:.40}"
            raise ValueError(msg)
        if scale is not None and (not isinstance(scale, Mapping) or set(scale) != {"levels", "mean", "std"}):
            msg = f"ArrayPreprocessing: scale must have levels, mean and std, got {scale!r:.60}"
            raise ValueError(msg)
        self.form, self.outputs, self.scale = inputs, outputs, scale
        self.classes = None if classes is None else [c.item() if hasattr(c, "item") else c for c in classes]
        self.task: Task = "regression" if outputs == "values" else "classification"

    @classmethod
    def of(
        cls, inputs: Any, *, outputs: str = "values", classes: Sequence[Any] | None = None
    ) -> ArrayPreprocessing:
        """That of a batch of inputs."""
        return cls(_form(inputs), outputs=outputs, classes=classes)  # type: ignore[arg-type]

    def inputs(self, samples: Any) -> Any:
        """The arrays as Tensors; ValueError where their shapes are others than those of the training data."""
        if isinstance(samples, (str, os.PathLike)):
            samples = read_idx(samples)
        if self.scale is not None:
            return self._scaled(wrap(to_plain(samples)))
        return _checked(samples, self.form, "the inputs")

    def _scaled(self, x: Tensor) -> Tensor:
        """Pictures as the network takes them: floating-point, the channels first."""
        height, width, *channels = self.form["shape"]
        ready = (*(channels or [1]), height, width)
        if x.dtype.is_floating and tuple(x.shape[1:]) == ready:
            return x
        if tuple(x.shape[1:]) != tuple(self.form["shape"]):
            msg = f"the pictures must have shape (n, {', '.join(map(str, self.form['shape']))}), got {tuple(x.shape)}"
            raise ValueError(msg)
        if not x.dtype.is_floating:
            scale: Any = self.scale
            x = wrap(normalize(unwrap(x), levels=scale["levels"], mean=scale["mean"], std=scale["std"]))
        return permute_dims(x, (0, 3, 1, 2)) if channels else x[:, None, :, :]

    def targets(self, samples: Any) -> Any:
        """Arrays carry no targets."""
        msg = "a network that was trained on arrays takes inputs and targets as a pair: evaluate((inputs, targets))"
        raise ValueError(msg)

    def decode(self, output: Tensor, samples: Any = None) -> Predictions:
        """Class labels with their probability, or numbers."""
        if not isinstance(output, Tensor):
            parts = output.items() if isinstance(output, Mapping) else enumerate(output)
            return Predictions(
                [[v.tolist() for v in row] for row in zip(*(part for _, part in parts), strict=True)]
            )
        x = wrap(to_plain(output.detach(), device="cpu"))
        if self.outputs == "classes" and x.ndim == 2:
            return self._classes(softmax(x, axis=1).tolist())
        if self.outputs == "logits" and (x.ndim == 1 or (x.ndim == 2 and x.shape[1] == 1)):
            yes = [v[0] if isinstance(v, list) else v for v in (1.0 / (1.0 + exp(-x))).tolist()]
            return self._classes([[1.0 - p, p] for p in yes])
        rows = x.tolist()
        return Predictions(
            [r[0] if isinstance(r, list) and len(r) == 1 and not isinstance(r[0], list) else r for r in rows]
        )

    def _classes(self, probabilities: list[list[float]]) -> Predictions:
        count = len(probabilities[0]) if probabilities else 0
        names = (
            self.classes if self.classes is not None and len(self.classes) == count else list(range(count))
        )
        best = [max(range(count), key=row.__getitem__) for row in probabilities]
        columns: dict[str, Sequence[Any]] = {
            "probability": [row[i] for row, i in zip(probabilities, best, strict=True)]
        }
        if count <= 20:
            columns |= {
                f"probability_{name}": [row[i] for row in probabilities] for i, name in enumerate(names)
            }
        return Predictions([names[i] for i in best], columns)

    def to_json(self) -> dict[str, Any]:
        """Shapes, dtypes, meaning of the outputs, class names."""
        return {
            "inputs": self.form,
            "outputs": self.outputs,
            "classes": self.classes,
            "task": self.task,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArrayPreprocessing:
        """The inverse of `to_json`."""
        classes = data.get("classes")
        if classes is not None and not isinstance(classes, list):
            msg = f"a preprocessing of arrays must have a list of classes or null, got {classes!r:.60}"
            raise ValueError(msg)
        return cls(
            data.get("inputs"),
            outputs=data.get("outputs", "values"),
            classes=classes,
            scale=data.get("scale"),
        )


def _form(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {str(k): _form(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [_form(v) for v in tree]
    if not hasattr(tree, "dtype"):
        return None
    return {"shape": [int(n) for n in tree.shape[1:]], "dtype": dtypes.of(tree.dtype).name}


def _one(form: Any) -> bool:
    return (
        isinstance(form, Mapping)
        and isinstance(form.get("shape"), list)
        and isinstance(form.get("dtype"), str)
    )


def _checked(value: Any, form: Any, what: str) -> Any:
    """The arrays of a tree whose form is known."""
    if form is None:
        return map_tree(lambda a: wrap(to_plain(a)), value)
    if _one(form):
        return _array(value, form, what)
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping) or set(map(str, value)) != set(form):
            got = sorted(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            msg = f"{what} must be a dict with {', '.join(form)}, got {got}"
            raise ValueError(msg)
        return {k: _checked(v, form[str(k)], f"{what}[{k!r}]") for k, v in value.items()}
    if not isinstance(value, (tuple, list)) or len(value) != len(form):
        msg = f"{what} must be a tuple of {len(form)} arrays, got {type(value).__name__}"
        raise ValueError(msg)
    return tuple(_checked(v, f, f"{what}[{i}]") for i, (v, f) in enumerate(zip(value, form, strict=True)))


def _array(value: Any, form: Mapping[str, Any], what: str) -> Tensor:
    try:
        x = wrap(to_plain(value))
    except (TypeError, ValueError) as error:
        msg = f"{what} must be an array of shape (n, {', '.join(map(str, form['shape']))}), got {type(value).__name__}: {error}"
        raise TypeError(msg) from None
    expected = tuple(form["shape"])
    if len(x.shape) != len(expected) + 1:
        one = "; for one sample write x[None]" if tuple(x.shape) == expected else ""
        msg = f"{what} must have shape (n, {', '.join(map(str, expected))}) as in training, got {tuple(x.shape)}{one}"
        raise ValueError(msg)
    return x
