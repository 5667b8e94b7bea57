"""A small example of every public layer."""

import copy
import inspect

from anynet import nn

__all__ = ["LAYERS", "example"]

ARGUMENTS = dict(
    in_features=16, out_features=2, in1_features=3, in2_features=3, in_channels=4, out_channels=4, kernel_size=3, num_features=4,
    num_channels=4, num_groups=2, normalized_shape=4, padding=1, input_size=3, hidden_size=2, num_embeddings=5, embedding_dim=4,
    embed_dim=4, num_heads=2, d_model=4, nhead=2, num_layers=2, output_size=2, size=2, upscale_factor=2, downscale_factor=2,
    groups=2, n_classes=6, cutoffs=[2, 4], threshold=0.1, value=0.0, dim=1, num_tags=3, stddev=0.1, num_query_heads=2,
    num_key_value_heads=1, features=4, norm_type=2, num_classes=6, pool_size=2, counts=[1, 2, 3], sample_size=2, mode="LSTM",
    dims=4, unflattened_size=(2, 2), parameters=[nn.Parameter([1.0])], layer=nn.Linear(2, 2),
    encoder_layer=nn.TransformerEncoderLayer(4, 2), decoder_layer=nn.TransformerDecoderLayer(4, 2),
)  # fmt: skip


def example(name):
    """A layer of the class, with its required arguments."""
    cls = getattr(nn, name)
    given = {"output_size": 2} if name.startswith("FractionalMaxPool") else {}
    for p in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            given[p.name] = copy.deepcopy(ARGUMENTS[p.name])
    return cls(**given)


LAYERS = [n for n in dir(nn) if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)]
