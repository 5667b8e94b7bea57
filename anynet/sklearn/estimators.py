"""`Classifier` and `Regressor`, on scikit-learn's base classes."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from anynet import random, train
from anynet.nn.functional import log_softmax, softmax
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.sklearn.frames import FrameInputs, chosen, has_words
from anynet.sklearn.networks import build, check_options, perceptron
from anynet.tensor import Tensor
from anynet_backends import resolve

__all__ = ["Classifier", "Regressor"]

_PARTS = ("module", "optimizer")
_MLPS = {"cross_entropy": MLPClassifier, "mse": MLPRegressor}

_DOCUMENT = """

    Parameters:
      module: None for a multilayer perceptron (`hidden`, `activation`, `dropout`; of DataFrames with words, categories or dates one with
        embeddings, `anynet.models.TableMLP`); a Module, of which a copy is trained; or a function (n_in, n_out, …) → Module,
        whose further arguments are parameters of the estimator: ``module__width=64``, in grids, too. n_in is the number of
        features (of X with more axes the shape of a sample), n_out the number of {outputs}.
      hidden, activation, dropout: of the network that is made where `module` is None.
      loss: the name of a loss or a loss (see `anynet.fit`).
      optimizer, lr, weight_decay: by which it is trained; ``optimizer__momentum=0.9`` reaches an option of an optimizer.
      epochs: at most so many.
      batch_size: samples in a batch; "auto": all of up to 200, else 200.
      tol, patience: training ends when the loss has not become smaller by `tol` for so many epochs; tol=None: after `epochs`.
      early_stopping: True: `validation_fraction` of the samples are set aside, training ends when their loss has not become
        smaller for `patience` epochs, and the network of the best epoch is kept. A number is True with that patience.
      warm_start: `fit` goes on with the network of the `fit` before.
      standardize: whether features{and_targets} are brought to mean 0 and deviation 1 for the network; "auto": features where
        `module` is None{auto_targets}.
      callbacks: of `anynet.fit`.
      device: where to train and to predict; "auto": the best that works.
      random_state: of weights, shuffles, dropout and the validation set: an integer for the same numbers each time.
      verbose: 1 for progress.{more}

    Attributes after `fit`: `module_` (the network), `history_` (a record an epoch), `n_iter_` (epochs), {attributes}`n_features_in_`,
    `feature_names_in_`, `optimizer_`.

    Numbers are computed in the precision of X. Weights of samples weigh their losses: Σ w l / Σ w; while all samples fit into
    one batch a weight of 2 is the same as having a sample twice. Pickles (joblib's too) hold the network's numbers as safetensors.
"""


class _Network(BaseEstimator):  # type: ignore[misc]
    """What both estimators have in common."""

    _default_loss: ClassVar[str]
    _n_in: Any
    _frames: FrameInputs | None

    def __init__(
        self,
        module: Any = None,
        *,
        hidden: Any = (128, 64),
        activation: str = "relu",
        dropout: float = 0.0,
        loss: Any = None,
        optimizer: Any = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int | str = "auto",
        tol: float | None = 1e-4,
        patience: int = 10,
        early_stopping: bool | int = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        standardize: bool | str = "auto",
        callbacks: Any = (),
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        **options: Any,
    ) -> None:
        self.module = module
        self.hidden, self.activation, self.dropout = hidden, activation, dropout
        self.loss, self.optimizer, self.lr, self.weight_decay = loss, optimizer, lr, weight_decay
        self.epochs, self.batch_size, self.tol, self.patience = epochs, batch_size, tol, patience
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.warm_start, self.standardize, self.callbacks = warm_start, standardize, callbacks
        self.device, self.random_state, self.verbose = device, random_state, verbose
        for name, value in options.items():
            if name.partition("__")[0] not in _PARTS or "__" not in name:
                msg = f"{type(self).__name__}() has no parameter {name!r}; options of module and optimizer are module__… and optimizer__…"
                raise TypeError(msg)
            setattr(self, name, value)

    # ----- from scikit-learn's own networks -----

    @classmethod
    def from_sklearn(cls, network: Any) -> Any:
        """A fitted `MLPClassifier` or `MLPRegressor` of scikit-learn with its weights: it predicts the same, and `module_` is its network.

        Options of training that both have are taken over; `fit` begins anew, and with ``warm_start=True`` goes on. TypeError for what is
        none, and for a Regressor's of Classifier; NotFittedError; ValueError for classes that do not exclude each other, and for
        outputs of Poisson's loss.

        >>> import anynet as an
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> mlp = MLPClassifier((8,), solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
        >>> same = an.sklearn.Classifier.from_sklearn(mlp)
        >>> bool(abs(same.predict_proba(X) - mlp.predict_proba(X)).max() < 1e-10)
        True
        """
        if not isinstance(network, _MLPS[cls._default_loss]):
            expected = _MLPS[cls._default_loss].__name__
            msg = f"{cls.__name__}.from_sklearn: network must be a {expected}, got {type(network).__name__}"
            raise TypeError(msg)
        check_is_fitted(network)
        made = cls(
            hidden=tuple(w.shape[1] for w in network.coefs_[:-1]),
            activation={"logistic": "sigmoid"}.get(network.activation, network.activation),
            lr=network.learning_rate_init, epochs=network.max_iter, batch_size=network.batch_size, tol=network.tol,
            patience=network.n_iter_no_change, validation_fraction=network.validation_fraction, early_stopping=network.early_stopping,
            optimizer="sgd" if network.solver == "sgd" else "adam", random_state=network.random_state, standardize=False,
        )  # fmt: skip
        made._adopt(network)
        return made

    def _adopt(self, network: Any) -> None:
        """The state after `fit`, and the weights."""
        weights, biases = list(network.coefs_), list(network.intercepts_)
        if network.out_activation_ == "logistic" and len(network.classes_) == 2 and weights[-1].shape[1] == 1:
            # one logit is that of the second class, where the first one's is 0
            weights[-1], biases[-1] = weights[-1] * [[0, 1]], biases[-1] * [0, 1]
        elif network.out_activation_ not in ("softmax", "identity"):
            msg = f"{type(self).__name__}.from_sklearn: outputs must be classes or numbers, got those of {network.out_activation_}"
            raise ValueError(msg)
        self._n_in, self._n_out, self._dtype = (
            network.n_features_in_,
            weights[-1].shape[1],
            str(weights[0].dtype),
        )
        self._frames = None
        self._shift = self._scale = self.optimizer_ = None
        self._seed = int(check_random_state(network.random_state).randint(2**31 - 1))
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))
        self.module_ = self._network(self._seed)
        linear = [m for m in self.module_.modules() if isinstance(m, Linear)]
        for layer, w, b in zip(linear, weights, biases, strict=True):
            layer.load_state_dict({"weight": w.T, "bias": b})
        self.module_.to(self._device()).eval()
        self.history_, self.n_iter_ = train.History(), network.n_iter_

    # ----- parameters -----

    def _own(self, part: str) -> dict[str, Any]:
        """The options of a part: {"width": 64} for module__width=64."""
        begin = f"{part}__"
        return {k.removeprefix(begin): v for k, v in vars(self).items() if k.startswith(begin)}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, with those of `module` and `optimizer` that were set."""
        own = {f"{part}__{k}": v for part in _PARTS for k, v in self._own(part).items()}
        return {**super().get_params(deep=deep), **own}

    def set_params(self, **params: Any) -> Any:
        """Set parameters; `module__width` is an argument of the function `module`."""
        mine = {k: v for k, v in params.items() if k.partition("__")[0] in _PARTS and "__" in k}
        super().set_params(**{k: v for k, v in params.items() if k not in mine})
        for part in _PARTS:
            names = {k.partition("__")[2]: v for k, v in mine.items() if k.startswith(f"{part}__")}
            check_options(part, self._function(part), names)
        for name, value in mine.items():
            setattr(self, name, value)
        return self

    def _function(self, part: str) -> Any:
        value = getattr(self, part)
        return train.OPTIMIZERS.get(value, value) if part == "optimizer" and isinstance(value, str) else value

    # ----- data -----

    def _inputs(self, X: Any, **options: Any) -> Any:
        """X as an array, checked as scikit-learn does, and y where it is among the options."""
        floating = ["float64", "float32"] if self.module is None else "numeric"
        return validate_data(self, X, dtype=floating, allow_nd=self.module is not None, **options)

    def _scaled(self, X: Any) -> Any:
        return X if self._shift is None else (X - self._shift) / self._scale

    def _is_standardized(self) -> bool:
        if self.standardize not in (True, False, "auto"):
            msg = (
                f"{type(self).__name__}: standardize must be True, False or 'auto', got {self.standardize!r}"
            )
            raise ValueError(msg)
        return self.module is None if self.standardize == "auto" else bool(self.standardize)

    def _read(self, X: Any, reset: bool) -> Any:
        """What the network is called with, for new samples."""
        if self._frames is not None:
            if not reset:
                validate_data(self, X, reset=False, skip_check_array=True)
            return self._frames.inputs(X)
        return self._scaled(self._inputs(X, reset=False))

    # ----- training -----

    def _begin(self, X: Any, y: Any, weight: Any, reset: bool) -> None:
        """Standardisation and the network, from the first samples that are seen."""
        self._seed = seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if not reset:
            return
        self.optimizer_ = None
        self._shift = self._scale = None
        if self._frames is None and self._is_standardized():
            self._shift, self._scale = _moments(X, weight)
        self._n_in = X.shape[1] if self._frames is not None or len(X.shape) == 2 else tuple(X.shape[1:])
        self._dtype = "float32" if self._frames is not None or str(X.dtype) != "float64" else "float64"
        self.module_ = self._network(seed)
        self.history_ = train.History()

    def _network(self, seed: int) -> Module:
        options = self._own("module")
        check_options("module", self.module, options)
        shape = (self.hidden, self.activation, self.dropout)

        def default() -> Module:
            if self._frames is not None:
                made: Module = self._frames.network(self._n_out, *shape)
                return made
            return perceptron(self._n_in, self._n_out, *shape, self._dtype)

        return build(self.module, self._n_in, self._n_out, options, default, seed)

    def _optimizer(self) -> Any:
        """A function of the parameters, which keeps the optimizer; or the optimizer of the fit before."""
        if self.optimizer_ is not None:
            return self.optimizer_
        cls, options = self._function("optimizer"), self._own("optimizer")
        if isinstance(cls, str):
            cls = train.OPTIMIZERS.get(cls.lower().replace("-", "_"), cls)
        if not callable(cls):
            return cls  # which `fit` refuses
        check_options("optimizer", cls, options)
        if self.weight_decay:
            options = {"weight_decay": self.weight_decay, **options}
        elif cls is train.OPTIMIZERS["adamw"]:
            options = {"weight_decay": 0.0, **options}

        def make(params: Any) -> Any:
            self.optimizer_ = cls(params, lr=self.lr, **options)
            return self.optimizer_

        return make

    def _train(self, X: Any, y: Any, weight: Any, epochs: int, stops: bool) -> None:
        """Train the network on arrays."""
        n = len(y)
        arrays = [X, y] if weight is None else [X, y, weight]
        val = None
        callbacks = [*self.callbacks] if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]
        if stops and self.early_stopping:
            rows, held = self._split(n, y)
            val = tuple(_rows(a, held) for a in arrays)
            arrays = [_rows(a, rows) for a in arrays]
            patience = self.patience if self.early_stopping is True else self.early_stopping
            callbacks.append(train.EarlyStopping("val_loss", patience=patience))
        elif stops and self.tol is not None:
            callbacks.append(train.EarlyStopping("loss", patience=self.patience, min_delta=self.tol))
        n -= 0 if val is None else len(held)
        loss = self.loss if self.loss is not None else self._default_loss
        batch_size: Any = min(200, n) if self.batch_size == "auto" else self.batch_size
        with random.fork_rng(self._seed):
            history = train.fit(
                self.module_, tuple(arrays), val, loss=loss,
                optimizer=self._optimizer(), epochs=epochs, batch_size=batch_size, callbacks=callbacks, seed=self._seed,
                device=self._device(), progress=bool(self.verbose),
            )  # fmt: skip
        before = len(self.history_)
        self.history_.extend({**record, "epoch": before + record["epoch"]} for record in history)
        self.n_iter_ = len(self.history_)

    def _device(self) -> str:
        return resolve(self.device)[1]

    def _split(self, n: int, y: Any) -> tuple[Any, Any]:
        """The numbers of the samples to train on, and of those set aside."""
        rows = list(range(n))
        found: tuple[Any, Any] = tuple(
            train_test_split(
                rows, test_size=self.validation_fraction, random_state=self._seed, stratify=self._strata(y)
            )
        )
        return found

    def _strata(self, y: Any) -> Any:
        return None

    def _output(self, X: Any) -> Tensor:
        """The network's output for new samples."""
        check_is_fitted(self)
        output = train.predict(
            self.module_, self._read(X, reset=False), batch_size=1024, device=self._device()
        )
        if not isinstance(output, Tensor) or output.shape[1:] != (self._n_out,):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            msg = f"the module must give an output of shape (n, {self._n_out}), got {got}"
            raise ValueError(msg)
        return output

    # ----- pickles -----

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "module_" in state:
            optimizer = state.pop("optimizer_")
            tree = {
                "module": dict(state.pop("module_").state_dict()),
                "optimizer": None if optimizer is None else optimizer.state_dict(),
            }
            state["_weights"] = _to_bytes(tree)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("_weights", None) if "_weights" in state else None
        super().__setstate__(state)
        if weights is None:
            return
        tree = _from_bytes(weights)
        self.module_ = self._network(self._seed)
        self.module_.load_state_dict(tree["module"])
        self.module_.to(self._device())
        self.module_.eval()
        self.optimizer_ = None
        if tree["optimizer"] is not None:
            make = self._optimizer()
            if callable(make):
                make(self.module_.parameters()).load_state_dict(tree["optimizer"])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        return tags


def _moments(X: Any, weight: Any) -> tuple[Any, Any]:
    """Weighted mean and deviation along the first axis; a deviation of 0 becomes 1."""
    wide = X.astype("float64")
    total = len(X) if weight is None else weight.sum()
    w = 1.0 if weight is None else weight.reshape(-1, *(1 for _ in X.shape[1:]))
    mean = X[0] + (w * (wide - X[0])).sum(axis=0) / total
    deviation = ((w * (wide - mean) ** 2).sum(axis=0) / total) ** 0.5
    small = deviation <= 1e-12 * (abs(mean) + deviation)
    deviation = deviation * ~small + small
    kind = X.dtype if X.dtype.kind == "f" else "float64"
    return mean.astype(kind), deviation.astype(kind)


def _rows(tree: Any, rows: list[int]) -> Any:
    return tuple(a[rows] for a in tree) if isinstance(tree, tuple) else tree[rows]


def _to_bytes(tree: Mapping[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return train.save(Path(folder) / "state.safetensors", tree).read_bytes()


def _from_bytes(data: bytes) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.safetensors"
        file.write_bytes(data)
        return train.load(file)


class Classifier(ClassifierMixin, _Network):  # type: ignore[misc]
    """A neural network as a classifier of scikit-learn.{document}
    >>> import anynet as an
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = an.sklearn.Classifier(hidden=(16,), lr=0.02, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95, model.predict_proba(X[:2]).shape
    (True, (2, 3))
    """

    _default_loss = "cross_entropy"

    def __init__(
        self,
        module: Any = None,
        *,
        hidden: Any = (128, 64),
        activation: str = "relu",
        dropout: float = 0.0,
        loss: Any = None,
        class_weight: Any = None,
        optimizer: Any = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        epochs: int = 100,
        batch_size: int | str = "auto",
        tol: float | None = 1e-4,
        patience: int = 10,
        early_stopping: bool | int = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        standardize: bool | str = "auto",
        callbacks: Any = (),
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            module, hidden=hidden, activation=activation, dropout=dropout, loss=loss, optimizer=optimizer, lr=lr,
            weight_decay=weight_decay, epochs=epochs, batch_size=batch_size, tol=tol, patience=patience,
            early_stopping=early_stopping, validation_fraction=validation_fraction, warm_start=warm_start,
            standardize=standardize, callbacks=callbacks, device=device, random_state=random_state, verbose=verbose, **options,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:
        """Train on X (n, features) and labels y (n,) of any type."""
        reset = not (self.warm_start and hasattr(self, "module_"))
        X, y, weight = self._prepare(X, y, sample_weight, None, reset)
        self._begin(X, y, weight, reset)
        inputs = self._frames.inputs(X) if self._frames is not None else self._scaled(X)
        self._train(inputs, y, weight, self.epochs, stops=True)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Classifier:
        """One epoch on these samples; the first call needs all `classes` that there will be, where y does not have them."""
        reset = not hasattr(self, "module_")
        X, y, weight = self._prepare(X, y, sample_weight, classes, reset)
        self._begin(X, y, weight, reset)
        inputs = self._frames.inputs(X) if self._frames is not None else self._scaled(X)
        self._train(inputs, y, weight, 1, stops=False)
        return self

    def _prepare(self, X: Any, y: Any, weight: Any, classes: Any, reset: bool) -> tuple[Any, Any, Any]:
        frames = has_words(X) and self.module is None
        if frames:
            validate_data(self, X, reset=reset, skip_check_array=True)
            y = check_array(y, ensure_2d=False, dtype=None)
            check_consistent_length(X, y)
        else:
            X, y = self._inputs(X, y=y, reset=reset)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        if reset:
            encoder = LabelEncoder().fit(y if classes is None else classes)
            self.classes_ = encoder.classes_
            self._n_out = len(self.classes_)
        if weight is not None:
            weight = _check_sample_weight(weight, y, dtype="float64", ensure_non_negative=True)
        if self.class_weight is not None:
            shares = compute_sample_weight(self.class_weight, y)
            weight = shares if weight is None else weight * shares
        encoder = LabelEncoder()
        encoder.classes_ = self.classes_
        y = encoder.transform(y)
        X, y, weight = _weighed(X, y, weight)
        if reset:
            self._frames = FrameInputs(X, y, classes=True) if frames else None
        return X, y, weight

    def _strata(self, y: Any) -> Any:
        return y if len(self.classes_) > 1 else None

    def predict(self, X: Any) -> Any:
        """The labels."""
        output = self._output(X)
        return self.classes_[output.numpy().argmax(axis=1)]

    def predict_proba(self, X: Any) -> Any:
        """The probability of each of `classes_`: (n, classes)."""
        return softmax(self._output(X), dim=1).numpy()

    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms."""
        return log_softmax(self._output(X), dim=1).numpy()

    def decision_function(self, X: Any) -> Any:
        """The logits (n, classes); of two classes the second one's less the first one's, (n,)."""
        output = self._output(X).numpy()
        return output[:, 1] - output[:, 0] if len(self.classes_) == 2 else output


class Regressor(RegressorMixin, _Network):  # type: ignore[misc]
    """A neural network as a regressor of scikit-learn, of one or several targets.{document}
    >>> import anynet as an
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = an.sklearn.Regressor(hidden=(16,), random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4, model.predict(X[:2]).shape
    (True, (2,))
    """

    _default_loss = "mse"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """Train on X (n, features) and y (n,) or (n, targets)."""
        reset = not (self.warm_start and hasattr(self, "module_"))
        self._fit(X, y, sample_weight, reset, self.epochs, stops=True)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:
        """One epoch on these samples."""
        self._fit(X, y, sample_weight, not hasattr(self, "module_"), 1, stops=False)
        return self

    def _fit(self, X: Any, y: Any, weight: Any, reset: bool, epochs: int, stops: bool) -> None:
        frames = has_words(X) and self.module is None
        if frames:
            validate_data(self, X, reset=reset, skip_check_array=True)
            y = check_array(y, ensure_2d=False, dtype="float64")
            check_consistent_length(X, y)
        else:
            X, y = self._inputs(X, y=y, reset=reset, multi_output=True, y_numeric=True)
        if weight is not None:
            weight = _check_sample_weight(weight, y, dtype="float64", ensure_non_negative=True)
        X, y, weight = _weighed(X, y, weight)
        wide = y.reshape(len(y), -1)
        if reset:
            self._frames = FrameInputs(X, y, classes=False) if frames else None
            self._n_out, self._flat = wide.shape[1], len(y.shape) == 1
            self._target = _moments(wide, weight) if self._scales_targets() else None
        if wide.shape[1] != self._n_out:
            msg = f"y has {wide.shape[1]} targets, {type(self).__name__} was fitted with {self._n_out}"
            raise ValueError(msg)
        self._begin(X, wide, weight, reset)
        if self._target is not None:
            wide = (wide - self._target[0]) / self._target[1]
        inputs = self._frames.inputs(X) if self._frames is not None else self._scaled(X)
        self._train(inputs, wide.astype(self._dtype), weight, epochs, stops)

    def _adopt(self, network: Any) -> None:
        super()._adopt(network)
        self._flat, self._target = self._n_out == 1, None

    def _scales_targets(self) -> bool:
        """Whether the network learns targets of mean 0 and deviation 1: with losses of differences, unless told otherwise."""
        self._is_standardized()  # refuses what is no choice
        differences = self.loss is None or self.loss in ("mse", "l1", "mae", "smooth_l1", "huber")
        return differences if self.standardize == "auto" else bool(self.standardize)

    def predict(self, X: Any) -> Any:
        """The targets, in the shape and units of y."""
        y = self._output(X).numpy()
        if self._target is not None:
            y = y * self._target[1] + self._target[0]
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _weighed(X: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    """The samples that weigh something."""
    if weight is None:
        return X, y, None
    if not math.isfinite(weight.sum()) or weight.sum() <= 0:
        raise ValueError("the weights of the samples must have a positive sum, got none above 0")
    live = weight > 0
    if live.all():
        return X, y, weight
    return chosen(X, live) if hasattr(X, "columns") else X[live], y[live], weight[live]


for _cls, _words in (
    (Classifier, {"outputs": "classes", "and_targets": "", "auto_targets": "", "attributes": "`classes_`, ",
                  "more": "\n      class_weight: {label: weight} or \"balanced\", as in scikit-learn."}),
    (Regressor, {"outputs": "targets", "and_targets": " and targets", "attributes": "", "more": "",
                 "auto_targets": ", targets where the loss is one of differences (mse, l1, huber, …)"}),
):  # fmt: skip
    # scikit-learn takes every name in the signature for a parameter, and options such as module__width are none of these
    _named = [p for p in inspect.signature(_cls).parameters.values() if p.kind != p.VAR_KEYWORD]
    _cls.__signature__ = inspect.Signature(_named)
    if _cls.__doc__ is not None:  # python -OO
        _cls.__doc__ = _cls.__doc__.replace("{document}", _DOCUMENT.format(**_words))
