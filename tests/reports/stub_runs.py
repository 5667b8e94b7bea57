"""Runs for reports, made by hand: what a report asks of a run, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anynet as an
from anynet import nn

__all__ = ["StubRun", "classifier", "regressor"]


class StubRun:
    """What `anynet.reports.ReportedRun` asks for, as it is given."""

    def __init__(
        self,
        name: str,
        model: Any,
        validation: Any,
        history: Sequence[Mapping[str, Any]],
        info: Mapping[str, Any] | None = None,
        preprocessing: Any = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.history, self.info, self.preprocessing = name, history, info or {}, preprocessing
        self._model, self._validation, self._state = model, validation, state
        self.recorded: dict[str, list[dict[str, Any]]] = {}

    def model(self) -> Any:
        if isinstance(self._model, Exception):
            raise self._model
        return self._model

    def validation(self) -> Any:
        if isinstance(self._validation, Exception):
            raise self._validation
        return self._validation

    def source(self) -> Any:
        return None

    def records(self, name: str) -> list[dict[str, Any]]:
        return self.recorded.get(name, [])

    def training_state(self) -> Any:
        return self._state


class Labels:
    """A preprocessing that knows the names of the classes."""

    kind, task = "images", "classification"

    def __init__(self, classes: list[Any]) -> None:
        self.classes = classes


def numbers(*shape: int, seed: int = 0) -> an.Tensor:
    return an.random.normal(shape, generator=an.random.Generator(seed))


def history(epochs: int, **more: float) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1, "loss": 1.0 / (i + 1), "val_loss": 1.2 / (i + 1), "accuracy": 1 - 0.5 / (i + 1), "seconds": 0.5, "lr": 0.1, **more}
        for i in range(epochs)
    ]  # fmt: skip


def classifier(
    name: str = "shapes", classes: int = 3, samples: int = 120, labels: list[Any] | None = None
) -> StubRun:
    """Pictures 1×12×12 whose class is the row that is bright; a network that sees it mostly."""
    an.random.manual_seed(1)
    y = [i % classes for i in range(samples)]
    x = 0.3 * numbers(samples, 1, 12, 12)
    x = x + an.asarray([[[[1.0 if r % classes == c else 0.0] * 12 for r in range(12)]] for c in y])
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 144, 16), nn.Tanh(), nn.Linear(16, classes)
    )  # fmt: skip
    an.fit(
        net, (x, an.asarray(y)), loss="cross_entropy", epochs=2, lr=0.003, optimizer="adamw", progress=False
    )
    info = {
        "command": ["anynet", "train", "shapes/", "epochs=2"],
        "source": {"kind": "images", "path": "shapes/", "bytes": 12345, "sha256": "ab" * 32},
        "split": {"train": 480, "valid": samples, "seed": 0},
        "loss": "cross_entropy", "optimizer": {"name": "adamw", "options": {"lr": 0.003}},
        "versions": {"anynet": "0.1"}, "device": "cpu", "status": "finished",
    }  # fmt: skip
    pre = Labels(labels if labels is not None else [f"class {i}" for i in range(classes)])
    return StubRun(name, net, (x, an.asarray(y)), history(4), info, pre)


def regressor(name: str = "houses") -> StubRun:
    """y = 2 a − b + noise, and c, which says nothing; a network that is exact but for the noise."""
    x = numbers(200, 3)
    noise = 0.1 * numbers(200, 1, seed=1)
    net = nn.Linear(3, 1)
    net.load_state_dict({"weight": an.asarray([[2.0, -1.0, 0.0]]), "bias": an.asarray([0.0])})
    y = 2.0 * x[:, :1] - x[:, 1:2] + noise
    return StubRun(name, net, (x, y), history(3), {"loss": "mse", "optimizer": "sgd"})
