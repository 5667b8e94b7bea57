"""BERT's encoder (Devlin et al. 2019) from anynet's transformer layers, with weights under Hugging Face's names.

python examples/bert.py                          a small one with random weights
python examples/bert.py model.safetensors        loads the weights of `bert-base-uncased`
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, heat_map


class Bert(nn.Module):
    """Tokens (n, t) → hidden states (n, t, width) and the pooled state of the first token (n, width)."""

    def __init__(
        self, vocabulary=30522, places=512, kinds=2, width=768, layers=12, heads=12, inner=3072, eps=1e-12
    ):
        self.words, self.places = nn.Embedding(vocabulary, width, padding_idx=0), nn.Embedding(places, width)
        self.kinds, self.norm = nn.Embedding(kinds, width), nn.LayerNorm(width, eps)
        layer = nn.TransformerEncoderLayer(
            width, heads, inner, 0.1, activation="gelu", layer_norm_eps=eps, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.pooler, self.dropout = nn.Linear(width, width), nn.Dropout(0.1)

    def forward(self, tokens, kinds=None, padding=None):
        """`kinds`: which sentence a token belongs to; `padding`: True where there is none."""
        x = self.words(tokens) + self.places.weight[: tokens.shape[1], :]
        x = x + self.kinds(an.zeros_like(tokens) if kinds is None else kinds)
        x = self.encoder(self.dropout(self.norm(x)), src_key_padding_mask=padding)
        return x, an.tanh(self.pooler(x[:, 0, :]))


NAMES = {
    "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm", "pooler.dense": "pooler",
    "attention.output.dense": "self_attn.out_proj", "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm2", "encoder.layer": "encoder.layers",
}  # fmt: skip


def from_huggingface(state):
    """A Hugging Face state dict under this model's names; query, key and value become one matrix."""
    found = {}
    for name, value in state.items():
        name = (
            name.removeprefix("bert.")
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias")
        )
        if name.startswith("cls.") or name.endswith("position_ids") or ".attention.self." in name:
            continue
        for old, new in NAMES.items():
            name = name.replace(old, new)
        found[name] = value
    prefix = "bert." if any(name.startswith("bert.") for name in state) else ""
    for i in range(sum(name.endswith(".attention.self.query.weight") for name in state)):
        for kind in ("weight", "bias"):
            parts = [
                state[f"{prefix}encoder.layer.{i}.attention.self.{p}.{kind}"]
                for p in ("query", "key", "value")
            ]
            found[f"encoder.layers.{i}.self_attn.in_proj_{kind}"] = an.concat([an.asarray(p) for p in parts])
    return found


@example(
    topic="language",
    figures=[Figure("largest change by what padding holds", at_most=1e-6, form=".1e", quick=True)],
    arguments="a file with the weights of bert-base-uncased",
)
def main(run):
    net = Bert() if run.arguments else Bert(1000, places=32, width=64, layers=2, heads=4, inner=128)
    if run.arguments:
        net.load_state_dict(from_huggingface(an.load(run.arguments[0])))
    net.eval()
    tokens, others = an.asarray([[101, 7, 42, 102], [101, 9, 102, 0]]), an.asarray([[101, 9, 102, 77]])
    states, pooled = net(tokens, padding=tokens == 0)
    same, _ = net(others, padding=an.asarray([[False, False, False, True]]))
    run.say(f"{sum(p.size for p in net.parameters()):,} parameters; states {states.shape}")
    run.say(f"‖pooled‖ = {an.linalg.vector_norm(pooled).item():.4f}")
    unit = states[0] / an.linalg.vector_norm(states[0], axis=-1, keepdims=True)
    likeness, words = an.abs(an.matmul(unit, unit.mT)), [str(token) for token in tokens[0].tolist()]
    run.picture(
        heat_map(likeness.tolist(), words, words, title="|cosine| of the hidden states of four tokens")
    )
    run.figure("largest change by what padding holds", an.max(an.abs(states[1, :3] - same[0, :3])))


if __name__ == "__main__":
    main()
