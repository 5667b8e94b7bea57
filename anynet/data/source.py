"""Sources: data as people have them (tables, folders of pictures, texts), made ready to train on and to be used afterwards.

A `Source` has data sets and a `Preprocessing`. The preprocessing is the half that travels with a trained network: it turns new
rows, files or texts into the network's inputs, and the network's outputs into answers. It is plain JSON in the run.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from anynet.data.dataset import Dataset
    from anynet.data.predictions import Predictions
    from anynet.nn.module import Module
    from anynet.tensor import Tensor

__all__ = ["Preprocessing", "Source", "Task", "preprocessing_from_json"]

Task = Literal["classification", "regression", "language"]

_KINDS = {
    "table": "anynet.data.table:TablePreprocessing",
    "images": "anynet.data.images:ImagePreprocessing",
    "text": "anynet.data.text:TextPreprocessing",
    "arrays": "anynet.data.arrays:ArrayPreprocessing",
}
"""Where the preprocessing of each kind is defined; imported when a model of that kind is opened."""


class Preprocessing(ABC):
    """How samples of the outside become inputs of a network, and its outputs answers.

    `kind` names the class in JSON. `task` says what the outputs are. `classes` are the labels in the order of the outputs (of
    any type that JSON has), None where there are none.
    """

    kind: ClassVar[str]
    task: Task
    classes: list[Any] | None = None

    @abstractmethod
    def inputs(self, samples: Any) -> Any:
        """What the network is called with, for samples as they come: rows, files, texts, arrays; a tuple or dict of arrays is
        several inputs. No targets are needed."""

    @abstractmethod
    def targets(self, samples: Any) -> Any:
        """The targets of samples that have them, as the loss takes them; ValueError that says what is missing where not."""

    def weights(self, samples: Any) -> Any:
        """How much each of the samples counts, where they say so; else None."""
        return None

    @abstractmethod
    def decode(self, output: Tensor, samples: Any = None) -> Predictions:
        """The answers that outputs of the network mean, in the words and units of the data."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, without `kind`."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`; ValueError names what is wrong in data that cannot be it."""


class Source(ABC):
    """Data with a split and a preprocessing; what `anynet train SOURCE`, `anynet.train_on` and `anynet.fit` take.

    `train` gives pairs (inputs, targets) as the network and the loss take them, `valid` and `test` too (None: there is none).
    """

    preprocessing: Preprocessing
    train: Dataset
    valid: Dataset | None
    test: Dataset | None

    @abstractmethod
    def describe(self) -> str:
        """What was found in the data, in words: a line for each column, the classes, the sizes of the parts."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Where the data are from, for run.json: ``kind``, ``path``, ``bytes``, ``sha256``, ``samples``, the options that this source was
        made with (``options``: enough to make it again), and ``split``: the sizes, the seed and the sha256 of the indices."""

    @abstractmethod
    def network(self, name: str | None = None, **settings: Any) -> Module:
        """The network for these data: by name (one of `models`), None for what suits them; `settings` are the network's own options,
        and what it does not have is refused with what it has."""

    models: ClassVar[tuple[str, ...]] = ()
    """Names that `network` takes."""

    @abstractmethod
    def defaults(self) -> dict[str, Any]:
        """Options of `anynet.fit` that suit these data: loss, metrics, optimizer, lr, epochs, batch_size, scheduler, …"""


def preprocessing_from_json(data: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that ``{"kind": …, **to_json()}`` describes; ValueError for what is none."""
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        msg = f"a preprocessing must have a kind of {', '.join(_KINDS)}, got {kind!r:.60}"
        raise ValueError(msg)
    module, _, name = _KINDS[kind].partition(":")
    cls: type[Preprocessing] = getattr(importlib.import_module(module), name)
    return cls.from_json({k: v for k, v in data.items() if k != "kind"})
