"""Language models: values against PyTorch's blocks, caches, weights of Hugging Face's files, gradients, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.models import GPT, LSTMLanguageModel, load_weights
from torch_oracle import torch

rng = np.random.default_rng(0)
SMALL = {"vocabulary": 11, "context": 12, "width": 8, "layers": 2, "heads": 2}


def tokens(n: int, t: int, device: str | None = None) -> an.Tensor:
    return an.asarray(rng.integers(0, 11, (n, t)), device=device)


def stirred(net: an.nn.Module) -> an.nn.Module:
    """All parameters other than zero and one, so that none can be left out unseen."""
    for p in net.parameters():
        p.assign_(an.asarray(rng.normal(size=p.shape).astype("float32") * 0.3 + p.detach().numpy()))
    return net


def test_gpt_computes_what_pytorchs_blocks_do() -> None:
    net = stirred(GPT(**SMALL))
    net.eval()
    x = tokens(3, 7)
    layer = torch.nn.TransformerEncoderLayer(
        8,
        2,
        32,
        0.0,
        lambda a: torch.nn.functional.gelu(a, approximate="tanh"),
        batch_first=True,
        norm_first=True,
    )
    blocks = [layer, torch.nn.TransformerEncoderLayer(
        8, 2, 32, 0.0, lambda a: torch.nn.functional.gelu(a, approximate="tanh"), batch_first=True, norm_first=True
    )]  # fmt: skip
    state = {k: torch.tensor(v.numpy()) for k, v in net.state_dict().items()}
    names = {
        "self_attn.in_proj_weight": "attn.c_attn.weight", "self_attn.in_proj_bias": "attn.c_attn.bias",
        "self_attn.out_proj.weight": "attn.c_proj.weight", "self_attn.out_proj.bias": "attn.c_proj.bias",
        "linear1.weight": "mlp.c_fc.weight", "linear1.bias": "mlp.c_fc.bias", "linear2.weight": "mlp.c_proj.weight",
        "linear2.bias": "mlp.c_proj.bias", "norm1.weight": "ln_1.weight", "norm1.bias": "ln_1.bias", "norm2.weight": "ln_2.weight",
        "norm2.bias": "ln_2.bias",
    }  # fmt: skip
    y = state["wte.weight"][torch.tensor(x.numpy())] + state["wpe.weight"][:7]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7)
    for i, block in enumerate(blocks):
        block.load_state_dict({theirs: state[f"h.{i}.{ours}"] for theirs, ours in names.items()})
        y = block(y, src_mask=mask, is_causal=True)
    y = (
        torch.nn.functional.layer_norm(y, (8,), state["ln_f.weight"], state["ln_f.bias"])
        @ state["wte.weight"].T
    )
    got = net(x)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got.numpy(), y.detach().numpy(), rtol=2e-4, atol=2e-5)


MODELS = {
    "learned": lambda: GPT(**SMALL),
    "rotary": lambda: GPT(**SMALL, positions="rotary", tied=False, bias=False),
    "lstm": lambda: LSTMLanguageModel(11, 8, 2),
    "tied lstm": lambda: LSTMLanguageModel(11, 8, 1, tied=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_cache_gives_the_scores_of_the_whole_text(name: str, xp_device: str) -> None:
    net = stirred(MODELS[name]()).to(xp_device)
    net.eval()
    x = tokens(2, 12, xp_device)
    with an.no_grad():
        whole = net(x)
        for pieces in ([12], [1] * 12, [5, 1, 1, 4, 1], [3, 9]):
            cache, at, got = net.new_cache(), 0, []
            for size in pieces:
                got.append(net(x[:, at : at + size], cache))
                at += size
            assert cache.length == 12
            found = an.concat(got, axis=1)
            assert (found.dtype, found.device) == (whole.dtype, xp_device)
            np.testing.assert_allclose(found.to("cpu").numpy(), whole.to("cpu").numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_later_tokens_change_nothing_before_them(name: str) -> None:
    net = stirred(MODELS[name]())
    net.eval()
    x = tokens(2, 9).numpy()
    other = x.copy()
    other[:, 5:] = (other[:, 5:] + 1) % 11
    a, b = (net(an.asarray(v)).numpy() for v in (x, other))
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert not np.allclose(a[:, 5:], b[:, 5:])


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_the_right_gradient(name: str) -> None:
    net = stirred(MODELS[name]())
    net.to(an.float64)
    x, y = tokens(2, 5), tokens(2, 5)
    loss = lambda: an.losses.token_cross_entropy(net(x), y)  # noqa: E731
    loss().backward()
    for key, p in net.named_parameters():
        direction = rng.normal(size=p.shape)
        before = p.detach().numpy().copy()
        ends = []
        for sign in (1, -1):
            p.assign_(an.asarray(before + sign * 1e-5 * direction))
            ends.append(float(loss()))
        p.assign_(an.asarray(before))
        np.testing.assert_allclose(
            (ends[0] - ends[1]) / 2e-5, (p.grad.numpy() * direction).sum(), rtol=1e-5, atol=1e-9, err_msg=key
        )


def test_hugging_faces_weights_load_by_name() -> None:
    net = stirred(GPT(**SMALL))
    theirs = {}
    for name, value in net.state_dict().items():
        turned = ".attn.c" in name or ".mlp.c" in name
        theirs[f"transformer.{name}"] = (
            value.numpy().T.copy() if turned and value.ndim == 2 else value.numpy()
        )
    theirs["lm_head.weight"] = theirs["transformer.wte.weight"]
    for i in range(2):
        theirs[f"transformer.h.{i}.attn.bias"] = np.tril(np.ones((1, 1, 12, 12), dtype=bool))
        theirs[f"transformer.h.{i}.attn.masked_bias"] = np.asarray(-1e4, dtype="float32")
    other = GPT(**SMALL)
    report = load_weights(other, theirs)
    assert not report.missing
    assert not report.unexpected
    x = tokens(1, 6)
    np.testing.assert_array_equal(other(x).numpy(), net(x).numpy())
    again = GPT(**SMALL)
    load_weights(again, net.state_dict())  # its own names and forms stay as they are
    np.testing.assert_array_equal(again(x).numpy(), net(x).numpy())


def test_the_size_of_gpt_2() -> None:
    with an.random.fork_rng(0):
        net = GPT(vocabulary=50257, context=1024, width=64, layers=1, heads=2)
    sizes = {name: p.shape for name, p in net.named_parameters()}
    assert sizes["h.0.attn.c_attn.weight"] == (192, 64)
    assert sizes["h.0.mlp.c_fc.weight"] == (256, 64)
    assert sum(p.size for p in net.parameters()) == 50257 * 64 + 1024 * 64 + 12 * 64 * 64 + 13 * 64 + 2 * 64


def test_dropout_acts_in_training_only() -> None:
    net = GPT(**SMALL, dropout=0.5)
    x = tokens(2, 5)
    assert not np.array_equal(net(x).numpy(), net(x).numpy())
    net.eval()
    np.testing.assert_array_equal(net(x).numpy(), net(x).numpy())


def test_what_is_refused() -> None:
    net, x = GPT(**SMALL), tokens(1, 13)
    with pytest.raises(ValueError, match=r"at most context=12 tokens, got 13"):
        net(x)
    with an.no_grad():
        cache = net.new_cache()
        net(x[:, :10], cache)
        with pytest.raises(ValueError, match=r"got 3 after 10"):
            net(x[:, :3], cache)
        with pytest.raises(ValueError, match="1 texts at once, got 2"):
            net(tokens(2, 1), cache)
    with pytest.raises(RuntimeError, match="no graph"):
        net(x[:, :2], net.new_cache())
    recurrent = LSTMLanguageModel(11, 8)
    with pytest.raises(RuntimeError, match="no graph"):
        recurrent(x[:, :2], recurrent.new_cache())
    for call, message in (
        (lambda: GPT(**SMALL)(an.zeros(3, dtype=an.int64)), r"tokens must be \(n, t\)"),
        (lambda: GPT(5, 4, 9, 1, 2), "heads must divide width"),
        (lambda: GPT(5, 4, 6, 1, 2, positions="rotary"), "even quotient"),
        (lambda: GPT(5, 4, 8, 1, 2, positions="sine"), "positions must be"),
        (lambda: GPT(0), "vocabulary must be an integer ≥ 1"),
        (lambda: LSTMLanguageModel(5, 4, hidden=3, tied=True), "tied needs hidden = width"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
