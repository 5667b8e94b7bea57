"""Where a user of PyTorch looks for them: `checkpoint` (torch.utils.checkpoint) and `data` (torch.utils.data)."""

from typing import TYPE_CHECKING

from anynet._lazy import lazily as _lazily
from anynet.utils import checkpoint as checkpoint

__all__ = ["checkpoint", "data"]

if TYPE_CHECKING:
    from anynet.utils import data as data
else:
    __getattr__, __dir__ = _lazily("anynet.utils", {"data": "anynet.utils.data"})

del TYPE_CHECKING
