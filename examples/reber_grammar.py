"""The embedded Reber grammar: the second symbol decides the last but one; an LSTM remembers it, an RNN less surely.

Hochreiter and Schmidhuber (1997), eight hidden units, 12,000 strings. The figure is the share of new strings whose last but one
symbol has the larger probability of the two that may stand there, in the mean of five runs; a guess has 50 %.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines

SYMBOLS = "BTPSXVE"
CHANGED = "one run at first, which is the first of the five: 85.6 % for the RNN, 100 % for the LSTM"
GRAMMAR = [
    [("T", 1), ("P", 2)],
    [("S", 1), ("X", 3)],
    [("T", 2), ("V", 4)],
    [("X", 2), ("S", 5)],
    [("P", 3), ("V", 5)],
]


def string(coins):
    """A string of the grammar; `coins` gives zeros and ones."""
    outer, inner, state = "TP"[next(coins)], "B", 0
    while state < 5:
        symbol, state = GRAMMAR[state][next(coins)]
        inner += symbol
    return f"B{outer}{inner}E{outer}E"


def strings(count):
    """So many strings, with the coins of the default stream."""
    thrown = iter(an.random.integers(0, 2, (100 * count + 1000,)).tolist())  # about 9 for each
    return [string(thrown) for _ in range(count)]


def arrays(texts):
    """Symbols one-hot (n, t, 7) with the next symbols (n, t), −1 where there is none; and the places of the last but one."""
    longest, codes = max(map(len, texts)), [[SYMBOLS.index(c) for c in text] for text in texts]
    now = [row[:-1] + [0] * (longest - len(row)) for row in codes]
    after = [row[1:] + [-1] * (longest - len(row)) for row in codes]
    one_hot = an.astype(an.expand_dims(an.asarray(now), axis=2) == an.arange(7), an.float32)
    return one_hot, an.asarray(after), [len(text) - 3 for text in texts]


class Predictor(nn.Module):
    def __init__(self, layer):
        self.layer, self.head = layer(7, 8, batch_first=True), nn.Linear(8, 7)

    def forward(self, x):
        return self.head(self.layer(x)[0])


def remembered(net, texts):
    """The share of strings in which the last but one symbol is known."""
    x, _, places = arrays(texts)
    with an.no_grad():
        scores = net(x)
    right = 0
    for i, (text, place) in enumerate(zip(texts, places, strict=True)):
        t, p = (scores[i, place, SYMBOLS.index(c)].item() for c in "TP")
        right += ("T" if t > p else "P") == text[1]
    return 100 * right / len(texts)


@example(
    topic="sequences",
    figures=[
        Figure("strings remembered by the RNN", None, 80, "%", ".1f", source="62", changed=CHANGED),
        Figure("strings remembered by the LSTM", 95, None, "%", ".1f", source="97.3 to 99.6"),
    ],
)
def main(run):
    count, size, runs, curves = run.pick(12_000, 200), 2, run.pick(5, 1), []
    for name, layer in (("RNN", nn.RNN), ("LSTM", nn.LSTM)):
        found = []
        for seed in range(run.seed, run.seed + runs):
            an.random.manual_seed(seed)
            texts, test = strings(count), strings(run.pick(1000, 50))
            an.random.manual_seed(seed)
            net, rates = Predictor(layer), []
            optimizer = an.optim.Adam(net.parameters(), lr=5e-3)
            for i in range(0, count, size):
                x, after, _ = arrays(texts[i : i + size])
                optimizer.zero_grad()
                said, after = an.reshape(net(x), (-1, 7)), an.reshape(after, (-1,))
                nn.functional.cross_entropy(said, after, ignore_index=-1).backward()
                optimizer.step()
                if (i + size) % (count // 10) == 0:
                    rates.append(remembered(net, test))
            run.say(f"{name:4} run {seed}: {rates[-1]:.1f} % remembered")
            found.append(rates)
        at = range(count // 10, count + 1, count // 10)
        curves += [Series(f"{name} {k}", at, rates) for k, rates in enumerate(found)]
        run.figure(f"strings remembered by the {name}", sum(rates[-1] for rates in found) / runs)
    run.picture(lines(curves, title="strings remembered, in %", x_label="strings seen", y_range=(0, 100)))


if __name__ == "__main__":
    main()
