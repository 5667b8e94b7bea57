"""GPT-2 (Radford et al. 2019) from anynet's layers, with the parameter names of Hugging Face's checkpoints.

    python examples/gpt2.py                          trains a small one on tiny Shakespeare, character by character
    python examples/gpt2.py model.safetensors        loads the weights of `gpt2` and says what it is made of
The text is `text/tinyshakespeare.txt` in the folder $ANYNET_DATA; without it this file itself is learnt.
"""

import os
import pathlib
import sys
import time

import numpy as np

import anynet as an
from anynet import nn
from anynet.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        n, t, width = x.shape
        qkv = an.reshape(self.attn["c_attn"](self.ln_1(x)), (n, t, 3, self.heads, width // self.heads))
        q, k, v = an.unstack(an.permute_dims(qkv, (2, 0, 3, 1, 4)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](an.reshape(an.permute_dims(y, (0, 2, 1, 3)), (n, t, width)))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, vocabulary=50257, context=1024, width=768, layers=12, heads=12):
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1], :]
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)  # the output shares the weights of the input


def from_huggingface(state):
    """A Hugging Face state dict under this model's names: its linear layers hold transposed matrices."""
    found = {}
    for name, value in state.items():
        name = name.removeprefix("transformer.")
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue  # shared, or the causal mask
        turned = name.endswith(".weight") and (".attn." in name or ".mlp." in name)
        found[name] = an.matrix_transpose(an.asarray(value)) if turned else value
    return found


def train(book):
    letters = sorted(set(book))
    data = np.asarray([letters.index(c) for c in book])
    an.random.manual_seed(0)
    net = GPT2(len(letters), context=64, width=64, layers=2, heads=4)
    optimizer = an.optim.AdamW(net.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)

    @an.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(an.reshape(net(x), (-1, len(letters))), an.reshape(y, (-1,)))
        loss.backward()
        an.optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    steps, began = 20 if os.environ.get("ANYNET_SHORT") else 600, time.perf_counter()
    for i in range(1, steps + 1):
        windows = np.stack([data[s : s + 65] for s in rng.integers(0, len(data) - 65, 32)])
        loss = step(an.asarray(windows[:, :-1]), an.asarray(windows[:, 1:]))
        if i % max(steps // 10, 1) == 0:
            print(f"step {i}  loss {loss.item():.3f} nats a character  {time.perf_counter() - began:.1f} s")
    tokens = [letters.index("\n")]
    for _ in range(20 if steps == 20 else 300):
        p = F.softmax(net(an.asarray([tokens[-64:]])).detach()[0, -1, :]).numpy().astype(float)
        tokens.append(int(rng.choice(len(letters), p=p / p.sum())))
    print("".join(letters[t] for t in tokens))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        model = GPT2()
        model.load_state_dict(from_huggingface(an.load(sys.argv[1])))
        print(model.summary(an.zeros((1, 8), dtype=an.int64)))
    else:
        file = pathlib.Path(os.environ.get("ANYNET_DATA", "."), "text", "tinyshakespeare.txt")
        train((file if file.exists() else pathlib.Path(__file__)).read_text(encoding="utf-8"))
