"""Writes foreign_files.zip: small networks of Keras, Flax and Haiku with inputs and outputs, as these libraries save and compute them.

    pip install keras jax flax dm-haiku h5py
    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python tests/models/make_foreign_files.py

The networks of this library that take their weights are in test_foreign_weights.py.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import flax
import flax.linen as fnn
import haiku as hk
import jax
import keras
import numpy as np
from flax import serialization
from keras import Input, layers

rng = np.random.default_rng(0)
made: dict[str, bytes] = {}


def numbers(x, name):
    """Values for an array: variances above 0."""
    return np.asarray(
        rng.uniform(0.1, 0.9, x.shape) if "var" in name else rng.normal(0, 0.4, x.shape), x.dtype
    )


def keep(name, x, y):
    file = io.BytesIO()
    np.savez(file, x=x, y=np.asarray(y))
    made[f"{name}.npz"] = file.getvalue()


def of_keras(name, net, x, kinds=(".keras", ".weights.h5", ".h5")):
    for w in net.weights:
        if "seed" not in w.path:
            w.assign(numbers(w, w.path))
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder, name + kind)
            net.save_weights(path) if "weights" in kind else net.save(path)
            made[path.name] = path.read_bytes()
    keep(name, x, net(x, training=False))


def of_jax(name, params, x, y):
    made[f"{name}.msgpack"] = serialization.msgpack_serialize(jax.device_get(params))
    keep(name, x, y)


def normal(*shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtype)


class Attributes(keras.Model):
    def __init__(self):
        super().__init__()
        self.zfirst, self.asecond = layers.Dense(4, activation="relu"), layers.Dense(2)

    def call(self, x, training=False):
        return self.asecond(self.zfirst(x))


class Convolutions(fnn.Module):
    @fnn.compact
    def __call__(self, x):
        x = fnn.BatchNorm(use_running_average=True)(fnn.Conv(4, (3, 3))(x))
        x = fnn.Conv(8, (3, 3), feature_group_count=4, padding="VALID")(fnn.relu(x))
        x = fnn.GroupNorm(num_groups=3)(fnn.ConvTranspose(3, (2, 2), strides=(2, 2), padding="VALID")(x))
        x = fnn.LayerNorm(epsilon=1e-5)(fnn.Dense(5)(x.reshape(x.shape[0], -1)))
        return fnn.Dense(2)(fnn.PReLU()(x))


class Sequences(fnn.Module):
    @fnn.compact
    def __call__(self, i):
        x = fnn.Embed(11, 8)(i)
        x = fnn.MultiHeadDotProductAttention(num_heads=2)(x, x)
        for cell in (fnn.OptimizedLSTMCell(5), fnn.GRUCell(3), fnn.SimpleCell(4)):
            x = fnn.RNN(cell)(x)
        return fnn.Dense(2)(x[:, -1])


def keras_files():
    net = keras.Sequential([
        Input((6, 6, 3)), layers.Conv2D(4, 3, padding="same", activation="relu"), layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, depth_multiplier=2), layers.MaxPooling2D(), layers.Dropout(0.2), layers.Flatten(),
        layers.Dense(5, activation="tanh"), layers.LayerNormalization(), layers.Dense(2),
    ])  # fmt: skip
    net.compile("adam", "mse")
    net.fit(normal(4, 6, 6, 3), np.zeros((4, 2)), verbose=0)
    of_keras("convolutions", net, normal(3, 6, 6, 3))
    of_keras("separable", keras.Sequential([
        Input((9, 3)), layers.Conv1D(6, 3, groups=3, activation="relu"), layers.SeparableConv1D(5, 3),
        layers.BatchNormalization(scale=False), layers.PReLU(shared_axes=[1]), layers.GlobalAveragePooling1D(),
        layers.Dense(2, use_bias=False),
    ]), normal(2, 9, 3))  # fmt: skip
    of_keras("volumes", keras.Sequential([
        Input((5, 5, 5, 2)), layers.Conv3D(3, 2, dilation_rate=2), layers.GroupNormalization(3), layers.Conv3DTranspose(2, 3, strides=2),
    ]), normal(1, 5, 5, 5, 2), (".keras",))  # fmt: skip
    of_keras("transposed", keras.Sequential([
        Input((4, 4, 2)), layers.Conv2DTranspose(3, 3, strides=2), layers.BatchNormalization(center=False, epsilon=1e-5),
        layers.Conv2D(2, 1),
    ]), normal(2, 4, 4, 2), (".keras", ".weights.h5"))  # fmt: skip
    i = Input((6,), dtype="int32")
    x = layers.Embedding(11, 8)(i)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True))(layers.MultiHeadAttention(2, 4)(x, x))
    x = layers.SimpleRNN(4)(layers.GRU(3, return_sequences=True)(x))
    of_keras("sequences", keras.Model(i, layers.Dense(2)(x)), rng.integers(0, 11, (3, 6)).astype("int32"))
    of_keras(
        "reset_before",
        keras.Sequential([Input((4, 3)), layers.GRU(3, reset_after=False)]),
        normal(2, 4, 3),
        (".keras", ".h5"),
    )
    inner = keras.Sequential([Input((3,)), layers.Dense(4, activation="relu"), layers.BatchNormalization()])
    i = Input((3,))
    x = layers.add([layers.Dense(3)(inner(i)), i])
    of_keras("nested", keras.Model(i, layers.Dense(2)(x)), normal(5, 3))
    net, x = Attributes(), normal(5, 3)
    net(x)
    of_keras("attributes", net, x, (".keras", ".weights.h5"))
    keras.backend.set_floatx("float64")
    of_keras(
        "double",
        keras.Sequential([Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(2)]),
        normal(5, 3, dtype="float64"),
    )


def flax_files():
    for name, net, x in (("flax_convolutions", Convolutions(), normal(2, 6, 6, 3)),
                         ("flax_sequences", Sequences(), rng.integers(0, 11, (3, 6)).astype("int32"))):  # fmt: skip
        state = jax.tree_util.tree_map_with_path(
            lambda p, v: numbers(v, str(p[-1])), net.init(jax.random.key(0), x)
        )
        of_jax(name, flax.core.unfreeze(state), x, net.apply(state, x))


def haiku_files():
    def network(x, training=False):
        x = hk.BatchNorm(True, True, 0.9, eps=1e-5)(hk.Conv2D(4, 3)(x), training)
        x = hk.Flatten()(hk.Conv2DTranspose(3, 2, stride=2, padding="VALID")(x))
        return hk.LayerNorm(-1, True, True)(hk.nets.MLP([5, 4])(x))

    def recurrent(x):
        cell = hk.LSTM(5)
        return hk.dynamic_unroll(cell, x, cell.initial_state(x.shape[0]), time_major=False)[0]

    run, x = hk.transform_with_state(network), normal(2, 4, 4, 3)
    params, state = run.init(jax.random.key(0), x, True)
    params = jax.tree.map(lambda v: numbers(v, ""), params)
    state = jax.tree.map(
        lambda v: np.asarray(rng.uniform(0.2, 0.9, v.shape) if v.ndim else v, v.dtype), state
    )
    tree = {k: dict(v) for k, v in params.items()} | {k: {"average": v["average"]} for k, v in state.items()}
    of_jax("haiku_convolutions", tree, x, run.apply(params, state, None, x)[0])
    run, x = hk.transform(recurrent), normal(2, 4, 3)
    params = jax.tree.map(lambda v: numbers(v, ""), run.init(jax.random.key(0), x))
    of_jax("haiku_recurrent", {k: dict(v) for k, v in params.items()}, x, run.apply(params, None, x))


def more_keras_files():
    keras.backend.set_floatx("float32")
    i = Input((4, 4, 2))
    x = layers.concatenate(
        [layers.Conv2D(3, 3, name="zeta", padding="same")(i), layers.Conv2D(4, 1, name="alpha")(i)]
    )
    x = layers.Flatten()(layers.LayerNormalization(name="norm")(x))
    of_keras(
        "branches",
        keras.Model(i, layers.Dense(2, name="first")(layers.Dense(4, name="mine")(x))),
        normal(2, 4, 4, 2),
    )
    of_keras("levels", keras.Sequential([
        Input((5, 3)), layers.LSTM(4, return_sequences=True), layers.LSTM(4, return_sequences=True),
        layers.Bidirectional(layers.GRU(3, return_sequences=True)), layers.TimeDistributed(layers.Dense(2)),
        layers.RMSNormalization(epsilon=1e-6),
    ]), normal(2, 5, 3))  # fmt: skip
    scaled = layers.Normalization()
    scaled.adapt(normal(10, 3))
    of_keras("prepared", keras.Sequential([Input((3,)), scaled, layers.Dense(2)]), normal(4, 3), (".keras",))


if __name__ == "__main__":
    keras_files()
    flax_files()
    haiku_files()
    more_keras_files()
    with zipfile.ZipFile(Path(__file__).with_name("foreign_files.zip"), "w") as archive:
        for name, data in sorted(made.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)
