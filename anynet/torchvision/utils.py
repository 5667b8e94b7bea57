"""`torchvision.utils`: pictures side by side, and as files."""

from __future__ import annotations

import math
from typing import Any

from anynet.torch.table import TABLE
from anynet.torchvision.functional import to_pil_image

__all__ = ["make_grid", "save_image"]


def make_grid(
    tensor: Any, nrow: int = 8, padding: int = 2, normalize: bool = False, value_range: Any = None, scale_each: bool = False,
    pad_value: float = 0.0,
) -> Any:  # fmt: skip
    """Pictures (n, channels, height, width), or a list of them, as one, `nrow` in a row: (channels, height, width)."""
    x = TABLE["stack"].function(list(tensor), 0) if isinstance(tensor, (list, tuple)) else tensor
    x = x.detach()
    while x.ndim < 4:
        x = x.unsqueeze(0)
    if x.shape[1] == 1:
        x = TABLE["cat"].function((x, x, x), 1)
    if normalize:
        x = x.clone()
        for part in x if scale_each else [x]:
            low, high = value_range if value_range is not None else (float(part.min()), float(part.max()))
            part.clamp_(low, high).sub_(low).div_(max(high - low, 1e-5))
    if len(x) == 1:
        return x[0]
    n, c, h, w = x.shape
    columns = min(nrow, n)
    rows = math.ceil(n / columns)
    grid = TABLE["full"].function(
        (c, (h + padding) * rows + padding, (w + padding) * columns + padding), pad_value, dtype=x.dtype
    )
    for i in range(n):
        top, left = (i // columns) * (h + padding) + padding, (i % columns) * (w + padding) + padding
        grid[:, top : top + h, left : left + w] = x[i]
    return grid


def save_image(tensor: Any, fp: Any, format: Any = None, **options: Any) -> None:
    """Pictures as one file; `options` are those of `make_grid`. Takes the extra `images`."""
    grid = make_grid(tensor, **options)
    to_pil_image(grid.mul(255).add(0.5).clamp(0, 255).byte()).save(fp, format=format)
