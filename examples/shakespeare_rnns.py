"""Tiny Shakespeare, letter by letter: counts, then an RNN, a GRU and an LSTM of the same size.

Embedding of 64, 128 units, windows of 64 letters from a state of zeros, batches of 32, Adam 4e-3, gradients clipped
to the norm 1. The last tenth of the text is the validation part; pairs of letters counted with one added have 2.4819
nats on it (exact). The LSTM trains thrice as long.
"""

import itertools
import math
from collections import Counter

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, text_block


class Writer(nn.Module):
    """The next letter from those before it."""

    def __init__(self, layer, letters, width):
        self.letters, self.layer = (
            nn.Embedding(letters, width // 2),
            layer(width // 2, width, batch_first=True),
        )
        self.head = nn.Linear(width, letters)

    def forward(self, tokens):
        return self.head(self.layer(self.letters(tokens))[0])


def pairs(text, held, letters):
    """Nats a letter of pairs counted in the one text, with one added, in the other."""
    counted, rows = Counter(itertools.pairwise(text)), Counter(text[:-1])
    chance = lambda a, b: (counted[a, b] + 1) / (rows[a] + letters)  # noqa: E731
    return -sum(math.log(chance(a, b)) for a, b in itertools.pairwise(held)) / (len(held) - 1)


def loss_on(net, tokens):
    """Nats a letter, in windows of 64 from a state of zeros."""
    n = (tokens.shape[0] - 1) // 64 * 64
    x, y = (an.reshape(tokens[i : i + n], (-1, 64)) for i in (0, 1))
    return an.evaluate(net, (x, y), loss=nn.TokenCrossEntropyLoss())["loss"]


@example(
    topic="language",
    figures=[
        Figure("pairs counted, nats", 2.4818, 2.482, form=".4f", quick=True, source="2.4819, exact"),
        Figure("RNN after 500 steps, nats", form=".3f"),
        Figure("GRU after 500 steps, nats", at_most=1.95, form=".3f"),
        Figure("LSTM after 500 steps, nats", at_most=1.88, form=".3f", source="1.843"),
        Figure("LSTM after 1,500 steps, nats", at_most=1.74, form=".3f", source="1.714", quick=4.2),
    ],
)
def main(run):
    text = run.data("tinyshakespeare")
    alphabet = sorted(set(text))
    codes = {c: i for i, c in enumerate(alphabet)}
    cut = len(text) * 9 // 10
    run.figure("pairs counted, nats", counted := pairs(text[:cut], text[cut:], len(alphabet)))
    learnt, held = (
        an.asarray([codes[c] for c in text[:cut]]),
        an.asarray([codes[c] for c in text[cut : run.pick(None, cut + 4097)]]),
    )
    curves, window = [Series("pairs", [0, 1500], [counted] * 2, dash=1)], an.reshape(an.arange(65), (1, 65))
    for name, layer in (("RNN", nn.RNN), ("GRU", nn.GRU), ("LSTM", nn.LSTM)):
        an.random.manual_seed(run.seed)
        net, at, found = Writer(layer, len(alphabet), run.pick(128, 16)), [], []
        optimizer = an.optim.Adam(net.parameters(), lr=4e-3)
        steps = run.pick(1500 if name == "LSTM" else 500, 6)
        for step in range(1, steps + 1):
            rows = an.random.integers(0, cut - 65, (32, 1)) + window
            tokens = an.reshape(an.take(learnt, an.reshape(rows, (-1,))), (32, 65))
            optimizer.zero_grad()
            loss = nn.TokenCrossEntropyLoss()(net(tokens[:, :-1]), tokens[:, 1:])
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            if step % run.pick(250, 6) == 0:
                at.append(step)
                found.append(loss_on(net, held))
                run.say(
                    f"{name:4} step {step:4}: training {loss.item():.3f}, validation {found[-1]:.3f} nats"
                )
        curves.append(Series(name, at, found))
        run.figure(f"{name} after 500 steps, nats", found[min(1, len(found) - 1)])
    run.figure("LSTM after 1,500 steps, nats", found[-1])
    letters = an.generate(net, [codes["\n"]], length=run.pick(500, 5), context=64, seed=run.seed)
    written = "".join(alphabet[t] for t in letters)
    run.picture(
        lines(curves, title="validation loss in nats by step"),
        text_block(written, title="what the LSTM writes"),
    )


if __name__ == "__main__":
    main()
