"""BLEU: translations against references."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

from anynet.metrics.metric import Metric, State, UndefinedError
from anynet.tensor import unwrap
from anynet_backends import backend_of, registry

__all__ = ["Bleu"]

Tokens = Sequence[Hashable]

# the rules of mteval-v13a, in its order
_RULES = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


def _13a(line: str) -> list[str]:
    """The words of mteval-v13a, which sacrebleu takes unless told otherwise."""
    line = line.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        line = line.replace(entity, sign)
    line = f" {line} "
    for rule, by in _RULES:
        line = rule.sub(by, line)
    return line.split()


_TOKENIZERS = {"13a": _13a, "none": str.split, "char": lambda line: list("".join(line.split()))}
_SMOOTHING = {"exp": 0.0, "none": 0.0, "floor": 0.1, "add-k": 1.0}


class Bleu(Metric):
    """BLEU of a corpus (Papineni et al. 2002), 0 to 100: exp(min(0, 1 − r/c)) times the geometric mean of the clipped
    precisions of n-grams, as sacrebleu computes it.

    The output is a list of texts, or of lists of tokens; the target has for each a text (or a list of tokens), or a list of
    several: the references. Arrays are indices of tokens: an output (n, C, length) of scores is decided for, and targets
    equal to `ignore_index` end a sentence (for that the device is read at each batch).

    Options:
      tokenize: how texts become tokens: "13a" (mteval's words and signs), "none" (at spaces), "char".
      order: n up to which n-grams count.
      smoothing: of n-grams without a match: "exp" (1/2, 1/4, … of one), "floor" (`smooth_value` of one, 0.1), "add-k" (`smooth_value`
        more of all from bigrams on, 1), "none".
      lowercase, ignore_index.

    >>> import anynet as an
    >>> an.metrics.bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    53.7284...
    """

    name, higher_is_better = "bleu", True
    states: ClassVar[Mapping[str, str]] = {
        "matches": "add",
        "grams": "add",
        "length": "add",
        "reference": "add",
    }

    def __init__(
        self,
        *,
        tokenize: str = "13a",
        order: int = 4,
        smoothing: str = "exp",
        smooth_value: float | None = None,
        lowercase: bool = False,
        ignore_index: int = -100,
    ) -> None:
        for what, value, known in (("tokenize", tokenize, _TOKENIZERS), ("smoothing", smoothing, _SMOOTHING)):
            if value not in known:
                raise ValueError(f"bleu: {what} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise ValueError(f"bleu: order must be an integer of at least 1, got {order!r}")
        self.tokenize, self.order, self.smoothing = tokenize, order, smoothing
        self.smooth_value, self.lowercase, self.ignore_index = smooth_value, lowercase, ignore_index

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """Matches and n-grams of each order, and the lengths."""
        if weight is not None:
            raise ValueError("bleu: takes no weights")
        pairs = self._sentences(output, target)
        matches, grams = [0] * self.order, [0] * self.order
        length = reference = 0
        for said, references in pairs:
            own = self._grams(said)
            allowed: Counter[tuple[Hashable, ...]] = Counter()
            for one in references:
                allowed |= self._grams(one)
            for gram, count in own.items():
                grams[len(gram) - 1] += count
                matches[len(gram) - 1] += min(count, allowed[gram])
            length += len(said)
            reference += min((len(one) for one in references), key=lambda n: (abs(n - len(said)), n))
        return {
            "matches": registry.asarray(matches, "int64"),
            "grams": registry.asarray(grams, "int64"),
            "length": length,
            "reference": reference,
        }

    def _grams(self, tokens: Tokens) -> Counter[tuple[Hashable, ...]]:
        return Counter(
            tuple(tokens[i : i + n]) for n in range(1, self.order + 1) for i in range(len(tokens) - n + 1)
        )

    def _sentences(self, output: Any, target: Any) -> list[tuple[Tokens, list[Tokens]]]:
        output, target = unwrap(output), unwrap(target)
        if hasattr(output, "shape"):
            output, target = self._decided(output, target)
        lists = isinstance(output, (list, tuple)) and isinstance(target, (list, tuple))
        if not lists or len(output) != len(target):
            got = [len(x) if isinstance(x, (list, tuple)) else type(x).__name__ for x in (output, target)]
            msg = f"bleu: takes a list of texts and a list of their references, of one length, got {got[0]} and {got[1]}"
            raise ValueError(msg)
        pairs = []
        for said, right in zip(output, target, strict=True):
            several = isinstance(right, (list, tuple)) and (
                isinstance(said, str) or (bool(right) and isinstance(right[0], (list, tuple)))
            )
            references = list(right) if several else [right]
            if not references:
                raise ValueError("bleu: each text must have at least one reference, got none for one")
            pairs.append((self._tokens(said), [self._tokens(one) for one in references]))
        return pairs

    def _tokens(self, text: Any) -> Tokens:
        if isinstance(text, str):
            return _TOKENIZERS[self.tokenize](text.lower() if self.lowercase else text)  # type: ignore[no-any-return,operator]
        if isinstance(text, (list, tuple)):
            return text
        raise TypeError(f"bleu: a sentence must be a text or a list of tokens, got {type(text).__name__}")

    def _decided(self, output: Any, target: Any) -> tuple[list[Any], list[Any]]:
        xp = backend_of(output)
        if len(output.shape) == 3:
            output = xp.argmax(output, axis=1)
        if tuple(output.shape) != tuple(target.shape) or len(output.shape) != 2:
            msg = f"bleu: takes scores (n, C, length) and targets (n, length), got {tuple(output.shape)} and {tuple(target.shape)}"
            raise ValueError(msg)
        said, right = registry.asarray(output).tolist(), registry.asarray(target).tolist()
        kept = [[i for i, token in enumerate(row) if token != self.ignore_index] for row in right]
        return tuple(  # type: ignore[return-value]
            [[row[i] for i in at] for row, at in zip(rows, kept, strict=True)] for rows in (said, right)
        )

    def result(self, state: State) -> float:
        """The score."""
        matches, grams = (
            registry.asarray(state["matches"]).tolist(),
            registry.asarray(state["grams"]).tolist(),
        )
        length, reference = int(state["length"]), int(state["reference"])
        if not length and not reference:
            raise UndefinedError("bleu: there are no words")
        if not any(matches):
            return 0.0
        value = _SMOOTHING[self.smoothing] if self.smooth_value is None else self.smooth_value
        logs, half = [], 1.0
        for n, (right, all_) in enumerate(zip(matches, grams, strict=True)):
            if self.smoothing == "add-k" and n:
                right, all_ = right + value, all_ + value
            if not right and all_ and self.smoothing == "exp":
                half /= 2
                right = half
            elif not right and self.smoothing == "floor":
                right = value
            if not right or not all_:
                return 0.0
            logs.append(math.log(right / all_))
        brevity = min(0.0, 1 - reference / length)
        return 100.0 * math.exp(brevity + math.fsum(logs) / self.order)
