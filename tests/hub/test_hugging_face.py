"""Checkpoints that Hugging Face's transformers wrote give here what they gave there (`make_checkpoints.py`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import models
from anynet.nn.errors import ShapeError, StateError
from anynet_backends.safetensors_io import load as read
from optional_libraries import needs

FOLDER = Path(__file__).with_name("checkpoints")
NAMES = sorted(p.name for p in FOLDER.iterdir())
TEXTS = ["gpt2", "gpt2-untied", "llama", "llama-tied", "llama-3", "mistral", "qwen2"]


def expected(name: str) -> tuple[list[Any], list[Any]]:
    stored = read(FOLDER / name / "expected.tensors")[0]
    return tuple([stored[k] for k in sorted(stored) if k.startswith(kind)] for kind in ("input", "output"))  # type: ignore[return-value]


def outputs(net: Any, inputs: list[Any]) -> tuple[Any, ...]:
    with an.no_grad():
        found = net(*(an.asarray(x) for x in inputs))
    return found if isinstance(found, tuple) else (found,)


def changed(name: str, folder: Path, **values: Any) -> Path:
    """A copy of a checkpoint with other values in its configuration; None takes one out."""
    shutil.copytree(FOLDER / name, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | values
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_transformers(name: str) -> None:
    inputs, theirs = expected(name)
    net = an.hub.load(FOLDER / name)
    assert not net.training
    ours = outputs(net, inputs)
    assert len(ours) == len(theirs)
    for y, z in zip(ours, theirs, strict=True):
        assert (y.shape, y.dtype) == (z.shape, an.float32)
        np.testing.assert_allclose(y.numpy(), z, rtol=0, atol=1e-5 * np.abs(z).max())
    double = outputs(
        an.hub.load(FOLDER / name, dtype="float64"),
        [x.astype("float64") if x.dtype.kind == "f" else x for x in inputs],
    )
    assert all(y.dtype == an.float64 for y in double)
    for y, z in zip(double, theirs, strict=True):
        np.testing.assert_allclose(y.numpy(), z, rtol=0, atol=1e-5 * np.abs(z).max())


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_trained_further(name: str) -> None:
    inputs, _ = expected(name)
    net = an.hub.load(FOLDER / name)
    optimizer = an.optim.SGD(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        found = net(*(an.asarray(x) for x in inputs))
        loss = an.mean((found[0] if isinstance(found, tuple) else found) ** 2)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("name", "table"),
    [("gpt2", "wte"), ("llama-tied", "embed_tokens"), ("bert-masked", "embeddings.word_embeddings")],
)
def test_tied_matrices_are_one_parameter(name: str, table: str) -> None:
    net: Any = an.hub.load(FOLDER / name)
    sizes = [n for n, p in net.named_parameters() if p.ndim == 2 and 13 in p.shape]
    assert sizes == [f"{table}.weight"]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_read_piece_by_piece(name: str) -> None:
    [tokens], [scores] = expected(name)
    net: Any = an.hub.load(FOLDER / name)
    cache = net.new_cache()
    with an.no_grad():
        parts = [net(an.asarray(tokens[:, a:b]), cache) for a, b in ((0, 3), (3, 4), (4, 7))]
    np.testing.assert_allclose(
        np.concatenate([p.numpy() for p in parts], axis=1), scores, rtol=0, atol=1e-5 * np.abs(scores).max()
    )
    assert len(list(an.generate(net, tokens[0].tolist(), length=3))) == 3


def test_a_file_and_a_new_last_layer(tmp_path: Path) -> None:
    inputs, [logits] = expected("vit")
    net = an.hub.load(FOLDER / "vit" / "model.safetensors")
    np.testing.assert_allclose(outputs(net, inputs)[0].numpy(), logits, rtol=0, atol=1e-5)
    other: Any = an.hub.load(FOLDER / "vit", num_classes=7)
    assert outputs(other, inputs)[0].shape == (2, 7)
    assert other.conv_proj.weight.tolist() == net.conv_proj.weight.tolist()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"num_classes is for .*, got 3 for GPT2LMHeadModel"):
        an.hub.load(FOLDER / "gpt2", num_classes=3)


def test_a_sliding_window_is_the_context() -> None:
    net: Any = an.hub.load(FOLDER / "mistral")
    assert net.context == 8  # of 10 places
    with pytest.raises(ShapeError, match="at most context=8 tokens, got 9"):
        net(an.zeros((1, 9), dtype=an.int64))


def test_the_tokenizer(tmp_path: Path) -> None:
    library = needs("tokenizers", "text")
    folder = changed("gpt2", tmp_path / "gpt2")
    inner = library.Tokenizer(
        library.models.WordLevel({w: i for i, w in enumerate(["a", "b", "c", "d", "?"])}, "?")
    )
    inner.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    inner.save(str(folder / "tokenizer.json"))
    words = an.hub.tokenizer(folder)
    assert (words.encode("d a b"), words.decode_ids([1, 2]), words.context) == ([3, 0, 1], "b c", 10)
    assert an.hub.tokenizer(folder / "tokenizer.json").encode("c") == [2]
    with pytest.raises(FileNotFoundError, match=r"there is no .*tokenizer\.json"):
        an.hub.tokenizer(FOLDER / "gpt2")


# ----- what is refused -----


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("gpt2", {"architectures": ["GPT2LMHaedModel"]}, "architectures must be one of .*, got 'GPT2LMHaedModel'.*GPT2LMHeadModel"),
        ("gpt2", {"architectures": None}, "architectures must be one of .*, got None"),
        ("gpt2", {"n_embd": "8"}, "n_embd must be an integer ≥ 1, got '8'"),
        ("gpt2", {"n_layer": 10**12}, "n_layer must be an integer ≥ 1"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be False: nothing else"),
        ("gpt2", {"activation_function": "tanh"}, "activation_function must be one of gelu, .*, got 'tanh'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type must be 'absolute'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "must be 'default', 'linear' or 'llama3', got 'yarn'"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "needs factor > 0, got None"),
        ("llama", {"rope_parameters": [1]}, "rope_scaling must be an object"),
        ("vit", {"architectures": ["ViTModel"]}, "ViTModel has no last layer; give num_classes"),
        ("vit", {"qkv_bias": False}, "qkv_bias must be True"),
        ("resnet-basic", {"hidden_sizes": [4, 9]}, r"hidden_sizes must be \[4, 8\]"),
        ("resnet-basic", {"downsample_in_first_stage": True}, "downsample_in_first_stage must be False"),
        ("resnet-basic", {"layer_type": "wide"}, "layer_type must be 'basic' or 'bottleneck'"),
    ],
)  # fmt: skip
def test_configurations_that_are_refused(
    name: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        an.hub.load(changed(name, tmp_path / "copy", **values))


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"h\.0\.mlp\.c_fc\.weight: got shape .*, expected"):
        an.hub.load(changed("gpt2", tmp_path / "a", n_inner=20))
    with pytest.raises(StateError, match=r"missing h\.2\.ln_1\.weight"):
        an.hub.load(changed("gpt2", tmp_path / "b", n_layer=3))
    with pytest.raises(StateError, match=r"unexpected h\.1\.ln_1\.weight"):
        an.hub.load(changed("gpt2", tmp_path / "c", n_layer=1))


def test_files_that_are_not_there_or_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*config\.json"):
        an.hub.load(tmp_path)
    folder = changed("gpt2", tmp_path / "gpt2")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="has no"):
        an.hub.load(folder)
    for text, message in (
        ("{", "must be JSON"),
        ("[1]", "must be a JSON object"),
        ("[" * 100_000, "must be JSON"),
        (" " * (1 << 21), "at most"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            an.hub.load(folder)


def test_an_index_that_names_other_folders(tmp_path: Path) -> None:
    folder = changed("gpt2-shards", tmp_path / "gpt2")
    index = folder / "model.safetensors.index.json"
    table = json.loads(index.read_text(encoding="utf-8"))
    for name in ("../secret.safetensors", "/etc/passwd", "config.json", 3):
        index.write_text(json.dumps({"weight_map": dict.fromkeys(table["weight_map"], name)}))
        with pytest.raises(ValueError, match=r"which is not one of weights beside it|TypeError"):
            an.hub.load(folder)


def test_bytes_changed_at_random_are_refused_or_harmless(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, file in (("gpt2", "model.safetensors"), ("bert-masked", "pytorch_model.bin")):
        folder = changed(name, tmp_path / name)
        good = (folder / file).read_bytes()
        for _ in range(60):
            bad = bytearray(good)
            for at in rng.integers(0, min(len(bad), 4000), 3):
                bad[at] = rng.integers(256)
            (folder / file).write_bytes(
                bytes(bad[: rng.integers(1, len(bad))] if rng.random() < 0.3 else bad)
            )
            try:
                an.hub.load(folder)
            except (ValueError, TypeError) as error:
                assert str(error)  # noqa: PT017 whether it raises depends on the bytes


# ----- the networks themselves -----


def test_sizes_and_options_of_bert_and_llama() -> None:
    for make, message in (
        (lambda: models.BERT(width=10, heads=3), "BERT: heads must divide width, got 3 and 10"),
        (lambda: models.BERT(head="mask"), "BERT: head must be one of None, 'masked'"),
        (lambda: models.BERT(activation="gleu"), "BERT: unknown activation 'gleu'"),
        (lambda: models.Llama(width=10, heads=3), "Llama: heads must divide width, got 3 and 10"),
        (
            lambda: models.Llama(heads=4, key_value_heads=3),
            "Llama: key_value_heads must divide heads, got 3 and 4",
        ),
        (lambda: models.Llama(width=12, heads=4), "Llama: head_features must be even"),
        (
            lambda: models.Llama(rope_scaling={"type": "linear", "factor": 2.0, "facter": 1}),
            "has no 'facter'",
        ),
        (lambda: models.GPT(activation="gleu"), "GPT: unknown activation 'gleu'"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    net = models.BERT(11, 6, 8, 1, 2)
    for tokens in (an.zeros((1, 7), dtype=an.int64), an.zeros((7,), dtype=an.int64)):
        with pytest.raises(ShapeError, match="BERT: tokens must be"):
            net(tokens)
    with pytest.raises(ShapeError, match="BERT: mask must be of the shape of tokens"):
        net(an.zeros((2, 3), dtype=an.int64), an.ones((2, 4)))
    bare = models.BERT(11, 6, 8, 1, 2, pooler=False)
    assert bare(an.zeros((2, 3), dtype=an.int64)).shape == (2, 3, 8)


def test_what_is_filled_up_changes_nothing() -> None:
    net = models.BERT(11, 6, 8, 2, 2, head="tokens").eval()
    tokens = np.array([[3, 4, 5, 0, 0]])
    mask = np.array([[1, 1, 1, 0, 0]])
    whole = net(an.asarray(tokens), an.asarray(mask)).numpy()[:, :3]
    np.testing.assert_allclose(net(an.asarray(tokens[:, :3])).numpy(), whole, rtol=1e-5, atol=1e-7)
