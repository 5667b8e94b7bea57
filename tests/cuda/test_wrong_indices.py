"""Indices out of range on a CUDA device: an error at the next value that is read, without a wait for the check."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
import anynet.nn.functional as F
from anynet import nn
from ci.cuda_emulator.log import Log


def on_the_device(values, **options):
    return an.asarray(np.asarray(values), device="cuda", **options)


def embedding():
    return nn.Embedding(5, 3).to("cuda")(on_the_device([1, 7]))


def label():
    return nn.CrossEntropyLoss()(on_the_device(np.zeros((2, 10), np.float32)), on_the_device([3, 12]))


def taken():
    return an.take(on_the_device(np.arange(4.0)), on_the_device([0, -5]))


CASES = {
    "an embedding": (embedding, "index 7 is out of range for an axis of length 5"),
    "a label": (label, "class index 12 is out of range for 10 classes"),
    "take": (taken, "index -5 is out of range for an axis of length 4"),
    "indexing": (
        lambda: on_the_device(np.arange(4.0))[on_the_device([0, 4])],
        "index 4 is out of range for an axis of length 4",
    ),
    "take_along_axis": (
        lambda: an.take_along_axis(on_the_device(np.arange(4.0)), on_the_device([9])),
        "index 9 is out of range for an axis of length 4",
    ),
    "index_add": (
        lambda: an.index_add(*map(on_the_device, (np.zeros((3, 1)), [4], np.ones((1, 1))))),
        "index 4 is out of range for an axis of length 3",
    ),
    "bags": (
        lambda: F.embedding_bag(on_the_device([[0, 9]]), on_the_device(np.ones((3, 2)))),
        "index 9 is out of range for an axis of length 3",
    ),
    "a label of nll_loss": (
        lambda: F.nll_loss(on_the_device(np.zeros((2, 3))), on_the_device([0, 5])),
        "class index 5 is out of range for 3 classes",
    ),
    "a label of a margin": (
        lambda: F.multi_margin_loss(on_the_device(np.zeros((2, 3))), on_the_device([0, 5])),
        r"each class of target must be in \[0, 2\]",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_error_comes_with_the_next_value(case):
    function, message = CASES[case]
    with Log() as log:
        y = function()
    assert log.synchronisations == 0
    with pytest.raises(IndexError, match=message) as found:
        an.sum(y).item()
    assert any("ANYNET_CHECK" in note for note in found.value.__notes__)
    assert float(on_the_device(1.5)) == 1.5  # it is raised once


@pytest.mark.parametrize("case", CASES)
def test_the_error_comes_at_once_where_that_is_asked_for(case, monkeypatch):
    monkeypatch.setenv("ANYNET_CHECK", "1")
    function, message = CASES[case]
    with pytest.raises(IndexError, match=message):
        function()


def test_ignored_labels_and_negative_indices_are_right():
    loss = nn.CrossEntropyLoss()(on_the_device(np.zeros((2, 10), np.float32)), on_the_device([3, -100]))
    assert float(loss) == pytest.approx(np.log(10))
    assert an.take(on_the_device(np.arange(4.0)), on_the_device([-1, -4])).tolist() == [3.0, 0.0]


def test_reading_a_value_waits_once():
    y = an.sum(nn.Embedding(5, 3).to("cuda")(on_the_device([1, 2])))
    with Log() as log:
        float(y)
    assert log.synchronisations == 1
    with Log() as log:
        float(y)
    assert log.synchronisations == 1
