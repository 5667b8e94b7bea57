"""3-D convolution: which way a digit moves, which no single picture tells.

Clips of 6 pictures of 14×14 in which one of the handwritten digits moves left, right, up or down by a pixel a picture, beginning
anywhere, with noise. A network of 3-D convolutions (time, height, width) sees motion; the same with 2-D convolutions of each picture by
itself, its features averaged over the time, can only guess: 25 %.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example, tiles

FRAMES, SIDE = 6, 14
WAYS = ((0, -1), (0, 1), (-1, 0), (1, 0))


def clips(run, images, n, generator):
    """n clips (n, 1, frames, side, side) of digits, and the numbers of their ways: shifts round the edge of a picture."""
    chosen = an.random.integers(0, len(images), (n,), generator=generator).tolist()
    starts = an.random.integers(0, SIDE, (n, 2), generator=generator).tolist()
    ways = an.random.integers(0, 4, (n,), generator=generator)
    digits = run.array(images[chosen] / 16.0, dtype=an.float32)
    wide = an.nn.functional.pad(digits, (0, SIDE - 8, 0, SIDE - 8))
    found = []
    for picture, (row, column), way in zip(an.unstack(wide), starts, ways.tolist(), strict=True):
        down, right = WAYS[way]
        found.append(an.stack([an.roll(picture, (row + t * down, column + t * right), axis=(0, 1)) for t in range(FRAMES)]))  # fmt: skip
    x = an.stack(found)
    return (x + an.random.normal(x.shape, std=0.2, generator=generator))[:, None, ...], ways


class PictureByPicture(nn.Module):
    """2-D convolutions of each picture, the mean over the time, a linear layer."""

    def __init__(self):
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        n = x.shape[0]
        each = self.net(an.reshape(an.permute_dims(x, (0, 2, 1, 3, 4)), (n * FRAMES, 1, SIDE, SIDE)))
        return self.head(an.mean(an.reshape(each, (n, FRAMES, -1)), axis=1))


def with_time():
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d((1, 2, 2)), nn.Conv3d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d((1, 2, 2)), nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip


@example(
    topic="images",
    figures=[
        Figure("accuracy of 2-D convolutions", at_most=32, unit="%", form=".1f", source="chance is 25"),
        Figure("accuracy of 3-D convolutions", at_least=95, unit="%", form=".1f"),
    ],
)
def main(run):
    (images, _), (test, _) = run.data("digits", "train"), run.data("digits", "test")
    x, ways = clips(run, images, run.pick(2000, 60), an.random.Generator(run.seed + 1))
    new, truth = clips(run, test, run.pick(500, 40), an.random.Generator(run.seed + 2))
    rates = {}
    for name, make in (("2-D convolutions", PictureByPicture), ("3-D convolutions", with_time)):
        net = make()
        an.fit(
            net,
            (x, ways),
            loss="cross_entropy",
            lr=3e-3,
            epochs=run.pick(8, 1),
            batch_size=32,
            seed=run.seed,
            progress=False,
            device=run.device,
        )
        score = an.evaluate(net, (new, truth), loss="cross_entropy", metrics=["accuracy"])
        rates[name] = 100 * score["accuracy"]
        run.say(f"{name}: {score}")
        run.figure(f"accuracy of {name}", rates[name])
    shown = [new[i, 0, t, :, :].tolist() for i in range(4) for t in range(FRAMES)]
    labels = [("left", "right", "up", "down")[int(truth[i])] if t == 0 else "" for i in range(4) for t in range(FRAMES)]  # fmt: skip
    run.picture(
        bars(list(rates), list(rates.values()), title="test accuracy, %"),
        tiles(shown, labels, title="clips", columns=FRAMES),
    )


if __name__ == "__main__":
    main()
