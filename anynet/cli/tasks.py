"""The built-in tasks: data, model and settings by name, so that a run folder can be taken up again from its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from anynet import _hints, nn, optim, random
from anynet.data import load, normalize

__all__ = [
    "TASKS",
    "Task",
    "UsageError",
    "build_model",
    "make_task",
    "nearest",
    "scale",
    "task_data",
    "train_options",
]


class UsageError(ValueError):
    """A command line that cannot be meant; the message says what could."""


@dataclass(frozen=True)
class Task:
    """The settings of a run; every field is an option of ``anynet train``."""

    data: str
    model: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: str = "adam"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "cosine"
    dropout: float = 0.0
    seed: int = 0
    device: str = "auto"
    limit: int = 0
    run_dir: str = ""


TASKS: dict[str, Task] = {
    "digits": Task("digits", "cnn", epochs=30, batch_size=32, lr=2e-3, dropout=0.2),
    "mnist": Task("mnist", "lenet", epochs=4, batch_size=64, lr=2e-3),
    "fashion": Task("fashion", "lenet", epochs=6, batch_size=64, lr=2e-3),
}
_MLP = {
    "digits": {"epochs": 30, "dropout": 0.2},
    "mnist": {"epochs": 10, "batch_size": 128, "lr": 0.1, "optimizer": "sgd", "momentum": 0.9},
    "fashion": {"epochs": 10, "batch_size": 128, "lr": 0.1, "optimizer": "sgd", "momentum": 0.9},
}
_SHAPES = {"digits": (8, 16, 1442), "mnist": (28, 255, 60_000), "fashion": (28, 255, 60_000)}
_CHOICES = {
    "model": ("cnn", "lenet", "mlp"), "optimizer": ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
    "schedule": ("cosine", "constant"),
}  # fmt: skip


def nearest(what: str, word: str, known: Any) -> str:
    """The sentence that answers a misspelt word."""
    return f"unknown {what} {word!r}{_hints.nearest(word, known)}"


def make_task(name: str, options: dict[str, str]) -> Task:
    """The task of that name with options applied, each checked."""
    if name not in TASKS:
        raise UsageError(nearest("task", name, TASKS))
    task = TASKS[name]
    fields = {k: type(v) for k, v in asdict(task).items() if k != "data"}
    for key in options:
        if key not in fields:
            raise UsageError(nearest("option", key, fields))
    if options.get("model") == "mlp":
        task = replace(task, model="mlp", **_MLP[name])  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, text in options.items():
        try:
            values[key] = fields[key](text)
        except ValueError:
            msg = f"{key}={text!r}: expected {'a whole number' if fields[key] is int else 'a number'}"
            raise UsageError(msg) from None
        if key in _CHOICES and values[key] not in _CHOICES[key]:
            raise UsageError(nearest(key, values[key], _CHOICES[key]))
    task = replace(task, **values)
    for key, least in (
        ("epochs", 1),
        ("batch_size", 1),
        ("lr", 0),
        ("seed", 0),
        ("limit", 0),
        ("dropout", 0),
    ):
        if getattr(task, key) < least:
            msg = f"{key}={getattr(task, key)}: expected at least {least}"
            raise UsageError(msg)
    return task


def build_model(task: Task) -> nn.Module:
    """The network of a task, with the initial weights of its seed."""
    random.manual_seed(task.seed)
    side = _SHAPES[task.data][0]
    if task.model == "mlp":
        hidden = (256, 128) if task.data == "digits" else (800,)
        layers: list[nn.Module] = [nn.Flatten()]
        width = side * side
        for h in hidden:
            layers += [nn.Linear(width, h), nn.ReLU(), *([nn.Dropout(task.dropout)] if task.dropout else [])]
            width = h
        return nn.Sequential(*layers, nn.Linear(width, 10))
    if task.model == "cnn":
        size = side // 4
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * size * size, 128), nn.ReLU(), nn.Dropout(task.dropout), nn.Linear(128, 10),
        )  # fmt: skip
    if side != 28:
        msg = f"model=lenet takes 28×28 images; {task.data} has {side}×{side}: use model=cnn or model=mlp"
        raise UsageError(msg)
    # LeCun et al. 1998, with ReLU and max-pooling: 61,706 parameters
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def scale(task: Task, images: Any) -> Any:
    """Images (n, side, side) as the network takes them: float32 (n, 1, side, side), about zero."""
    x = normalize(
        images, levels=_SHAPES[task.data][1], mean=0.3 if task.data == "digits" else 0.1307, std=0.3081
    )
    return x.reshape(len(x), 1, *x.shape[1:])


def task_data(task: Task, split: str) -> tuple[Any, Any]:
    """Images as the network takes them, and labels."""
    images, labels = load(task.data, split)
    if task.limit and split == "train":
        images, labels = images[: task.limit], labels[: task.limit]
    return scale(task, images), labels


def train_options(task: Task, model: nn.Module) -> dict[str, Any]:
    """Optimizer and schedule for `fit`."""
    kinds = {
        "sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop, "adagrad": optim.Adagrad,
    }  # fmt: skip
    options: dict[str, Any] = {"lr": task.lr, "weight_decay": task.weight_decay}
    if task.momentum:
        if task.optimizer not in ("sgd", "rmsprop"):
            msg = f"momentum is for sgd and rmsprop, not for {task.optimizer}"
            raise UsageError(msg)
        options["momentum"] = task.momentum
    total = _SHAPES[task.data][2] if not task.limit else min(task.limit, _SHAPES[task.data][2])
    steps = task.epochs * -(-total // task.batch_size)
    cosine = task.schedule == "cosine"
    return {
        "optimizer": lambda params: kinds[task.optimizer](params, **options),
        "scheduler": (lambda optimizer: optim.CosineAnnealingLR(optimizer, steps)) if cosine else None,
        "schedule_by": "batch",
    }
