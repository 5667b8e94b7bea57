"""Whose face is it: 40 people of the Olivetti faces, five pictures of each to learn from and the five others to be recognised.

The mean over five drawings. To reach: 95 % (Lawrence et al. 1997 report 96.2 % with a convolutional network); the
nearest neighbour among the pixels has 93.5 to 96.5 %.
"""

import numpy as np

import anynet as an
from anynet import nn
from anynet.gallery import Figure, bars, example, tiles

PEOPLE = np.arange(40).repeat(5)


def nearest(x, test_x):
    """The person of the nearest picture."""
    a, b = an.asarray(test_x.reshape(200, -1)), an.asarray(x.reshape(200, -1))
    return PEOPLE[an.argmin(an.sum(b * b, axis=1) - 2.0 * an.matmul(a, b.mT), axis=1).numpy()]


def trained(run, x, test_x):
    """What a network with one hidden layer says, which has seen five pictures of each."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(28 * 23, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 40))
    an.fit(
        net, (x, PEOPLE), loss="cross_entropy", lr=1e-3, batch_size=20, epochs=run.pick(60, 10), device=run.device, seed=run.seed,
        progress=False,
    )  # fmt: skip
    return an.argmax(an.asarray(an.predict(net, test_x)), axis=-1).numpy()


@example(
    topic="pictures",
    figures=[
        Figure("nearest neighbour's accuracy", 93.0, 97.0, unit="%", source="93.5 to 96.5"),
        Figure("network's test accuracy", at_least=95.0, unit="%", quick=70.0, source="95 to 96"),
    ],
)
def main(run):
    pictures, _ = run.data("faces", "all", scaled=True)  # (400, 112, 92), person by person
    small = pictures.reshape(40, 10, 28, 4, 23, 4).mean((3, 5))  # blocks of 4×4
    scores = {"nearest neighbour": [], "network": []}
    for draw in range(run.pick(5, 1)):
        order = an.random.permutation(10).numpy()
        x, test_x = small[:, order[:5]].reshape(200, 28, 23), small[:, order[5:]].reshape(200, 28, 23)
        mean, std = x.mean(0), x.std(0) + 1e-3  # of the pictures to learn from
        x, test_x = (x - mean) / std, (test_x - mean) / std
        near, said = nearest(x, test_x), trained(run, x, test_x)
        scores["nearest neighbour"].append(100 * float((near == PEOPLE).mean()))
        scores["network"].append(100 * float((said == PEOPLE).mean()))
        run.say(
            f"drawing {draw + 1}: "
            + ", ".join(f"{name} {values[-1]:.1f} %" for name, values in scores.items())
        )
    shown = []
    for i in np.flatnonzero(said != PEOPLE)[:8]:
        shown += [small[PEOPLE[i], order[5 + i % 5]], small[said[i], order[0]]]
    names = [f"{name}, drawing {d + 1}" for name in scores for d in range(len(scores[name]))]
    run.picture(
        bars(names, [v for values in scores.values() for v in values], title="test accuracy in %"),
        tiles(small[:16, 0], [f"person {i}" for i in range(16)], title="some of the people"),
        tiles(
            shown,
            ["who it is", "taken for"] * 8,
            title="the network's mistakes: the face, and the person it was taken for",
        ),
    )
    run.figure("nearest neighbour's accuracy", np.mean(scores["nearest neighbour"]))
    run.figure("network's test accuracy", np.mean(scores["network"]))


if __name__ == "__main__":
    main()
