"""The adding problem: two of fifty numbers are marked, the answer is their sum; LSTM and GRU learn it, a plain RNN does not.

Hochreiter and Schmidhuber (1997). Hidden size 32, Adam 5e-3, gradients clipped to the norm 1; new sequences each
step. Always saying 1 has an error of 1/6.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines

LENGTH, BATCH = 50, 64


class Reader(nn.Module):
    """A recurrent layer and a number read off its last state."""

    def __init__(self, layer):
        self.layer, self.head = layer(2, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])[:, 0]


def batch(count=BATCH):
    """Sequences (count, LENGTH, 2) of numbers and marks, one mark in each half; and the sums."""
    numbers = an.random.uniform((count, LENGTH))
    first, second = (
        an.random.integers(a, b, (count, 1)) for a, b in ((0, LENGTH // 2), (LENGTH // 2, LENGTH))
    )
    places = an.arange(LENGTH)
    marks = an.astype(an.logical_or(places == first, places == second), numbers.dtype)
    return an.stack([numbers, marks], axis=2), an.sum(numbers * marks, axis=1)


@example(
    topic="sequences",
    figures=[
        Figure("error of the RNN", at_least=0.03, form=".4f", source=".087 after 2,500 steps"),
        Figure("error of the GRU", at_most=0.01, form=".4f"),
        Figure("error of the LSTM", at_most=0.01, form=".4f", source=".0015", quick=0.3),
    ],
)
def main(run):
    steps, curves, test = run.pick(1500, 24), [], batch(1000)
    for name, layer in (("RNN", nn.RNN), ("GRU", nn.GRU), ("LSTM", nn.LSTM)):
        an.random.manual_seed(run.seed)
        net, losses = Reader(layer), []
        optimizer = an.optim.Adam(net.parameters(), lr=5e-3)
        for step in range(1, steps + 1):
            x, y = batch()
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            run.progress(step, steps, f"{name}: error {sum(losses[-50:]) / len(losses[-50:]):.4f}", times=5)
        with an.no_grad():
            run.figure(f"error of the {name}", nn.functional.mse_loss(net(test[0]), test[1]))
        means = [sum(losses[i : i + 20]) / len(losses[i : i + 20]) for i in range(0, steps, 20)]
        curves.append(Series(name, range(0, steps, 20), means))
    curves.append(Series("always 1", [0, steps], [1 / 6, 1 / 6], dash=1))
    run.picture(lines(curves, title="mean squared error by step", log_y=True))


if __name__ == "__main__":
    main()
