"""The encoder-decoder transformer: padding, causality, caches, gradients, greedy and beam search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import anynet as an
from anynet.models import EncoderDecoder

rng = np.random.default_rng(0)


def net(seed: int = 0, **options: object) -> EncoderDecoder:
    with an.random.fork_rng(seed):
        made = EncoderDecoder(9, 5, **{"width": 8, "layers": 2, "heads": 2, "context": 12, **options})
        for p in made.parameters():
            p.assign_(p.detach() + an.random.normal(p.shape, std=0.3))
    made.eval()
    return made


def tokens(n: int, t: int, size: int, device: str | None = None) -> an.Tensor:
    return an.asarray(rng.integers(1, size, (n, t)), device=device)


def test_padding_is_not_looked_at_and_the_future_neither() -> None:
    model, source, target = net(), tokens(2, 6, 9).numpy(), tokens(2, 5, 5).numpy()
    source[:, 4:] = 0
    whole = model(an.asarray(source), an.asarray(target))
    short = model(an.asarray(source[:, :4]), an.asarray(target))
    np.testing.assert_allclose(whole.numpy(), short.numpy(), rtol=1e-5, atol=1e-6)
    other = target.copy()
    other[:, 3:] = 5 - other[:, 3:]
    later = model(an.asarray(source), an.asarray(other)).numpy()
    np.testing.assert_allclose(later[:, :3], whole.numpy()[:, :3], rtol=1e-5, atol=1e-6)
    assert whole.dtype == "float32"
    assert not np.allclose(later[:, 3:], whole.numpy()[:, 3:])


def test_a_cache_gives_the_scores_of_the_whole(xp_device: str) -> None:
    model = net().to(xp_device)
    source, target = tokens(2, 6, 9, xp_device), tokens(2, 7, 5, xp_device)
    with an.no_grad():
        whole, memory = model(source, target), model.encode(source)
        cache = an.models.cache.KeyValueCache(2, 7)
        pieces = [model.decode(target[:, a:b], memory, cache) for a, b in itertools.pairwise((0, 3, 4, 5, 7))]
    found = an.concat(pieces, axis=1)
    assert found.device == xp_device
    np.testing.assert_allclose(found.to("cpu").numpy(), whole.to("cpu").numpy(), rtol=1e-4, atol=1e-5)


def test_every_parameter_has_the_right_gradient() -> None:
    model = net(tied=False).to(an.float64)
    source, target, wanted = tokens(2, 4, 9), tokens(2, 3, 5), tokens(2, 3, 5)
    loss = lambda: an.losses.token_cross_entropy(model(source, target), wanted)  # noqa: E731
    loss().backward()
    for key, p in model.named_parameters():
        direction, before = rng.normal(size=p.shape), p.detach().numpy().copy()
        ends = []
        for sign in (1, -1):
            p.assign_(an.asarray(before + sign * 1e-5 * direction))
            ends.append(float(loss()))
        p.assign_(an.asarray(before))
        np.testing.assert_allclose(
            (ends[0] - ends[1]) / 2e-5, (p.grad.numpy() * direction).sum(), rtol=1e-5, atol=1e-8, err_msg=key
        )


def best_of_all(
    model: EncoderDecoder, source: an.Tensor, length: int, penalty: float
) -> tuple[list[int], float]:
    """The best of all targets that end, or are `length` long; token 1 begins, token 2 ends."""
    found: list[tuple[float, list[int]]] = []

    def visit(text: list[int], score: float) -> None:
        chances = an.nn.functional.log_softmax(model(source, an.asarray([[1, *text]])), dim=-1)[
            0, -1, :
        ].numpy()
        for token in range(5):
            now = [*text, token]
            total = score + float(chances[token])
            if token == 2 or len(now) == length:
                value = total / ((5 + (len(text) if token == 2 else len(now)) + 1) / 6) ** penalty
                found.append((value, text if token == 2 else now))
            else:
                visit(now, total)

    visit([], 0.0)
    value, text = max(found)
    return text, value


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all(penalty: float) -> None:
    for seed in range(2):
        model = net(seed)
        source = tokens(2, 5, 9)
        got = model.generate(source, begin=1, end=2, length=3, beams=32, length_penalty=penalty)
        assert got == [best_of_all(model, source[i : i + 1, :], 3, penalty)[0] for i in range(2)]


def test_greedy_takes_the_likeliest_each_time() -> None:
    model, source = net(5), tokens(3, 5, 9)
    for i, got in enumerate(model.generate(source, begin=1, end=2, length=8)):
        text = [1]
        while len(text) <= 8:
            token = int(an.argmax(model(source[i : i + 1, :], an.asarray([text]))[0, -1, :]))
            if token == 2:
                break
            text.append(token)
        assert got == text[1:]
    assert model.generate(source[:1, :], begin=1, end=2, length=3, beams=2) == [
        model.generate(source, begin=1, end=2, length=3, beams=2)[0]
    ]


def test_it_learns_to_turn_sequences_round() -> None:
    with an.random.fork_rng(0):
        model = EncoderDecoder(8, 8, width=32, layers=1, heads=4, dropout=0.0)
    source = rng.integers(3, 8, (256, 4))
    target = np.concatenate([np.ones((256, 1), int), source[:, ::-1], np.full((256, 1), 2)], axis=1)
    data = (an.asarray(source), an.asarray(target[:, :-1])), an.asarray(target[:, 1:])
    an.fit(model, data, loss="token_cross_entropy", optimizer="adam", lr=3e-3, epochs=15, progress=False)
    fresh = np.asarray([[3, 4, 5, 6], [7, 7, 3, 5]])
    assert model.generate(an.asarray(fresh), begin=1, end=2, length=8, beams=3) == fresh[:, ::-1].tolist()


def test_what_is_refused() -> None:
    model, source = net(), tokens(1, 5, 9)
    for call, message in (
        (lambda: EncoderDecoder(5, 5, width=9, heads=3), "width must be even and a multiple of heads"),
        (lambda: model(tokens(1, 13, 9), tokens(1, 2, 5)), "t from 1 to 12"),
        (lambda: model.generate(source, begin=7, end=2), r"begin must be a token in \[0, 5\)"),
        (lambda: model.generate(source, begin=1, end=2, beams=0), "beams must be an integer ≥ 1"),
        (lambda: model.generate(source, begin=1, end=2, length=13), "length must be at most context=12"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert math.isfinite(float(an.sum(model(source, tokens(1, 2, 5)))))
