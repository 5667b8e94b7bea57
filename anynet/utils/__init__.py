"""Where a user of PyTorch looks for them: `checkpoint` (torch.utils.checkpoint) and `data` (torch.utils.data)."""

from anynet.utils import checkpoint as checkpoint
from anynet.utils import data as data

__all__ = ["checkpoint", "data"]
