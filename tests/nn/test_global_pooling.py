"""Global pooling against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn

rng = np.random.default_rng(21)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("keepdims", [False, True])
def test_global_pooling(n, keepdims):
    x = rng.normal(size=(2, 3, *(4, 5, 2)[:n]))
    axes = tuple(range(2, n + 2))
    for kind, function in (("Avg", np.mean), ("Max", np.max)):
        layer = getattr(nn, f"Global{kind}Pool{n}d")(keepdims)
        np.testing.assert_allclose(
            layer(an.asarray(x)).numpy(), function(x, axis=axes, keepdims=keepdims), rtol=1e-14, atol=1e-15
        )
        assert layer(an.asarray(x[0])).shape == (3, *((1,) * n if keepdims else ()))
        with pytest.raises(ValueError, match="expected"):
            layer(an.asarray(x[None, None]))
