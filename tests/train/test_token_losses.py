"""Losses of tokens: classes along the last axis, and what metrics see of them."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn

rng = np.random.default_rng(0)


def scores(*shape: int, device: str | None = None) -> an.Tensor:
    return an.asarray(rng.normal(size=shape).astype("float32"), device=device)


@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"ignore_index": 2}],
)
def test_token_cross_entropy_is_cross_entropy_permuted(options: dict[str, object], xp_device: str) -> None:
    x, y = scores(3, 4, 5, device=xp_device), an.asarray(rng.integers(0, 5, (3, 4)), device=xp_device)
    got = nn.TokenCrossEntropyLoss(**options)(x, y)
    want = nn.functional.cross_entropy(an.permute_dims(x, (0, 2, 1)), y, **options)
    assert (got.shape, got.dtype, got.device) == (want.shape, "float32", xp_device)
    np.testing.assert_allclose(got.to("cpu").numpy(), want.to("cpu").numpy(), rtol=1e-6)


def test_probabilities_as_targets() -> None:
    x = scores(3, 4, 5)
    q = nn.functional.softmax(scores(3, 4, 5), dim=-1)
    loss = nn.TokenCrossEntropyLoss()
    want = nn.functional.cross_entropy(an.reshape(x, (12, 5)), an.reshape(q, (12, 5)))
    np.testing.assert_allclose(float(loss(x, q)), float(want), rtol=1e-6)
    assert loss.denominator(x, q) == 12


def test_fit_and_evaluate_with_metrics_of_tokens() -> None:
    data = an.asarray(rng.integers(0, 6, (20, 7))), an.asarray(rng.integers(0, 6, (20, 7)))
    net = nn.Embedding(6, 6)
    history = an.fit(
        net,
        data,
        data,
        loss="token_cross_entropy",
        metrics=["accuracy"],
        epochs=1,
        batch_size=8,
        progress=False,
    )
    found = an.evaluate(net, data, loss="token_cross_entropy", metrics=["accuracy"], batch_size=6)
    answers = net(data[0]).numpy().argmax(axis=-1)
    assert found["accuracy"] == pytest.approx((answers == data[1].numpy()).mean())
    assert history[-1]["val_accuracy"] == pytest.approx(found["accuracy"])
    assert history[-1]["val_loss"] == pytest.approx(found["loss"])
    with pytest.raises(IndexError, match=r"out of range for (the )?6 classes"):
        an.fit(net, (data[0], data[1] + 1), loss="token_cross_entropy", progress=False)


def test_the_message_names_the_loss_of_tokens() -> None:
    with pytest.raises(
        ValueError, match=r"the classes are axis 1: permute the output, or, .* take token_cross_entropy"
    ):
        nn.functional.cross_entropy(scores(3, 4, 5), an.zeros((3, 4), dtype=an.int64))
    with pytest.raises(ValueError, match=r"must have shape \(3, 4\), got \(3,\)"):
        nn.functional.token_cross_entropy(scores(3, 4, 5), an.zeros(3, dtype=an.int64))
