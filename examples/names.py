"""Names, letter by letter: counts of pairs, then a GRU that invents better ones.

Karpathy's makemore: 32,033 first names. The pairs' loss on all of them, 2.4540 nats with counts + 0, is exact. The
GRU is trained on four fifths and scored on the last tenth of a shuffled list.
"""

import math
from collections import Counter

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, heat_map, history_lines, text_block

LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # the dot begins and ends


class Speller(nn.Module):
    """The next letter from those before it."""

    def __init__(self, width):
        self.letters, self.layer, self.head = (
            nn.Embedding(27, 32),
            nn.GRU(32, width, batch_first=True),
            nn.Linear(width, 27),
        )

    def forward(self, tokens):
        return self.head(self.layer(self.letters(tokens))[0])


def pairs(names):
    """The mean −ln p of pairs of letters counted in the names themselves, and the table of p."""
    counted = Counter(pair for name in names for pair in zip("." + name, name + ".", strict=True))
    rows = Counter(a for a, _ in counted.elements())
    loss = -sum(n * math.log(n / rows[a]) for (a, _), n in counted.items()) / counted.total()
    return loss, [[counted[a, b] / rows[a] for b in LETTERS] for a in LETTERS]


def arrays(names):
    """Letters (n, 16) that begin with the dot, and the letters after them, −100 where the name has ended."""
    codes = [[LETTERS.index(c) for c in name] for name in names]
    now = [[0, *row] + [0] * (15 - len(row)) for row in codes]
    after = [[*row, 0] + [-100] * (15 - len(row)) for row in codes]
    return an.asarray(now), an.asarray(after)


@example(
    topic="language",
    figures=[
        Figure("loss of pairs in nats", 2.4539, 2.4541, form=".4f", quick=True, source="2.4540, exact"),
        Figure("test loss of the GRU in nats", at_most=2.1, form=".3f", quick=2.9),
    ],
)
def main(run):
    names = run.data("names")
    loss, table = pairs(names)
    run.say(f"pairs: {loss:.4f} nats")
    order = an.random.permutation(len(names)).tolist()
    tenth = len(names) // 10
    learnt, held, test = (
        [names[i] for i in part]
        for part in (order[: 8 * tenth], order[8 * tenth : 9 * tenth], order[9 * tenth :])
    )
    net = Speller(run.pick(128, 32))
    history = an.fit(
        net, arrays(learnt[: run.pick(None, 2000)]), arrays(held[: run.pick(None, 200)]), loss=nn.TokenCrossEntropyLoss(), lr=3e-3,
        batch_size=64, epochs=run.pick(8, 2), scheduler="cosine", device=run.device, seed=run.seed,
    )  # fmt: skip
    scored = an.evaluate(net, arrays(test[: run.pick(None, 500)]), loss=nn.TokenCrossEntropyLoss())["loss"]
    starts = an.zeros((run.pick(20, 4), 1), dtype=an.int64)
    letters = zip(
        *an.generate(net, starts, length=15, temperature=1.0, context=16, seed=run.seed), strict=True
    )
    invented = ["".join(LETTERS[t] for t in row).partition(".")[0] for row in letters]
    run.say("invented:", ", ".join(invented))
    run.picture(
        heat_map(
            table,
            list(LETTERS),
            list(LETTERS),
            title="probability of a letter (across) after a letter (down)",
        ),
        history_lines(history, "loss", "val_loss", title="loss by epoch"),
        text_block("\n".join(invented), title="names that it invents"),
    )
    run.figure("loss of pairs in nats", loss)
    run.figure("test loss of the GRU in nats", scored)


if __name__ == "__main__":
    main()
