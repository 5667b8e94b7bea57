"""The transformer family: PyTorch's weights load, outputs and gradients agree, with all masks."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

save_file = pytest.importorskip("safetensors.torch").save_file
nn, T = an.nn, torch.nn
rng = np.random.default_rng(0)
CAUSAL = np.triu(np.ones((5, 5), bool), 1)
PADDING = np.arange(5)[None] >= np.asarray([[5], [3], [4]])


def check(ours, theirs, inputs, masks, tmp_path):
    theirs, ours = theirs.double().eval(), ours.double().eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    save_file({k: v.clone() for k, v in theirs.state_dict().items()}, tmp_path / "t.safetensors")
    ours.load_state_dict(an.load(tmp_path / "t.safetensors"))
    a = [an.asarray(v, requires_grad=True) for v in inputs]
    t = [torch.tensor(v, requires_grad=True) for v in inputs]
    y = ours(*a, **{k: an.asarray(v) if isinstance(v, np.ndarray) else v for k, v in masks.items()})
    u = theirs(*t, **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in masks.items()})
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-9, atol=1e-10)
    an.sum(y**3).backward()
    (u**3).sum().backward()
    for mine, other in zip((*a, *ours.parameters()), (*t, *theirs.parameters()), strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-7, atol=1e-8)


OPTIONS = [
    {}, {"norm_first": True}, {"activation": "gelu"}, {"bias": False}, {"batch_first": True}, {"layer_norm_eps": 1e-3},
    {"norm_first": True, "activation": "gelu", "batch_first": True, "bias": False},
]  # fmt: skip
MASKS = [
    {}, {"src_mask": CAUSAL}, {"src_key_padding_mask": PADDING}, {"src_mask": CAUSAL, "src_key_padding_mask": PADDING},
    {"src_mask": rng.normal(size=(5, 5))}, {"src_mask": CAUSAL, "is_causal": True},
]  # fmt: skip


@pytest.mark.parametrize("masks", MASKS, ids=lambda m: ",".join(m))
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_encoder_layer(options, masks, tmp_path):
    shape = (3, 5, 8) if options.get("batch_first") else (5, 3, 8)
    make = lambda home: home.TransformerEncoderLayer(8, 2, 12, **options)  # noqa: E731
    check(make(nn), make(T), [rng.normal(size=shape)], masks, tmp_path)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    "masks", [{}, {"tgt_mask": CAUSAL[:4, :4], "memory_key_padding_mask": PADDING}, {"memory_mask": rng.normal(size=(4, 5))}],
    ids=lambda m: ",".join(m),
)  # fmt: skip
def test_decoder_layer(options, masks, tmp_path):
    turn = (lambda a: a.swapaxes(0, 1)) if options.get("batch_first") else (lambda a: a)
    make = lambda home: home.TransformerDecoderLayer(8, 2, 12, **options)  # noqa: E731
    inputs = [turn(rng.normal(size=(4, 3, 8))), turn(rng.normal(size=(5, 3, 8)))]
    check(make(nn), make(T), [np.ascontiguousarray(v) for v in inputs], masks, tmp_path)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True])
def test_whole(norm_first, tmp_path):
    make = lambda home: home.Transformer(8, 2, 2, 3, 12, norm_first=norm_first)  # noqa: E731
    masks = {"tgt_mask": CAUSAL[:4, :4], "src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
    check(make(nn), make(T), [rng.normal(size=(5, 3, 8)), rng.normal(size=(4, 3, 8))], masks, tmp_path)
    check(make(nn), make(T), [rng.normal(size=(5, 8)), rng.normal(size=(4, 8))], {}, tmp_path)


def test_masks_errors_and_copies():
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    assert mask.numpy().tolist() == T.Transformer.generate_square_subsequent_mask(3).numpy().tolist()
    layer = nn.TransformerEncoderLayer(8, 2, 12)
    encoder = nn.TransformerEncoder(layer, 2)
    first, second = encoder.layers[0].linear1.weight, encoder.layers[1].linear1.weight
    assert first is not second
    assert (first.numpy() == layer.linear1.weight.numpy()).all()
    an.random.manual_seed(0)
    x = an.ones((5, 3, 8))
    assert (encoder(x).numpy() != encoder(x).numpy()).any()  # dropout
    net = nn.Transformer(8, 2, 1, 1, 12)
    for args, message in (
        ((an.ones((5, 3, 8)), an.ones((4, 2, 8))), "batches of one size"),
        ((an.ones((5, 3, 8)), an.ones((4, 3, 7))), "the last axis to be 8"),
    ):
        with pytest.raises(nn.ShapeError, match=message):
            net(*args)
    with pytest.raises(ValueError, match="'relu', 'gelu' or a function"):
        nn.TransformerEncoderLayer(8, 2, activation="tanh")
