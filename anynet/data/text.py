"""Texts: files made into tokens, cut into windows, for networks that say which token comes next."""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from anynet._hints import nearest
from anynet.data.dataset import Dataset
from anynet.data.idx import DataError
from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing, Source
from anynet.data.text_files import bytes_of, decoded, files_of, named, newlines, text_of
from anynet.data.tokens import Bytes, Characters, Tokenizer, Tokens, tokens_from_json
from anynet.ops.softmax import softmax
from anynet.streams import SHUFFLES
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet_backends import Array, backend_of, draws, philox, registry

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["Text", "TextPreprocessing", "TextWindows"]

USUAL_TIME = "190s"
"""The limit of time of a training by `defaults`, so that with testing it is done in four minutes."""
IGNORED = -100
"""The target of a place that has none, as losses of classes skip it."""
EPOCH, VALIDATION = 2048, 1 << 17
"""At most so many windows in an epoch of training unless said otherwise, and so many tokens of the validation part."""


class TextWindows(Dataset):
    """Windows of `context` tokens of a text, and for each of their tokens the one that follows as its target.

    Parameters:
      tokens: the text, an array of integers on the host.
      context: the length of a window; of a shorter text there is one, as long as it.
      stride: windows begin at multiples of it. The last one is filled up with tokens 0 whose targets count nothing (−100). None:
        windows side by side from a place that is drawn for each pass through the text, in a drawn order; then an epoch is the
        next `windows` of them.
      windows: how many there are; with a stride so many of them, evenly spread.
      seed: of what is drawn. An epoch follows from it and its number alone.

    >>> import anynet as an
    >>> data = TextWindows(an.arange(6), context=4, stride=4)
    >>> [[part.tolist() for part in data[i]] for i in range(2)]
    [[[0, 1, 2, 3], [1, 2, 3, 4]], [[4, 0, 0, 0], [5, -100, -100, -100]]]
    """

    draws = False

    def __init__(
        self,
        tokens: Any,
        context: int,
        *,
        stride: int | None = None,
        windows: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("context", context), ("stride", stride), ("windows", windows)):
            if value is not None or name == "context":
                _whole("TextWindows", name, value, 1)
        self.tokens = to_plain(unwrap(tokens), device="cpu")
        n = int(self.tokens.shape[0])
        if len(self.tokens.shape) != 1 or n < 2:
            msg = f"TextWindows: tokens must be (n,), n ≥ 2 (a token and the one that follows), got shape {tuple(self.tokens.shape)}"
            raise ValueError(msg)
        self.context, self.stride, self.seed = min(context, n - 1), stride, seed
        in_a_pass = -(-(n - 1 - self.context) // (stride or self.context)) + 1
        self.length = in_a_pass if windows is None else windows if stride is None else min(windows, in_a_pass)
        self._in_a_pass = in_a_pass
        self._starts = self._of_epoch(0)

    def __len__(self) -> int:
        return self.length

    def _of_epoch(self, epoch: int) -> Array:
        """Where the windows of an epoch begin."""
        xp = registry.resolve("cpu")[0]
        if self.stride is not None:
            return xp.arange(self.length, dtype=xp.int64) * self._in_a_pass // self.length * self.stride
        room = int(self.tokens.shape[0]) - 1 - self.context
        first, end, parts = epoch * self.length, (epoch + 1) * self.length, []
        while first < end:
            number, at = divmod(first, self._in_a_pass)
            count = min(end - first, self._in_a_pass - at)
            order = philox.permutation(self.seed, SHUFFLES, 2 * number, self._in_a_pass)[at : at + count]
            phase = draws.integers((self.seed, SHUFFLES, 2 * number + 1), (1,), 0, self.context, "int64")
            # the text as a ring of places where a window can begin, so that each token is met once a pass, in about
            parts.append((order * self.context + phase) % (room + 1))
            first += count
        return xp.concat(parts)

    def at_epoch(self, epoch: int) -> TextWindows:
        """The windows of that epoch."""
        if self.stride is not None or epoch < 0:
            return self
        other = copy.copy(self)
        other._starts = self._of_epoch(epoch)
        return other

    def __getitem__(self, index: int, /) -> tuple[Tensor, Tensor]:
        if not -self.length <= index < self.length:
            msg = f"index {index} is out of range for {self.length} windows"
            raise IndexError(msg)
        x, y = self.batch([index % self.length])
        return x[0, ...], y[0, ...]

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Inputs and targets (n, context), int64."""
        xp = backend_of(self.tokens)
        starts = xp.take(self._starts, registry.asarray(indices, "int64"), axis=0)
        places = xp.expand_dims(starts, axis=1) + xp.arange(self.context + 1, dtype=xp.int64)
        last = int(self.tokens.shape[0]) - 1
        flat = xp.reshape(xp.minimum(places, last), (-1,))
        found = xp.reshape(xp.astype(xp.take(self.tokens, flat, axis=0), xp.int64), places.shape)
        x, y = found[:, :-1], found[:, 1:]
        if self.stride is not None:
            beyond = places[:, 1:] > last
            if bool(xp.any(beyond)):
                x, y = xp.where(beyond, 0, x), xp.where(beyond, IGNORED, y)
        return wrap(x), wrap(y)


class TextPreprocessing(Preprocessing):
    """Texts as tokens of a vocabulary, and scores of tokens as text.

    `inputs` takes a text, the path of a file (a `pathlib.Path`, or a word that is the name of a file that is there), or a list of them:
    rows of at most `context` tokens, (n, t), of each text as many as it needs, the last of them full; shorter ones are filled up at
    their ends with 0. Arrays of tokens are taken as they are. `targets` are the tokens that follow, −100 where there is none. `decode`
    says which token comes after each text.
    """

    kind = "text"
    task: Literal["language"] = "language"

    def __init__(self, tokens: Tokens, context: int, encoding: str = "utf-8") -> None:
        self.tokens, self.context, self.encoding = tokens, context, encoding

    def array(self, text: str) -> Array:
        """The tokens of a text on the host."""
        return self.tokens.array(newlines(text) if self.tokens.kind != "byte" else text)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; ValueError for characters that the vocabulary has not."""
        return [int(i) for i in self.array(text)]

    def decode_ids(self, ids: Iterable[int]) -> str:
        """The text of tokens."""
        return self.tokens.decode(ids)

    def _texts(self, samples: Any) -> list[Array] | None:
        """The tokens of each text; None where `samples` are tokens already."""
        if isinstance(samples, (str, os.PathLike)):
            samples = [samples]
        if not isinstance(samples, (list, tuple)) or not all(
            isinstance(s, (str, os.PathLike)) for s in samples
        ):
            return None
        texts = [
            _read(Path(s), self.tokens, self.encoding) if _is_file(s) else self.array(str(s)) for s in samples
        ]
        for number, text in enumerate(texts):
            if not text.shape[0]:
                msg = f"text {number + 1} of {len(texts)} is empty: there is nothing to predict from"
                raise ValueError(msg)
        return texts

    def _cuts(self, text: Array) -> list[tuple[int, int]]:
        """Where the rows of a text begin and end: the last one is full."""
        n = int(text.shape[0])
        first = (n - 1) % self.context + 1
        return [(max(end - self.context, 0), end) for end in range(first, n + 1, self.context)]

    def inputs(self, samples: Any) -> Tensor:
        texts = self._texts(samples)
        if texts is None:
            return wrap(to_plain(samples, dtype="int64"))
        return _filled([text[a:b] for text in texts for a, b in self._cuts(text)], 0)

    def targets(self, samples: Any) -> Tensor:
        texts = self._texts(samples)
        if texts is None:
            array = to_plain(samples, dtype="int64", device="cpu")
            rows, width = [row[1:] for row in array], int(array.shape[1])
        else:
            cuts = [(text, a, b) for text in texts for a, b in self._cuts(text)]
            rows, width = [text[a + 1 : b + 1] for text, a, b in cuts], max(b - a for _, a, b in cuts)
        if not any(int(row.shape[0]) for row in rows):
            msg = "texts must have at least 2 tokens, of which the second is what follows the first"
            raise ValueError(msg)
        return _filled(rows, IGNORED, width)

    def decode(self, output: Tensor, samples: Any = None) -> Predictions:
        """The likeliest token after each text, as text, with its probability."""
        texts = self._texts(samples) if samples is not None else None
        shares = to_plain(unwrap(softmax(output.detach(), axis=-1)), device="cpu")
        ends, row = [(i, int(shares.shape[1]) - 1) for i in range(int(shares.shape[0]))], -1
        if texts is not None:
            ends = []
            for text in texts:
                cuts = self._cuts(text)
                row += len(cuts)
                ends.append((row, cuts[-1][1] - cuts[-1][0] - 1))
        words, chances = [], []
        for i, place in ends:
            best = int(backend_of(shares).argmax(shares[i, place, :]))
            words.append(self.tokens.decode([best]))
            chances.append(float(shares[i, place, best]))
        return Predictions(words, {"probability": chances})

    def to_json(self) -> dict[str, Any]:
        return {"context": self.context, "encoding": self.encoding, **self.tokens.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TextPreprocessing:
        context = data.get("context")
        if not isinstance(context, int) or isinstance(context, bool) or context < 1:
            msg = f"the preprocessing of texts must have a context of at least 1, got {context!r:.40}"
            raise ValueError(msg)
        return cls(tokens_from_json(data), context, str(data.get("encoding", "utf-8")))


class Text(Source):
    """A text to learn to write like: a file, several, or a folder of .txt files, as tokens, in windows.

    Parameters:
      source: the path of a text file (.gz too), of a folder (all .txt files in it and below, by name), or a list of paths, one text
        after another.
      tokens: "char", one a character; "byte", one a byte; "bpe:2000", byte-pairs, as many as said, learnt from the training part; or the
        path of a tokenizer.json. The latter two need the extra `text`.
      context: how many tokens the network sees at once.
      valid, test: the share of the text that is for validation and for the test, or files for them. Shares are of the end of the
        text: first the training part, then that for validation, then the test.
      stride: how far apart training windows begin; None: side by side, from another place in each pass through the text, in
        random order.
      windows: how many windows an epoch of training has; at most 2,048 unless given.
      unknown: with "char", only characters of the training part have tokens and all others share one, so that any text can be
        given to the trained network; else all characters of the text have tokens, and others are refused.
      encoding: of the files; Windows' line ends are read as "\\n", but for "byte".
      seed: of the windows that are drawn.

    Of a validation part of more than 131,072 tokens the windows of so many are used, evenly spread.

    Attributes: `train`, `valid`, `test` (`TextWindows`), `vocabulary`, `context`; ``encode(text)`` and ``decode(ids)``.

    Errors: `DataError`, a ValueError, for files that are missing, empty or no text (with the byte and the line).

    >>> import anynet as an, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "song.txt"
    >>> _ = path.write_text("la la la\\n" * 40)
    >>> text = an.data.Text(path, context=16)
    >>> text.vocabulary, text.encode("la"), text.decode([3, 2])
    (['\\n', ' ', 'a', 'l'], [3, 2], 'la')
    >>> print(text.describe())
    song.txt: 360 characters, 40 lines
    tokens: characters, 4 of them: '\\n', ' ', 'a', 'l'
    parts: 324 tokens to train, 36 for validation, in windows of 16
    """

    models: ClassVar[tuple[str, ...]] = ("lstm", "gpt")
    preprocessing: TextPreprocessing
    train: TextWindows
    valid: TextWindows | None
    test: TextWindows | None
    in_memory = False

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        tokens: str | os.PathLike[str] = "char",
        context: int = 128,
        valid: float | str | os.PathLike[str] = 0.1,
        test: float | str | os.PathLike[str] = 0.0,
        stride: int | None = None,
        windows: int | None = None,
        unknown: bool = False,
        encoding: str = "utf-8",
        seed: int = 0,
    ) -> None:
        context = _whole("Text", "context", context, 1)
        for name, value in (("stride", stride), ("windows", windows)):
            if value is not None:
                _whole("Text", name, value, 1)
        self.seed = _whole("Text", "seed", seed, 0)
        shares = [_share(name, part) for name, part in (("valid", valid), ("test", test))]
        if sum(shares) >= 1:
            msg = f"Text: valid and test must leave a part to train with, got {valid} and {test}"
            raise ValueError(msg)
        if unknown and tokens != "char":
            msg = f'Text: unknown is for tokens="char"; tokens={str(tokens)!r} can say any text'
            raise ValueError(msg)
        self.files = files_of(source)
        self.options = {
            "tokens": str(tokens), "context": context, "valid": _plain(valid), "test": _plain(test), "stride": stride,
            "windows": windows, "unknown": unknown, "encoding": encoding, "seed": seed,
        }  # fmt: skip
        raw = b"".join(map(bytes_of, self.files))
        if not raw.removeprefix(b"\xef\xbb\xbf").strip():
            msg = f"{named(self.files)}: there is no text in it"
            raise DataError(msg)
        self._bytes, self._sha256 = len(raw), hashlib.sha256(raw).hexdigest()
        whole = raw if tokens == "byte" else newlines(text_of(self.files, encoding))
        self._measure(whole)
        ends = self._ends(len(whole), shares)
        pieces = [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]
        others = [
            decoded(Path(str(p)), encoding) for p in (valid, test) if tokens == "char" and not _is_number(p)
        ]
        vocabulary = _vocabulary(tokens, pieces[0], [whole, *map(newlines, others)], unknown)
        self.preprocessing = TextPreprocessing(vocabulary, context, encoding)
        parts = [
            _ids(vocabulary, piece) if _is_number(given) else _read(Path(str(given)), vocabulary, encoding)
            for given, piece in zip((0.0, valid, test), pieces, strict=True)
        ]
        self._parts = [int(part.shape[0]) for part in parts]
        self._make(parts, stride, windows)
        if len(set(whole)) < 2:
            msg = f"{named(self.files)}: the text is {str(whole[:1])!r} again and again: there is nothing to learn"
            raise DataError(msg)

    @classmethod
    def from_text(cls, text: str, **options: Any) -> Text:
        """A text that is in memory already; the options are those of `Text`."""
        import tempfile  # few sources are made so

        if not isinstance(text, str):
            msg = f"Text.from_text: text must be a str, got {type(text).__name__}"
            raise TypeError(msg)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "text")
            path.write_bytes(text.encode("utf-8"))
            made = cls(path, **options)
        made.in_memory = True
        return made

    def _ends(self, length: int, shares: list[float]) -> list[int]:
        """Where the training part and that for validation end."""
        test = round(length * shares[1])
        valid = round(length * shares[0])
        return [length - test - valid, length - test]

    def _make(self, parts: list[Array], stride: int | None, windows: int | None) -> None:
        context = self.context
        names = ("training", "validation", "test")
        for name, part, least in zip(names, parts, (2, 0, 0), strict=True):
            if int(part.shape[0]) < least or int(part.shape[0]) == 1:
                msg = f"{named(self.files)}: the {name} part must have at least 2 tokens, it has {part.shape[0]}"
                if name != "training":
                    msg += f"; give {'valid' if name == 'validation' else 'test'}=0, or a longer text"
                raise DataError(msg)
        count = -(-(int(parts[0].shape[0]) - 1) // min(context, int(parts[0].shape[0]) - 1))
        if stride is None and windows is None:
            windows = min(max(count, 256), EPOCH)
        self.train = TextWindows(parts[0], context, stride=stride, windows=windows, seed=self.seed)
        self.valid = (
            TextWindows(parts[1], context, stride=context, windows=max(VALIDATION // context, 1))
            if parts[1].shape[0]
            else None
        )
        self.test = TextWindows(parts[2], context, stride=context) if parts[2].shape[0] else None
        for part in (self.valid, self.test):
            if part is not None:  # the scores of a batch in 64 MB
                part.at_once = min(256, max(1, (1 << 24) // (part.context * self.preprocessing.tokens.size)))

    def _measure(self, whole: str | bytes) -> None:
        line = "\n" if isinstance(whole, str) else b"\n"
        lines = whole.count(line) + (0 if whole.endswith(line) else 1)  # type: ignore[arg-type]
        self._size = (len(whole), "characters" if isinstance(whole, str) else "bytes", lines)

    @property
    def context(self) -> int:
        """How many tokens the network sees at once."""
        return self.preprocessing.context

    @property
    def vocabulary(self) -> list[str]:
        """The text of each token."""
        return list(self.preprocessing.tokens.vocabulary)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; ValueError for characters that the vocabulary has not."""
        return self.preprocessing.encode(text)

    def decode(self, ids: Any) -> str:
        """The text of tokens."""
        return self.preprocessing.decode_ids(ids.tolist() if isinstance(ids, Tensor) else ids)

    def describe(self) -> str:
        size, what, lines = self._size
        tokens = self.preprocessing.tokens
        said = {"char": "characters", "byte": "bytes", "tokenizer": "byte-pairs or words of a tokenizer"}[
            tokens.kind
        ]
        shown = ""
        if tokens.kind == "char":
            first = ", ".join(repr(c) for c in tokens.vocabulary[:12])
            shown = f": {first}{', …' if tokens.size > 12 else ''}"
        train, valid, test = self._parts
        more = (f", {valid:,} for validation" if valid else "") + (f", {test:,} for the test" if test else "")
        out = [
            f"{named(self.files)}: {size:,} {what}, {lines:,} line{'s' if lines != 1 else ''}",
            f"tokens: {said}, {tokens.size:,} of them{shown}",
            f"parts: {train:,} tokens to train{more}, in windows of {self.train.context:,}",
        ]
        if valid:
            assert self.valid is not None
            used = self.valid.length * self.valid.context
            if used < valid - self.valid.context:
                out.append(f"validation: {used:,} of its tokens are used, evenly spread")
        return "\n".join(out)

    def origin(self) -> dict[str, Any]:
        paths = [str(p.absolute()) for p in self.files]
        path = None if self.in_memory else paths[0] if len(paths) == 1 else paths
        names = ("train", "valid", "test")
        sizes = dict(zip(names, self._parts, strict=True))
        marks = hashlib.sha256(repr(sorted(sizes.items())).encode()).hexdigest()
        return {
            "kind": "text", "path": path, "bytes": self._bytes, "sha256": self._sha256, "samples": sum(self._parts),
            "options": dict(self.options), "split": {"by": "position", "sizes": sizes, "seed": self.seed, "sha256": marks},
        }  # fmt: skip

    def network(self, name: str | None = None, **settings: Any) -> Module:
        """ "lstm" (the quickest to learn on a CPU; width, layers, hidden, dropout, tied) or "gpt" (width, layers, heads, context, dropout,
        positions, tied, bias)."""
        import inspect  # a network is made once

        from anynet import models  # a text does not need networks before it has one

        name = "lstm" if name is None else name
        if name not in self.models:
            msg = f"Text.network: unknown network {name!r}{nearest(name, self.models)}"
            raise ValueError(msg)
        small = self._parts[0] < 50_000
        cls: Any = models.GPT if name == "gpt" else models.LSTMLanguageModel
        made: dict[str, Any] = {"vocabulary": self.preprocessing.tokens.size}
        if name == "gpt":
            made |= {
                "context": self.context,
                "layers": 4,
                "width": 64 if small else 128,
                "heads": 4,
                "dropout": 0.1 if small else 0.0,
            }
        else:
            made |= {"width": 128 if small else 256, "layers": 1, "dropout": 0.2 if small else 0.0}
        known = [p for p in inspect.signature(cls).parameters if p != "vocabulary"]
        for option in settings:
            if option not in known:
                msg = f"Text.network: {name} has no option {option!r}{nearest(option, known)}"
                raise ValueError(msg)
        if settings.get("context", self.context) < self.context:
            msg = f"Text.network: context must be at least that of the text's windows, {self.context}, got {settings['context']}"
            raise ValueError(msg)
        return cls(**{**made, **settings})  # type: ignore[no-any-return]

    def defaults(self) -> dict[str, Any]:
        """About 1,000 updates of 1,024 tokens, fewer for a text that is soon known by heart or where they take longer than `USUAL_TIME`."""
        tokens = self._parts[0]
        batch_size = max(1, min(1024 // self.train.context, 64))  # 1,024 tokens
        updates = 400 if tokens < 50_000 else 1000
        epochs = max(1, math.ceil(updates * batch_size / len(self.train)))
        return {
            "loss": "token_cross_entropy", "metrics": ["accuracy"], "optimizer": "adamw", "lr": 4e-3, "scheduler": "cosine",
            "clip_norm": 1.0, "epochs": epochs, "batch_size": batch_size, "callbacks": ["samples"],
            "time_limit": USUAL_TIME,
        }  # fmt: skip


def _filled(rows: list[Array], filling: int, width: int = 0) -> Tensor:
    """Rows of tokens as one array (n, t) of int64."""
    xp = registry.resolve("cpu")[0]
    width = max(width, *(int(row.shape[0]) for row in rows))
    out = xp.full((len(rows), width), filling, dtype=xp.int64)
    for i, row in enumerate(rows):
        out[i, : row.shape[0]] = row
    return wrap(out)


# ----- files -----


def _is_file(sample: str | os.PathLike[str]) -> bool:
    """Whether a sample is a file to be read, and not a text."""
    if isinstance(sample, os.PathLike):
        return True
    named = sample.lower().endswith((".txt", ".txt.gz")) and not any(c.isspace() for c in sample)
    return named or (
        0 < len(sample) < 1000 and "\n" not in sample and "." in sample and os.path.isfile(sample)
    )


def _whole(where: str, name: str, value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        msg = f"{where}: {name} must be an integer ≥ {least}, got {value!r}"
        raise ValueError(msg)
    return value


def _is_number(part: Any) -> bool:
    return not isinstance(part, (str, os.PathLike))


def _share(name: str, part: Any) -> float:
    if not _is_number(part):
        return 0.0
    if not isinstance(part, (int, float)) or isinstance(part, bool) or not 0 <= part < 1:
        msg = f"Text: {name} must be a share in [0, 1) or the path of a file, got {part!r}"
        raise ValueError(msg)
    return float(part)


def _plain(part: Any) -> Any:
    return str(part) if isinstance(part, os.PathLike) else part


def _ids(tokens: Tokens, piece: str | bytes) -> Array:
    return (
        tokens.of_bytes(piece)
        if isinstance(tokens, Bytes) and isinstance(piece, bytes)
        else tokens.array(str(piece))
    )


def _read(path: Path, tokens: Tokens, encoding: str) -> Array:
    """The tokens of a file."""
    return _ids(tokens, bytes_of(path) if isinstance(tokens, Bytes) else newlines(decoded(path, encoding)))


def _vocabulary(tokens: str | os.PathLike[str], train: Any, texts: list[Any], unknown: bool) -> Tokens:
    """The tokens that are asked for, of the training part or of all texts."""
    if tokens == "byte":
        return Bytes()
    if tokens == "char":
        return Characters(set(train) if unknown else set().union(*map(set, texts)), unknown)
    name = str(tokens)
    if name == "bpe" or name.startswith("bpe:"):
        size = name[4:]
        if not size.isdecimal() or int(size) < 257:
            msg = f"Text: tokens must be 'bpe:' and a number of at least 257 (256 bytes and a pair), such as 'bpe:2000', got {name!r}"
            raise ValueError(msg)
        return Tokenizer.trained(train, int(size))
    if Path(name).is_file():
        return Tokenizer.from_file(name)
    msg = f"Text: tokens must be 'char', 'byte', 'bpe:2000' or the path of a tokenizer.json, got {name!r}"
    if name.endswith(".json"):
        msg += ": there is no such file"
    raise ValueError(msg)
