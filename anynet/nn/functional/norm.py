"""Normalisation, with PyTorch's arguments: see `anynet.ops.normalization`."""

from anynet.ops.normalization import batch_norm, group_norm, layer_norm

__all__ = ["batch_norm", "group_norm", "layer_norm"]
