"""The example's BERT and the library's GPT load checkpoints that PyTorch wrote under Hugging Face's names, and agree."""

import importlib.util
import math
import pathlib

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

save_file = pytest.importorskip("safetensors.torch").save_file
T, TF = torch.nn, torch.nn.functional
EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attend(q, k, v, heads, mask):
    n, t, w = q.shape
    q, k, v = (x.reshape(n, -1, heads, w // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(w // heads)
    return (scores.masked_fill(mask, -math.inf).softmax(-1) @ v).transpose(1, 2).reshape(n, t, w)


def gpt2(state, tokens, layers, heads):
    """GPT-2 as Hugging Face computes it, from the state dict alone."""
    s = {k.removeprefix("transformer."): v for k, v in state.items()}
    norm = lambda x, name: TF.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])  # noqa: E731
    conv1d = lambda x, name: x @ s[f"{name}.weight"] + s[f"{name}.bias"]  # noqa: E731
    t = tokens.shape[1]
    x = s["wte.weight"][tokens] + s["wpe.weight"][:t]
    mask = torch.ones(t, t, dtype=torch.bool).triu(1)
    for i in range(layers):
        q, k, v = conv1d(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, -1)
        x = x + conv1d(attend(q, k, v, heads, mask), f"h.{i}.attn.c_proj")
        y = TF.gelu(conv1d(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
        x = x + conv1d(y, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ s["wte.weight"].T


def test_gpt2(tmp_path):
    torch.manual_seed(0)
    width, layers, heads, context, vocabulary = 32, 2, 4, 16, 50
    r = lambda *shape: torch.randn(shape) * 0.3  # noqa: E731
    state = {"transformer.wte.weight": r(vocabulary, width), "transformer.wpe.weight": r(context, width)}
    for i in range(layers):
        h = f"transformer.h.{i}."
        for name, shape in (("attn.c_attn", (width, 3 * width)), ("attn.c_proj", (width, width)),
                            ("mlp.c_fc", (width, 4 * width)), ("mlp.c_proj", (4 * width, width))):  # fmt: skip
            state |= {f"{h}{name}.weight": r(*shape), f"{h}{name}.bias": r(shape[1])}
        for name in ("ln_1", "ln_2"):
            state |= {f"{h}{name}.weight": 1 + r(width), f"{h}{name}.bias": r(width)}
        state[f"{h}attn.bias"] = torch.ones(1, 1, context, context).tril()
    state |= {"transformer.ln_f.weight": 1 + r(width), "transformer.ln_f.bias": r(width)}
    state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")

    net = an.models.GPT(vocabulary, context, width, layers, heads).eval()
    an.models.load_weights(net, tmp_path / "model.safetensors")
    tokens = np.random.default_rng(0).integers(0, vocabulary, (3, 11))
    wanted = gpt2(state, torch.tensor(tokens), layers, heads).numpy()
    got = net(an.asarray(tokens)).numpy()
    assert got.dtype == np.float32
    assert np.linalg.norm(got - wanted) <= 1e-5 * np.linalg.norm(wanted)


def bert(state, tokens, kinds, padding, layers, heads):
    """BERT as Hugging Face computes it, from the state dict alone."""
    s = {k.removeprefix("bert."): v for k, v in state.items()}
    norm = lambda x, name: TF.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], 1e-12)  # noqa: E731
    linear = lambda x, name: TF.linear(x, s[f"{name}.weight"], s[f"{name}.bias"])  # noqa: E731
    e = "embeddings."
    x = s[e + "word_embeddings.weight"][tokens] + s[e + "position_embeddings.weight"][: tokens.shape[1]]
    x = norm(x + s[e + "token_type_embeddings.weight"][kinds], e + "LayerNorm")
    mask = padding[:, None, None, :]
    for i in range(layers):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{p}attention.self.{n}") for n in ("query", "key", "value"))
        y = linear(attend(q, k, v, heads, mask), p + "attention.output.dense")
        x = norm(x + y, p + "attention.output.LayerNorm")
        y = linear(TF.gelu(linear(x, p + "intermediate.dense")), p + "output.dense")
        x = norm(x + y, p + "output.LayerNorm")
    return x, torch.tanh(linear(x[:, 0], "pooler.dense"))


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_bert(tmp_path, prefix):
    torch.manual_seed(0)
    width, layers, heads, inner = 32, 2, 4, 48
    r = lambda *shape: torch.randn(shape) * 0.3  # noqa: E731
    state = {
        "embeddings.word_embeddings.weight": r(60, width), "embeddings.position_embeddings.weight": r(20, width),
        "embeddings.token_type_embeddings.weight": r(2, width), "embeddings.position_ids": torch.arange(20)[None],
    }  # fmt: skip
    shapes = {"pooler.dense": (width, width)}
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        p = f"encoder.layer.{i}."
        shapes |= {f"{p}attention.self.{n}": (width, width) for n in ("query", "key", "value")}
        shapes |= {p + "attention.output.dense": (width, width), p + "intermediate.dense": (inner, width),
                   p + "output.dense": (width, inner)}  # fmt: skip
        norms += [p + "attention.output.LayerNorm", p + "output.LayerNorm"]
    for name, shape in shapes.items():
        state |= {f"{name}.weight": r(*shape), f"{name}.bias": r(shape[0])}
    for name in norms:
        state |= {f"{name}.weight": 1 + r(width), f"{name}.bias": r(width)}
    state = {prefix + k: v for k, v in state.items()}
    save_file(state, tmp_path / "model.safetensors")

    module = example("bert")
    net = module.Bert(60, 20, 2, width, layers, heads, inner).eval()
    net.load_state_dict(module.from_huggingface(an.load(tmp_path / "model.safetensors")))
    rng = np.random.default_rng(0)
    tokens, kinds = rng.integers(1, 60, (3, 9)), rng.integers(0, 2, (3, 9))
    padding = np.arange(9)[None] >= np.asarray([[9], [5], [7]])
    wanted = bert(state, torch.tensor(tokens), torch.tensor(kinds), torch.tensor(padding), layers, heads)
    got = net(an.asarray(tokens), an.asarray(kinds), an.asarray(padding))
    keep = ~padding
    for mine, other, cut in (
        (got[0].numpy()[keep], wanted[0].numpy()[keep], 0),
        (got[1].numpy(), wanted[1].numpy(), 0),
    ):
        assert np.linalg.norm(mine - other) <= 1e-5 * np.linalg.norm(other), cut
