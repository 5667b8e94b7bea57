"""Texts that a network writes: `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from anynet import random
from anynet.data.text import TextPreprocessing
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad, to_plain, unwrap

if TYPE_CHECKING:
    from anynet.data.source import Preprocessing

__all__ = ["generate"]


# Over 60 lines, of which 20 are code: the signature and what each option means belong where help(generate) looks.
def generate(
    model: Any,
    prompt: Any = "\n",
    *,
    length: int = 500,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | int | Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    context: int | None = None,
) -> Iterator[Any]:
    """Write on after a prompt, token by token: an iterator of pieces of text, each given out as soon as it is there.

    Parameters:
      model: a run (`anynet.open`), or a network tokens (n, t) → scores (n, t, vocabulary) together with `preprocessing`, that of the
        text it was trained with (``text.preprocessing``, or the `Text` itself). With tokens as the prompt a network alone will do.
      prompt: a text, and then texts come; or tokens, a list or an array of integers (t,), and then integers come; (n, t), and then
        lists of n come: n texts at once.
      length: how many tokens at most.
      temperature, top_k, top_p: see `anynet.random.categorical`; temperature 0 takes the likeliest each time.
      seed: of what is drawn: the same seed, the same text.
      stop: a text, or several, before which to end (it is not given out), or, where the prompt is tokens, the token at which.
      context: how many tokens the network can see; what its attribute `context` says unless given, else as many as come.

    The network's memory is used where it has one (`GPT`, `LSTMLanguageModel`, or any module with ``new_cache()`` and
    ``forward(tokens, cache)``): each token is then computed once. Where there is no more room in it, the last half of the context is
    read again and serves until it is full again, so that the network sees between a half and the whole of its context. A
    network without a memory is given the last `context` tokens each time. It computes without recording, and in evaluation mode: its
    modules are in the modes that they had again when the iterator has ended, or is closed or gone.

    Errors: what cannot be is refused at the call, before the first token: an empty prompt, characters that the vocabulary has not,
    options out of range.

    >>> import anynet as an
    >>> text = an.data.Text.from_text("to be or not to be\\n" * 30, context=16)
    >>> net = text.network("lstm", width=16)
    >>> written = "".join(an.generate(net, "to ", length=20, preprocessing=text.preprocessing))
    >>> len(written), set(written) <= set(text.vocabulary)
    (20, True)
    """
    network, found = _network(model)
    coder = _coder(preprocessing if preprocessing is not None else found)
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        msg = f"generate: length must be an integer ≥ 0, got {length!r}"
        raise ValueError(msg)
    draw = _drawing(temperature, top_k, top_p, seed)
    context = _context(network, context)
    if isinstance(prompt, str):
        if coder is None:
            msg = (
                "generate: a prompt that is a text needs the preprocessing of the text that the network was trained with: "
                "preprocessing=text.preprocessing, or a run; or give tokens"
            )
            raise ValueError(msg)
        ids = coder.encode(prompt)
        if not ids:
            msg = 'generate: the prompt must not be empty; "\\n" begins a new line'
            raise ValueError(msg)
        stops = _texts(stop)
        tokens = _steps(network, [ids], length, draw, context)
        return _spoken(coder, (row[0] for row in tokens), stops)
    rows, one = _rows(prompt)
    if stop is not None and (not isinstance(stop, int) or isinstance(stop, bool) or not one):
        msg = f"generate: with one row of tokens as the prompt stop must be a token, an integer, got {stop!r}; with several there is none"
        raise ValueError(msg)
    steps = _steps(network, rows, length, draw, context)
    return _until(stop, (row[0] for row in steps)) if one else steps


# ----- what is given -----


def _network(model: Any) -> tuple[Module, Any]:
    """The network and the preprocessing of a run, or of a network alone."""
    if isinstance(model, Module):
        return model, None
    network = getattr(model, "model", None)
    network = network() if callable(network) and not isinstance(network, Module) else network
    if not isinstance(network, Module):
        msg = f"generate: model must be a Module or a run, got {type(model).__name__}"
        raise TypeError(msg)
    return network, getattr(model, "preprocessing", None)


def _coder(preprocessing: Any) -> TextPreprocessing | None:
    preprocessing = getattr(preprocessing, "preprocessing", preprocessing)  # a source has one
    if preprocessing is None or isinstance(preprocessing, TextPreprocessing):
        return preprocessing
    kind = getattr(preprocessing, "kind", type(preprocessing).__name__)
    msg = f"generate: the model was trained on {kind}, and only models of texts can write"
    raise TypeError(msg)


def _context(network: Module, given: Any) -> int | None:
    found = getattr(network, "context", None) if given is None else given
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        msg = f"generate: context must be an integer ≥ 1, got {found!r}"
        raise ValueError(msg)
    own = getattr(network, "context", None)
    if given is not None and isinstance(own, int) and given > own:
        msg = f"generate: context must be at most {own}, what the network can see, got {given}"
        raise ValueError(msg)
    return found


def _drawing(temperature: Any, top_k: Any, top_p: Any, seed: Any) -> Callable[[Tensor], list[int]]:
    """From scores (n, vocabulary) to tokens; the options are tried at once."""
    generator = random.Generator(seed)

    def draw(scores: Any, generator: random.Generator = generator) -> list[int]:
        drawn = random.categorical(
            scores, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator
        )
        return drawn.tolist()  # type: ignore[no-any-return]

    draw([[0.0]], random.Generator(0))
    return draw


def _texts(stop: Any) -> tuple[str, ...]:
    stops = (
        ()
        if stop is None
        else (stop,)
        if isinstance(stop, str)
        else tuple(stop)
        if isinstance(stop, Sequence)
        else (stop,)
    )
    if not all(isinstance(s, str) and s for s in stops):
        msg = f"generate: stop must be a text that is not empty, or several, got {stop!r}"
        raise ValueError(msg)
    return stops


def _rows(prompt: Any) -> tuple[list[list[int]], bool]:
    """Tokens as rows, and whether it is one row alone."""
    try:
        plain = to_plain(unwrap(prompt), device="cpu")
        shape, kind = tuple(plain.shape), str(plain.dtype)
    except (TypeError, ValueError) as error:
        msg = (
            f"generate: prompt must be a text, or tokens (t,) or (n, t), got {type(prompt).__name__}: {error}"
        )
        raise TypeError(msg) from None
    if len(shape) not in (1, 2) or 0 in shape or "int" not in kind:
        msg = f"generate: tokens must be integers (t,) or (n, t), at least one, got {kind} of shape {shape}"
        raise ValueError(msg)
    return (plain.tolist() if len(shape) == 2 else [plain.tolist()]), len(shape) == 1


# ----- token by token -----


def _steps(
    network: Module,
    rows: list[list[int]],
    length: int,
    draw: Callable[[Tensor], list[int]],
    context: int | None,
) -> Iterator[list[int]]:
    """The next token of each row, `length` times."""
    scores = _Scores(network, rows, context)
    with evaluating(network):
        for number in range(length):
            with no_grad():
                new = draw(scores.last())
            yield new
            if number + 1 < length:
                scores.add(new)


class _Scores:
    """The scores of the token that follows, with a cache where the network has one."""

    def __init__(self, network: Module, rows: list[list[int]], context: int | None) -> None:
        self.network, self.context = network, context
        self.rows = [list(row) for row in rows]
        self.fresh = len(rows[0])  # how many of the last tokens the cache has not seen
        self.new_cache: Any = getattr(network, "new_cache", None)
        self.cache: Any = None
        self.device = next((p.device for p in network.parameters()), None)

    def add(self, tokens: list[int]) -> None:
        """Each row is longer by one token."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)
            if self.context is not None:
                del row[: -self.context]
        self.fresh += 1

    def last(self) -> Tensor:
        """Scores (n, vocabulary)."""
        if self.new_cache is None:
            return self._checked(self._call(len(self.rows[0])))
        size = len(self.rows[0]) if self.context is None else min(len(self.rows[0]), self.context)
        if (
            self.cache is not None
            and self.context is not None
            and self.cache.length + self.fresh > min(self.cache.size, self.context)
        ):
            self.cache, size = None, max(self.context // 2, 1)
        if self.cache is None:
            self.cache, self.fresh = self.new_cache(), size
        out = self._call(self.fresh, self.cache)
        self.fresh = 0
        return self._checked(out)

    def _call(self, count: int, *cache: Any) -> Any:
        if self.context is not None:
            count = min(count, self.context)
        return self.network(asarray([row[-count:] for row in self.rows], device=self.device), *cache)

    def _checked(self, out: Any) -> Tensor:
        n = len(self.rows)
        if not isinstance(out, Tensor) or out.ndim != 3 or out.shape[0] != n:
            got = f"shape {out.shape}" if isinstance(out, Tensor) else type(out).__name__
            msg = f"generate: the network must give scores (n, t, vocabulary) for tokens (n, t), got {got} for n = {n}"
            raise ValueError(msg)
        return out[:, -1, :]


def _until(stop: int | None, tokens: Iterator[int]) -> Iterator[int]:
    for token in tokens:
        if token == stop:
            return
        yield token


def _spoken(coder: TextPreprocessing, tokens: Iterator[int], stops: tuple[str, ...]) -> Iterator[str]:
    """Pieces of text up to the first of `stops`; what may be the beginning of one is held back."""
    stream, held, size = coder.tokens.stream(), "", coder.tokens.size
    for token in tokens:
        if token >= size:
            msg = f"generate: the network has scores for more tokens than the {size} of the vocabulary; is it of another text?"
            raise ValueError(msg)
        held += stream(token)
        said, ended = _before(stops, held)
        if not ended:
            keep = max((n for s in stops for n in range(1, len(s)) if held.endswith(s[:n])), default=0)
            said = held[: len(held) - keep]
        held = held[len(said) :]
        if said:
            yield said
        if ended:
            return
    said, _ = _before(stops, held + stream.end())
    if said:
        yield said


def _before(stops: tuple[str, ...], text: str) -> tuple[str, bool]:
    """The text before the first of `stops`, and whether there is one."""
    at = min((i for i in (text.find(s) for s in stops) if i >= 0), default=None)
    return (text, False) if at is None else (text[:at], True)
