"""What the tests of exports share: every operation of the parity suite as a module, and networks of several kinds."""

from __future__ import annotations

from typing import Any

import numpy as np

import anynet as an
from anynet import nn
from anynet.testing.cases import Case, every
from anynet_backends import philox

F = nn.functional

NOT_EXPORTED = {
    "AdaptiveLogSoftmaxWithLoss": "depends on values",
    "SyncBatchNorm": "sum over processes", "bincount": "depends on values",
    **dict.fromkeys(
        ("attention, dropout", "attention, dropout, blocks", "dropout", "Dropout", "RReLU", "Dropout1d", "Dropout2d", "Dropout3d",
         "AlphaDropout", "FeatureAlphaDropout", "GaussianNoise", "GaussianDropout", "FractionalMaxPool2d", "FractionalMaxPool3d"),
        "draws random numbers",
    ),
    **dict.fromkeys(
        (f"Lazy{kind}Norm{d}d" for kind in ("Batch", "Instance") for d in (1, 2, 3)), "changes its own state"
    ),
}  # fmt: skip
"""Cases of the parity suite (in training mode) that cannot be exported, with the reason that is given."""

CASES = [case for case in every() if not case.steps and all(case.shapes)]


class Function(nn.Module):
    """A case as a module."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def forward(self, *inputs: an.Tensor) -> Any:
        return self.case.function(*inputs)


def given(case: Case) -> tuple[an.Tensor, ...]:
    """The inputs of a case."""
    return tuple(
        an.asarray(philox.uniform(5, 9, i, shape, case.low, case.high).astype("float32"))
        for i, shape in enumerate(case.shapes)
    )


def close(expected: Any, got: Any) -> bool:
    """Whether shapes and dtypes are equal and values within 1e-5 of the largest."""
    expected, got = np.asarray(expected), np.asarray(got)
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.size:
        return True
    a, b = expected.astype(complex), got.astype(complex)
    return bool(np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(a).max()))


class Transformer(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Embedding(11, 16)
        self.positions = nn.Parameter(an.random.normal((7, 16)))
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True) for _ in range(2))
        )
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: an.Tensor) -> an.Tensor:
        x = self.layers(self.embedding(tokens) + self.positions[: tokens.shape[1], ...])
        return an.permute_dims(self.head(x), (0, 2, 1))


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, stride, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1),
            nn.BatchNorm2d(b),
        )
        self.short = nn.Identity() if a == b and stride == 1 else nn.Conv2d(a, b, 1, stride)

    def forward(self, x: an.Tensor) -> an.Tensor:
        return F.relu(self.body(x) + self.short(x))


class UNet(nn.Module):
    def __init__(self) -> None:
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True), nn.GELU()
        )
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, x: an.Tensor) -> an.Tensor:
        a = self.down(x)
        b = self.up(self.middle(F.max_pool2d(a, 2)))
        b = F.interpolate(F.avg_pool2d(b, 2), scale_factor=2, mode="bilinear")
        return F.log_softmax(self.last(an.concat([a, b], axis=1)), dim=1)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        self.rnn = kind(5, 6, batch_first=True, **options)  # type: ignore[call-arg]
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x: an.Tensor) -> an.Tensor:
        return self.head(self.rnn(x)[0][:, -1, ...])


class Several(nn.Module):
    """Two inputs, three outputs, one of them the state of an LSTM."""

    def __init__(self) -> None:
        self.rnn = nn.LSTM(4, 5, batch_first=True)
        self.scale = nn.Buffer(an.asarray([0.5]))

    def forward(self, x: an.Tensor, shift: an.Tensor) -> dict[str, Any]:
        y, (h, c) = self.rnn(x)
        return {"y": y + an.expand_dims(shift, axis=1), "state": (h * self.scale, c)}


def normal(*shape: int) -> an.Tensor:
    """Random numbers."""
    return an.asarray(np.random.default_rng(1).normal(size=shape).astype("float32"))


NETWORKS = {
    "mlp": lambda: (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3)), normal(4, 6)),
    "cnn": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 4, 5, padding=2), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.LeakyReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Softmax(1),
        ),
        normal(4, 1, 12, 12),
    ),
    "resnet": lambda: (nn.Sequential(Block(3, 4, 1), Block(4, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()), normal(4, 3, 8, 8)),
    "unet": lambda: (UNet(), normal(3, 3, 8, 8)),
    "transformer": lambda: (Transformer(), an.asarray(np.random.default_rng(1).integers(0, 11, (4, 7)))),
    "lstm": lambda: (Recurrent(nn.LSTM, num_layers=2), normal(4, 9, 5)),
    "gru": lambda: (Recurrent(nn.GRU, bidirectional=True), normal(4, 9, 5)),
    "rnn": lambda: (Recurrent(nn.RNN, nonlinearity="relu"), normal(4, 9, 5)),
    "several": lambda: (Several(), (normal(4, 3, 4), normal(4, 5))),
}  # fmt: skip
"""Networks with an example, by name."""
