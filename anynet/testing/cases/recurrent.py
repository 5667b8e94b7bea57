"""Recurrent layers: each scan in all its forms."""

from __future__ import annotations

from typing import Any

from anynet.ops.manipulation import concat, expand_dims
from anynet.ops.recurrent import (
    gru,
    gru_cell,
    gru_layer,
    gru_scan,
    lstm,
    lstm_cell,
    lstm_layer,
    lstm_scan,
    rnn_scan,
)
from anynet.testing.cases import Case

_LSTM = ((3, 2, 12), (2, 3), (2, 3), (12, 3))
_GRU = ((3, 2, 9), (2, 3), (9, 3))
_LSTM_LAYER = ((3, 2, 5), (2, 3), (2, 3), (12, 5), (12, 3), (12,))
_GRU_LAYER = ((3, 2, 5), (2, 3), (9, 5), (9, 3), (9,), (9,))
_SIZES: dict[str, Any] = {"sizes": (2, 1, 1)}


def _both(*args: Any, **options: Any) -> Any:
    return concat(tuple(lstm_scan(*args, **options)), axis=-1)


def _joined(layer: Any, *args: Any, **options: Any) -> Any:
    """Both results of `lstm` in one array."""
    hs, c = layer(*args, **options)
    return concat((hs, expand_dims(c, axis=0)))


CASES: tuple[Case, ...] = (
    Case("rnn", rnn_scan, ((3, 2, 4), (2, 4), (4, 4))),
    Case("rnn, relu", lambda *a: rnn_scan(*a, relu=True), ((3, 2, 4), (2, 4), (4, 4)), 0.1, 1.0),
    Case("rnn, backward", lambda *a: rnn_scan(*a, reverse=True), ((3, 2, 4), (2, 4), (4, 4))),
    Case("rnn, packed", lambda *a: rnn_scan(*a, **_SIZES), ((3, 2, 4), (2, 4), (4, 4))),
    Case("lstm", _both, _LSTM),
    Case("lstm, backward", lambda *a: _both(*a, reverse=True), _LSTM),
    Case("lstm, projected", _both, ((3, 2, 12), (2, 2), (2, 3), (12, 2), (2, 3))),
    Case("lstm, packed", lambda *a: _both(*a, **_SIZES), _LSTM),
    Case("lstm, packed, backward", lambda *a: _both(*a, reverse=True, **_SIZES), _LSTM),
    Case("gru", gru_scan, (*_GRU, (9,))),
    Case("gru, no bias", gru_scan, _GRU),
    Case("gru, backward", lambda *a: gru_scan(*a, reverse=True), (*_GRU, (9,))),
    Case("gru, packed", lambda *a: gru_scan(*a, **_SIZES), (*_GRU, (9,))),
    Case("lstm cell", lstm_cell, ((2, 12), (2, 12), (2, 3))),
    Case("gru cell", gru_cell, ((2, 9), (2, 9), (2, 3))),
    Case("lstm layer", lambda *a: _joined(lstm_layer, *a), _LSTM_LAYER),
    Case("lstm layer, backward", lambda *a: _joined(lstm_layer, *a, reverse=True), _LSTM_LAYER),
    Case("lstm layer, no bias", lambda *a: _joined(lstm, *a), _LSTM_LAYER[:-1]),
    Case("gru layer", gru_layer, _GRU_LAYER),
    Case("gru layer, backward", lambda *a: gru_layer(*a, reverse=True), _GRU_LAYER),
    Case("gru layer, no bias", gru, _GRU_LAYER[:-2]),
)
