"""Attention: the layer, and user-defined scores and masks (`flex_attention`) and for sequences of many lengths
(`varlen`)."""

from anynet.nn.attention import flex_attention as flex_attention
from anynet.nn.attention import varlen as varlen
from anynet.nn.attention.multihead import MultiheadAttention

__all__ = ["MultiheadAttention"]
