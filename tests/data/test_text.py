"""Texts as sources: reading files, tokens, windows, the split, JSON, what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

import anynet as an
from anynet.data import DataError, Text
from anynet.data.source import preprocessing_from_json
from anynet.data.text import TextPreprocessing, TextWindows
from optional_libraries import needs

VERSE = "To be, or not to be:\nthat is the question.\n" * 30


def written(folder: Path, text: str | bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def rows(data: TextWindows) -> tuple[np.ndarray, np.ndarray]:
    x, y = data.batch(range(len(data)))
    return x.numpy(), y.numpy()


# ----- reading -----


def test_a_file_is_split_by_position(tmp_path: Path) -> None:
    text = Text(written(tmp_path, VERSE), context=16, valid=0.2, test=0.1)
    n = len(VERSE)
    assert text.vocabulary == sorted(set(VERSE))
    assert text.decode(text.encode("to be")) == "to be"
    sizes = text.origin()["split"]["sizes"]
    assert (sizes["valid"], sizes["test"], sum(sizes.values())) == (round(n * 0.2), round(n * 0.1), n)
    assert (
        text.decode(text.train.tokens) + text.decode(text.valid.tokens) + text.decode(text.test.tokens)
        == VERSE
    )
    x, y = text.train[0]
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((16,), (16,), "int64", "int64")
    assert x.tolist()[1:] == y.tolist()[:-1]


def test_windows_line_ends_marks_gzip_folders_and_lists(tmp_path: Path) -> None:
    plain = "one\ntwo\nthree\n" * 9
    windows = written(tmp_path, b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode(), "windows.txt")
    zipped = tmp_path / "text.txt.gz"
    zipped.write_bytes(gzip.compress(plain.encode()))
    for path in (windows, zipped):
        text = Text(path, context=4, valid=0)
        assert text.decode(text.train.tokens) == plain
        assert text.valid is None
    assert text.encode("one\r\ntwo") == text.encode("one\ntwo")
    written(tmp_path, "a b", "more/2.txt")
    written(tmp_path, "c\n", "more/1.TXT")
    written(tmp_path, "ignored", "more/3.md")
    folder = Text(tmp_path / "more", context=2, valid=0)
    assert folder.decode(folder.train.tokens) == "c\na b"
    several = Text([tmp_path / "more" / "2.txt", str(tmp_path / "more" / "1.TXT")], context=2, valid=0)
    assert several.decode(several.train.tokens) == "a b\nc\n"
    assert Text(windows, tokens="byte", valid=0).decode([13, 10]) == "\r\n"


def test_other_files_for_validation(tmp_path: Path) -> None:
    train, valid = written(tmp_path, "abab" * 20), written(tmp_path, "abcabc", "valid.txt")
    text = Text(train, context=4, valid=str(valid))
    assert text.vocabulary == ["a", "b", "c"]
    assert text.decode(text.valid.tokens) == "abcabc"
    assert len(text.train.tokens) == 80
    with pytest.raises(DataError, match=r"nowhere\.txt: there is no such file"):
        Text(train, valid=tmp_path / "nowhere.txt")


def test_a_text_in_memory() -> None:
    text = Text.from_text("hello world\n" * 20, context=8)
    assert text.origin()["path"] is None
    assert text.describe().startswith("text: 240 characters, 20 lines\ntokens: characters, 9 of them:")


REFUSED = [
    (b"", {}, DataError, r"text\.txt: there is no text in it"),
    (b"  \n\n ", {}, DataError, "there is no text in it"),
    (b"\xef\xbb\xbf\n", {}, DataError, "there is no text in it"),
    (b"a", {}, DataError, "the training part must have at least 2 tokens, it has 1"),
    (b"abcdefghij", {}, DataError, "the validation part must have at least 2 tokens, it has 1; give valid=0"),
    (b"good\nb\xe9d\n", {}, DataError, r"text\.txt: byte 6 \(line 2\), 0xe9, is no utf-8; give encoding='latin-1'"),
    (b"a\xff\0b\0" * 9, {}, DataError, "it has zero bytes, as files that are no texts have"),
    (b"good" * 9, {"encoding": "utf-99"}, ValueError, "unknown encoding 'utf-99'"),
    (b"good" * 9, {"encoding": None}, ValueError, "unknown encoding None"),
    (b"good" * 9, {"tokens": "word"}, ValueError, "tokens must be 'char', 'byte', 'bpe:2000' or the path"),
    (b"good" * 9, {"tokens": "lost.json"}, ValueError, "there is no such file"),
    (b"good" * 9, {"tokens": "bpe:5"}, ValueError, "at least 257"),
    (b"good" * 9, {"context": 0}, ValueError, "context must be an integer ≥ 1"),
    (b"good" * 9, {"valid": 1.0}, ValueError, r"valid must be a share in \[0, 1\)"),
    (b"good" * 9, {"valid": 0.6, "test": 0.5}, ValueError, "must leave a part to train with"),
    (b"good" * 9, {"tokens": "byte", "unknown": True}, ValueError, "unknown is for tokens="),
]  # fmt: skip


@pytest.mark.parametrize(("data", "options", "error", "message"), REFUSED, ids=[m for *_, m in REFUSED])
def test_what_is_refused(
    tmp_path: Path, data: bytes, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Text(written(tmp_path, data), **options)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file or folder"):
        Text(tmp_path / "lost.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt file in this folder or below; it has nothing"):
        Text(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"for a text itself: Text\.from_text"):
        Text("some\ntext")
    with pytest.raises(TypeError, match="the path of a text or a folder, or a list of paths"):
        Text(3)


# ----- tokens -----


def test_characters_that_are_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, "aab\n" * 30 + "ç" * 20)
    text = Text(path, context=4, valid=20 / 140)
    assert "ç" in text.vocabulary  # of the whole text
    with pytest.raises(ValueError, match=r"of 4 characters has no 'x', 'é'; .*unknown=True"):
        text.encode("aéx")
    text = Text(path, context=4, valid=20 / 140, unknown=True)
    assert text.vocabulary == ["\ufffd", "\n", "a", "b"]  # of the training part, after the one for all others
    assert set(text.valid.tokens.tolist()) == {0}
    assert text.decode(text.encode("aéb")) == "a\ufffdb"
    assert Text.from_text("aäß€😀" * 9, context=3).decode([4, 0]) == "😀a"


def test_bytes_say_any_text(tmp_path: Path) -> None:
    text = Text(written(tmp_path, b"caf\xe9 \r\n" * 20), tokens="byte", context=8)
    assert len(text.vocabulary) == 256
    assert bytes(text.train.tokens[:7].tolist()) == b"caf\xe9 \r\n"
    assert text.decode(text.encode("naïve 😀")) == "naïve 😀"
    assert "140 bytes, 20 lines" in text.describe()
    stream = text.preprocessing.tokens.stream()
    assert [stream(b) for b in "é!".encode()] == ["", "é", "!"]
    assert stream(0xC3) == ""
    assert stream.end() == "\ufffd"


def test_byte_pairs_and_tokenizer_files(tmp_path: Path) -> None:
    needs("tokenizers", "text")
    path = written(tmp_path, VERSE)
    text = Text(path, tokens="bpe:300", context=8)
    assert 256 < len(text.vocabulary) <= 300
    assert text.decode(text.encode("question: naïve 😀\n")) == "question: naïve 😀\n"
    assert len(text.encode("question")) < 8
    stream = text.preprocessing.tokens.stream()
    pieces = [stream(i) for i in text.encode("be, naïve 😀")]
    assert "".join(pieces) + stream.end() == "be, naïve 😀"
    data = json.loads(json.dumps(text.preprocessing.to_json()))
    again = TextPreprocessing.from_json(data)
    assert again.encode("not to be") == text.encode("not to be")
    file = written(tmp_path, data["tokenizer"], "tokenizer.json")
    assert Text(path, tokens=file, context=8).encode("not to be") == text.encode("not to be")
    with pytest.raises(DataError, match=r"broken\.json: this is no tokenizer\.json"):
        Text(path, tokens=written(tmp_path, "{}", "broken.json"))


# ----- windows -----


def test_windows_side_by_side_meet_each_token_once() -> None:
    data = TextWindows(an.arange(23), context=5, stride=5)
    x, y = rows(data)
    assert x.shape == (5, 5)
    live = y >= 0
    assert sorted(y[live].tolist()) == list(range(1, 23))
    np.testing.assert_array_equal(y[live], x[live] + 1)
    few = TextWindows(an.arange(1001), context=10, stride=10, windows=4)
    assert rows(few)[0][:, 0].tolist() == [0, 250, 500, 750]
    overlapping = TextWindows(an.arange(11), context=5, stride=2)
    assert rows(overlapping)[0][:, 0].tolist() == [0, 2, 4, 6]


def test_a_text_shorter_than_the_context() -> None:
    for stride in (None, 64):
        x, y = rows(TextWindows(an.arange(4), context=64, stride=stride))
        assert (x.tolist(), y.tolist()) == ([[0, 1, 2]], [[1, 2, 3]])
    text = Text.from_text("xy" * 20, context=128)
    assert (text.train.context, text.valid.context, len(text.train)) == (35, 3, 256)


def test_drawn_windows_follow_from_seed_and_epoch() -> None:
    data = TextWindows(an.arange(1000), context=7, windows=100, seed=3)
    first, second = rows(data.at_epoch(0))[0], rows(data.at_epoch(1))[0]
    np.testing.assert_array_equal(first, rows(data)[0])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(
        second, rows(TextWindows(an.arange(1000), context=7, windows=100, seed=3).at_epoch(1))[0]
    )
    assert not np.array_equal(first, rows(TextWindows(an.arange(1000), context=7, windows=100, seed=4))[0])
    # a pass has 142 or 143 windows: epochs go through it without meeting a window twice
    starts = np.concatenate([rows(data.at_epoch(i))[0][:, 0] for i in range(10)])
    for a in range(0, 1000 - 143, 143):
        assert len(set(starts[a : a + 143].tolist())) == 143
    assert starts.min() >= 0
    assert starts.max() <= 992


def test_a_loader_goes_on_exactly() -> None:
    text = Text.from_text(VERSE, context=8)
    make = lambda: an.data.DataLoader(text.train, batch_size=32, shuffle=True, seed=1)  # noqa: E731
    loader = make()
    whole = [x.tolist() for _ in range(2) for x, _ in loader]
    loader, seen = make(), []
    for x, _ in loader:
        seen.append(x.tolist())
        if len(seen) == 3:
            break
    other = make()
    other.load_state_dict(loader.state_dict())
    seen += [x.tolist() for x, _ in other] + [x.tolist() for x, _ in other]
    assert seen == whole


# ----- preprocessing -----


def test_preprocessing_of_new_texts(tmp_path: Path) -> None:
    text = Text.from_text(VERSE, context=6)
    data = json.loads(json.dumps({"kind": "text", **text.preprocessing.to_json()}))
    again = preprocessing_from_json(data)
    x, y = again.inputs(["to", "question"]), again.targets(["to", "question"])
    assert (x.dtype, y.dtype) == ("int64", "int64")
    question = text.encode("question")
    assert x.tolist() == [[*text.encode("to"), 0, 0, 0, 0], [*question[:2], 0, 0, 0, 0], question[2:]]
    assert y.tolist() == [
        [text.encode("o")[0], *[-100] * 5], [*question[1:3], *[-100] * 4], [*question[3:], -100],
    ]  # fmt: skip
    file = written(tmp_path, "that")
    for sample in (file, str(file), "that"):
        assert again.inputs(sample).tolist() == [text.encode("that")]
    scores = np.zeros((3, 6, len(text.vocabulary)), dtype="float32")
    scores[0, 1, 5] = scores[2, 5, 7] = 9.0  # after the last token of each
    found = again.decode(an.asarray(scores), ["to", "question"])
    assert list(found) == [text.vocabulary[5], text.vocabulary[7]]
    assert all(p > 0.98 for p in found.columns["probability"])
    assert again.inputs(an.asarray([[1, 2]])).tolist() == [[1, 2]]
    assert again.targets(an.asarray([[1, 2]])).tolist() == [[2, -100]]
    with pytest.raises(DataError, match=r"lost\.txt: there is no such file"):
        again.inputs("lost.txt")
    with pytest.raises(ValueError, match="text 2 of 2 is empty"):
        again.inputs(["to", ""])
    with pytest.raises(ValueError, match="at least 2 tokens"):
        again.targets(["t"])
    for wrong in (
        {"tokens": "char", "characters": "ab"},
        {"tokens": "char", "context": 3},
        {"tokens": "words", "context": 3},
    ):
        with pytest.raises(ValueError, match="must have"):
            TextPreprocessing.from_json(wrong)


def test_networks_and_defaults() -> None:
    text = Text.from_text(VERSE, context=16)
    for name in (None, "lstm", "gpt"):
        net = text.network(name, width=16)
        assert net(text.train.batch([0, 1])[0]).shape == (2, 16, len(text.vocabulary))
    with pytest.raises(ValueError, match="unknown network 'gtp'; did you mean 'gpt'"):
        text.network("gtp")
    with pytest.raises(ValueError, match="lstm has no option 'heads'"):
        text.network("lstm", heads=2)
    with pytest.raises(ValueError, match="at least that of the text's windows, 16, got 8"):
        text.network("gpt", context=8)
    history = an.fit(
        text.network(width=16), text, **{**text.defaults(), "epochs": 1, "batch_size": 64}, progress=False
    )
    assert {"val_loss", "val_accuracy"} <= history[-1].keys()


def test_defaults_for_any_size(anynet_data: Path) -> None:
    text = Text(anynet_data / "text" / "tinyshakespeare.txt")
    options = text.defaults()
    updates = options["epochs"] * -(-len(text.train) // options["batch_size"])
    assert 1000 <= updates <= 1100
    assert len(text.vocabulary) == 65
    assert (len(text.train), len(text.valid)) == (2048, 872)
    small = Text.from_text("It was a dark night. " * 500).defaults()
    assert small["epochs"] * small["batch_size"] < 10_000


def test_the_scores_of_a_large_vocabulary_fit_into_memory() -> None:
    text = Text.from_text("abc" * 600, context=64, windows=4)
    assert text.valid.at_once == 256
    needs("tokenizers", "text")
    large = Text.from_text("".join(f"{i} " for i in range(9000)), tokens="bpe:4000", context=64)
    assert large.valid.at_once * 64 * len(large.vocabulary) <= 1 << 24
    seen: list[int] = []

    class Watched(an.nn.Embedding):
        def forward(self, x: object) -> object:
            seen.append(x.shape[0])  # type: ignore[attr-defined]
            return super().forward(x)

    text.valid.at_once = 2
    an.fit(Watched(3, 3), text, epochs=1, batch_size=1, progress=False)
    assert seen[-6:] == [1, 1, 1, 1, 2, 1]  # four updates, and the three windows of the validation


def test_utf_16_zero_bytes_and_hidden_files(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("To be or not to be\n".encode("utf-16") * 1)
    assert Text(path, context=4).vocabulary == sorted(set("To be or not to be\n"))
    path.write_bytes(b"To be\nor not\0to be\n" * 20)
    with pytest.raises(DataError, match=r"a\.txt: there is a zero byte in line 2"):
        Text(path)
    assert Text(path, tokens="byte", context=8).train
    path.write_text("a" * 500)
    with pytest.raises(DataError, match="the text is 'a' again and again"):
        Text(path)
    path.write_text("To be or not to be\n" * 20)
    (tmp_path / ".hidden.txt").write_text("xyz")
    assert "x" not in Text(tmp_path, context=8).vocabulary
