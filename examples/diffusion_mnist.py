"""Denoising diffusion on MNIST: 28×28 digits out of noise, as far as one core goes in a few minutes.

Each picture is folded to 4 channels of 14×14, so that a U-Net of 0.4 million parameters sees it in few multiplications (DDPM, cosine
schedule of 100 steps). A classifier that was trained on real digits, and not used in training, judges what is drawn: how sure it is, and
the Fréchet distance of its features to those of real digits, as a share of that of noise. See diffusion_digits for the 8×8 ones.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines, tiles
from anynet.methods import DDPM, DenoisingUNet, cosine_schedule, frechet_distance
from anynet.nn import functional as F

JUDGE = "4 epochs at one rate at first: {}; 8 in one cycle are right on 97.9 % of training digits held out, those on 96.3"  # fmt: skip
LONGER = "1,200 updates, widths 24 and 48, and that judge at first: {}; 2,500 updates of these widths: {}"
FRECHET, SURE = LONGER.format("15.64", "8.05"), LONGER.format("37.6", "58.8")
DRAWN = "drawn digits of which the classifier is surer than 90 %"
SHORT = "it still rises with the number of updates; these take about the time of diffusion_digits, no more were run"


def classifier(run, x, y):
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    an.fit(
        net, (x, y), loss="cross_entropy", epochs=run.pick(8, 1), batch_size=64, lr=3e-3, scheduler="onecycle",
        seed=run.seed, progress=False, device=run.device,
    )  # fmt: skip
    return net.eval()


@example(
    topic="generation",
    figures=[
        Figure("accuracy of the classifier that judges", 96, None, "%", ".1f", changed=JUDGE.format("95.8")),
        Figure("Fréchet distance of real test digits, share of noise's", unit="%", form=".2f"),
        Figure("Fréchet distance of what is drawn, share of noise's", None, 10, "%", ".2f", changed=FRECHET),
        Figure("real test digits of which the classifier is surer than 90 %", unit="%", form=".1f"),
        Figure(DRAWN, 70, None, "%", ".1f", changed=SURE, tried=SHORT),
    ],
)
def main(run):
    (images, labels), (test, truth) = (run.data("mnist", part, scaled=True) for part in ("train", "test"))
    n, steps = run.pick(20_000, 64), run.pick(5000, 2)
    x = run.array(2 * images[:n, None] - 1)
    real, truth = run.array(2 * test[: run.pick(2000, 50), None] - 1), run.array(truth[: run.pick(2000, 50)])
    judge = classifier(run, x, run.array(labels[:n]))
    net = DenoisingUNet(4, (32, 64))
    ddpm = DDPM(net, cosine_schedule(run.pick(100, 3)))
    optimizer = an.optim.Adam(ddpm.parameters(), lr=2e-3)
    schedule = an.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    average = an.optim.swa_utils.AveragedModel(ddpm, multi_avg_fn=an.optim.swa_utils.get_ema_multi_avg_fn(0.99))  # fmt: skip
    draws, losses = an.random.Generator(run.seed + 1), []
    for i in range(1, steps + 1):
        chosen = an.random.integers(0, n, (run.pick(32, 8),), generator=draws)
        optimizer.zero_grad()
        loss = ddpm(F.pixel_unshuffle(an.take(x, chosen, axis=0), 2), draws)
        loss.backward()
        an.nn.utils.clip_grad_norm_(ddpm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(ddpm)
        losses.append(loss.item())
        run.progress(i, steps, f"loss {sum(losses[-100:]) / len(losses[-100:]):.4f}")
    model, count = average.module.eval(), run.pick(250, 8)
    drawn = F.pixel_shuffle(model.sample((count, 4, 14, 14), generator=draws), 2)
    sets = {"noise": an.random.normal(drawn.shape, generator=draws), "real": real, "drawn": drawn}
    with an.no_grad():
        known = judge[:7](x[: run.pick(5000, 64), ...])
        away = {name: frechet_distance(known, judge[:7](part)) for name, part in sets.items()}
        seen = {name: F.softmax(judge(part), dim=1) for name, part in sets.items()}
    sure = {name: 100 * an.mean(an.astype(an.max(p, axis=1) > 0.9, an.float32)).item() for name, p in seen.items()}  # fmt: skip
    kinds = an.argmax(seen["drawn"], axis=1).tolist()
    run.say("how often each digit was drawn:", [kinds.count(c) for c in range(10)])
    right = an.astype(an.argmax(seen["real"], axis=1) == truth, an.float32)
    run.figure("accuracy of the classifier that judges", 100 * an.mean(right).item())
    for name, words in (("real", "real test digits"), ("drawn", "what is drawn")):
        run.figure(f"Fréchet distance of {words}, share of noise's", 100 * (away[name] / away["noise"]).item())  # fmt: skip
    run.figure("real test digits of which the classifier is surer than 90 %", sure["real"])
    run.figure(DRAWN, sure["drawn"])
    shown = {
        name: an.clip(0.5 + sets[name][: run.pick(32, 8), 0, :, :] / 2, 0.0, 1.0).tolist()
        for name in ("real", "drawn")
    }
    run.picture(
        lines([Series("loss", list(range(1, steps + 1)), losses)], title="loss by step", log_y=True),
        *(tiles(part, title=f"digits: {name}", columns=16) for name, part in shown.items()),
    )


if __name__ == "__main__":
    main()
