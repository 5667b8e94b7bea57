"""`generate`: the tokens that come, memory, stops, streams of text, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import Text
from anynet.models import GPT, LSTMLanguageModel

rng = np.random.default_rng(0)
TEXT = Text.from_text("the cat sat on the mat, the hat on the cat.\n" * 20, context=12)
V = len(TEXT.vocabulary)


class Forgetful(an.nn.Module):
    """The same network without a memory."""

    def __init__(self, inner: Any, context: int | None = None) -> None:
        self.inner = inner
        if context is not None:
            self.context = context

    def forward(self, tokens: Any) -> Any:
        return self.inner(tokens)


class Next(an.nn.Module):
    """Token i + 1 comes after i, for certain."""

    def __init__(self, size: int) -> None:
        self.table = an.Buffer(an.asarray(np.roll(np.eye(size, dtype="float32"), 1, axis=1)) * 1000.0)

    def forward(self, tokens: Any) -> Any:
        return an.take(self.table, an.reshape(tokens, (-1,)), axis=0)[None, ...]


def nets() -> dict[str, an.nn.Module]:
    with an.random.fork_rng(1):
        found = {
            "gpt": GPT(V, 12, 16, 2, 2, dropout=0.1),
            "rotary": GPT(V, 12, 16, 2, 2, positions="rotary"),
            "lstm": LSTMLanguageModel(V, 16, 2, dropout=0.1),
        }
    for net in found.values():
        for p in net.parameters():
            p.assign_(an.asarray(p.detach().numpy() + rng.normal(size=p.shape).astype("float32") * 0.2))
    return found


@pytest.mark.parametrize("name", ["gpt", "rotary", "lstm"])
def test_with_a_memory_come_the_same_tokens_as_without(name: str, xp_device: str) -> None:
    net = nets()[name].to(xp_device)
    length = 30 if name == "lstm" else 9  # within the context of 12
    for options in (
        {"temperature": 0},
        {"seed": 4},
        {"top_k": 3, "seed": 5},
        {"top_p": 0.7, "temperature": 1.5},
    ):
        with_memory = list(an.generate(net, [1, 2, 3], length=length, **options))
        without = list(an.generate(Forgetful(net), [1, 2, 3], length=length, **options))
        assert with_memory == without
        assert len(with_memory) == length
    assert all(m.training for m in net.modules())


def test_beyond_the_context_between_a_half_and_the_whole_is_seen() -> None:
    net = nets()["gpt"]
    seen: list[int] = []
    whole = GPT.forward

    class Watched(GPT):
        def forward(self, tokens: Any, cache: Any = None) -> Any:
            seen.append(cache.length + tokens.shape[1])
            return whole(self, tokens, cache)

    net.__class__ = Watched
    drawn = list(an.generate(net, [1, 2, 3], length=40, temperature=0))
    assert len(drawn) == 40
    assert seen[:10] == list(range(3, 13))
    assert seen[10:18] == [6, 7, 8, 9, 10, 11, 12, 6]
    net.__class__ = GPT
    # each is what the network says of exactly those tokens
    tokens = [1, 2, 3, *drawn]
    net.eval()
    for i, n in enumerate(seen):
        assert int(an.argmax(net(an.asarray([tokens[3 + i - n : 3 + i]]))[0, -1, :])) == drawn[i]


def test_a_long_prompt_and_a_network_without_memory() -> None:
    net = nets()["gpt"]
    prompt = rng.integers(0, V, 50).tolist()
    assert list(an.generate(net, prompt, length=1, temperature=0)) == list(
        an.generate(Forgetful(net, 12), prompt[-12:], length=1, temperature=0)
    )
    with pytest.raises(ValueError, match="at most context=12 tokens"):
        list(an.generate(Forgetful(net), prompt, length=1))
    assert len(list(an.generate(Forgetful(net), prompt, length=3, context=12))) == 3


def test_rows_of_tokens_are_written_on_at_once() -> None:
    net = nets()["lstm"]
    rows = an.asarray([[1, 2], [3, 4], [5, 6]])
    together = list(an.generate(net, rows, length=5, temperature=0))
    assert [list(column) for column in zip(*together, strict=True)] == [
        list(an.generate(net, rows[i, :], length=5, temperature=0)) for i in range(3)
    ]


def test_text_comes_in_pieces_and_ends_at_a_stop() -> None:
    net = Next(V)
    order = TEXT.vocabulary
    written = list(an.generate(net, order[0], length=V - 1, preprocessing=TEXT.preprocessing))
    assert written == order[1:]
    assert list(an.generate(net, order[0], length=0, preprocessing=TEXT)) == []
    stop = order[5] + order[6]
    assert "".join(an.generate(net, order[0], stop=stop, preprocessing=TEXT)) == "".join(order[1:5])
    assert "".join(an.generate(net, order[0], length=5, stop=[stop, "zz"], preprocessing=TEXT)) == "".join(
        order[1:6]
    )
    assert list(an.generate(net, [0], stop=4)) == [1, 2, 3]


def test_bytes_come_as_whole_characters() -> None:
    text = Text.from_text("xy" * 20, tokens="byte", context=8)

    class Says(an.nn.Module):
        said = "é€😀a".encode()

        def forward(self, tokens: Any) -> Any:
            scores = np.zeros((1, 1, 256), dtype="float32")
            scores[0, 0, self.said[(int(tokens.shape[1]) - 1) % len(self.said)]] = 1000
            return an.asarray(scores)

    assert list(an.generate(Says(), "x", length=10, preprocessing=text)) == ["é", "€", "😀", "a"]
    assert list(an.generate(Says(), "x", length=3, preprocessing=text)) == ["é", "\ufffd"]


def test_the_seed_decides_and_the_streams_stay() -> None:
    net = nets()["lstm"]
    before = an.random.get_state()
    first = list(an.generate(net, [1], length=20, seed=1))
    assert first == list(an.generate(net, [1], length=20, seed=1))
    assert first != list(an.generate(net, [1], length=20, seed=2))
    assert an.random.get_state() == before
    steps = an.generate(net, [1], length=20)
    next(steps)
    assert an.is_grad_enabled()
    steps.close()
    assert all(m.training for m in net.modules())


def test_what_is_refused_at_the_call() -> None:
    net = nets()["gpt"]
    for call, error, message in (
        (lambda: an.generate(net, "the"), ValueError, "needs the preprocessing of the text"),
        (lambda: an.generate(net, "", preprocessing=TEXT), ValueError, "the prompt must not be empty"),
        (lambda: an.generate(net, "é", preprocessing=TEXT), ValueError, "has no 'é'"),
        (lambda: an.generate(net, [1], temperature=-1), ValueError, "temperature must be ≥ 0"),
        (lambda: an.generate(net, [1], top_k=0), ValueError, "top_k must be an integer"),
        (lambda: an.generate(net, [1], top_p=2), ValueError, "top_p must be in"),
        (lambda: an.generate(net, [1], length=-1), ValueError, "length must be an integer ≥ 0"),
        (lambda: an.generate(net, [1], seed=-1), ValueError, "seed must be an integer"),
        (lambda: an.generate(net, [1], context=13), ValueError, "context must be at most 12"),
        (lambda: an.generate(net, []), ValueError, "at least one"),
        (lambda: an.generate(net, [0.5]), ValueError, "tokens must be integers"),
        (lambda: an.generate(net, [[1], [2]], stop=1), ValueError, "with several there is none"),
        (lambda: an.generate(net, "the", stop="", preprocessing=TEXT), ValueError, "stop must be a text that is not empty"),
        (lambda: an.generate(3, [1]), TypeError, "model must be a Module or a run, got int"),
        (lambda: an.generate(net, "a", preprocessing=3), TypeError, "only models of texts can write"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    with pytest.raises(ValueError, match=r"scores \(n, t, vocabulary\) for tokens"):
        next(an.generate(an.nn.Flatten(), [1]))
