"""Denoising diffusion: handwritten digits out of noise, in a hundred steps, or in twenty.

A small U-Net learns to say what noise was added (DDPM, cosine schedule). Whether what it draws are digits is judged by a classifier that
was trained on real ones: how sure it is, and the Fréchet distance between its features of drawn and of real digits (with that of noise,
and of other real digits, beside it).
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, tiles
from anynet.methods import DDPM, DenoisingUNet, cosine_schedule, frechet_distance
from anynet.nn import functional as F


def classifier(run, x, y):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))  # fmt: skip
    options = {
        "epochs": run.pick(30, 2),
        "batch_size": 64,
        "seed": run.seed,
        "progress": False,
        "device": run.device,
    }
    an.fit(net, (x, y), loss="cross_entropy", **options)
    return net.eval()


@example(
    topic="generation",
    figures=[
        Figure("Fréchet distance of noise", form=".3g"),
        Figure("Fréchet distance of real test digits", form=".3g"),
        Figure("Fréchet distance, DDIM in 20 steps, share of noise's", at_most=15, unit="%", form=".1f"),
        Figure("digits of which the classifier is surer than 90 %", at_least=75, unit="%", form=".1f"),
        Figure("Fréchet distance of what is drawn, share of noise's", at_most=10, unit="%", form=".1f"),
    ],
)
def main(run):
    (images, labels), (test, _) = run.data("digits", "train"), run.data("digits", "test")
    x, real = (run.array(part[:, None] / 8 - 1, dtype=an.float32) for part in (images, test))
    judge = classifier(run, x, run.array(labels))
    ddpm = DDPM(DenoisingUNet(1, (32, 64)), cosine_schedule(run.pick(100, 5)))
    optimizer = an.optim.Adam(ddpm.parameters(), lr=1e-3)
    average = an.optim.swa_utils.AveragedModel(ddpm, multi_avg_fn=an.optim.swa_utils.get_ema_multi_avg_fn(0.99))  # fmt: skip
    draws, losses, steps = an.random.Generator(run.seed + 1), [], run.pick(2500, 3)
    for i in range(1, steps + 1):
        chosen = an.random.integers(0, x.shape[0], (run.pick(64, 8),), generator=draws)
        optimizer.zero_grad()
        loss = ddpm(an.take(x, chosen, axis=0), draws)
        loss.backward()
        an.nn.utils.clip_grad_norm_(ddpm.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(ddpm)
        losses.append(loss.item())
        run.progress(i, steps, f"loss {sum(losses[-100:]) / len(losses[-100:]):.4f}")
    shape, model = (run.pick(400, 8), 1, 8, 8), average.module.eval()
    sets = {"noise": an.random.normal(shape, generator=draws), "real": real, "drawn": model.sample(shape, generator=draws)}  # fmt: skip
    sets["in 20"] = model.ddim(shape, run.pick(20, 2), generator=draws)
    with an.no_grad():
        features = {name: judge[:4](part) for name, part in sets.items()}
        known = judge[:4](x)
        sure = an.max(F.softmax(judge(sets["drawn"]), dim=1), axis=1)
        kinds = an.argmax(judge(sets["drawn"]), axis=1).tolist()
    away = {name: frechet_distance(known, part).item() for name, part in features.items()}
    run.say("how often each digit was drawn:", [kinds.count(c) for c in range(10)])
    run.figure("Fréchet distance of noise", away["noise"])
    run.figure("Fréchet distance of real test digits", away["real"])
    run.figure("Fréchet distance, DDIM in 20 steps, share of noise's", 100 * away["in 20"] / away["noise"])
    run.figure("digits of which the classifier is surer than 90 %", 100 * an.mean(an.astype(sure > 0.9, an.float32)).item())  # fmt: skip
    run.figure("Fréchet distance of what is drawn, share of noise's", 100 * away["drawn"] / away["noise"])
    shown = {
        name: an.clip(0.5 + sets[name][: run.pick(32, 8), 0, :, :] / 2, 0.0, 1.0).tolist()
        for name in ("real", "drawn", "in 20")
    }
    run.picture(
        lines([Series("loss", list(range(1, steps + 1)), losses)], title="loss by step", log_y=True),
        *(tiles(part, title=f"digits: {name}", columns=16) for name, part in shown.items()),
    )


if __name__ == "__main__":
    main()
