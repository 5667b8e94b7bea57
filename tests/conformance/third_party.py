"""Functions of SciPy, array-api-extra, scikit-learn and einops, given a Tensor that is being differentiated.

`CASES` are those whose gradients agree with finite differences; `REFUSED` those that give none, with the reason.
``python tests/conformance/third_party.py`` writes `docs/third-party.md` from the two.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read by SciPy when it is imported

import anynet as an

Function = Callable[[Any], Any]


def call(
    path: str, *args: Any, of: Function = lambda x: (x,), part: str | None = None, **kwargs: Any
) -> Function:
    """`x` ↦ the function with the dotted name `path` of ``*of(x)``, or the field `part` of what it returns."""

    def function(x: Any) -> Any:
        module, _, name = path.rpartition(".")
        y = getattr(import_module(module), name)(*of(x), *args, **kwargs)
        return y if part is None else getattr(y, part)

    return function


def fitted(path: str, method: str = "fit_transform", **options: Any) -> Function:
    """`x` ↦ what an estimator of scikit-learn makes of it."""

    def function(x: Any) -> Any:
        module, _, name = path.rpartition(".")
        return getattr(getattr(import_module(module), name)(**options), method)(x)

    return function


def at(change: str, value: Function) -> Function:
    """`x` ↦ a copy of x changed in its first row by `array_api_extra.at`."""
    return lambda x: getattr(import_module("array_api_extra").at(x * 1.0)[0, ...], change)(value(x))


def lines(x: Any) -> tuple[Any, ...]:
    return x[0, ...], x[1, ...]


def square(x: Any) -> Any:
    return x[:, :3]


def pair(x: Any) -> tuple[Any, Any]:
    return x, x**2


S, T, X = "scipy.special.", "scipy.stats.", "array_api_extra."
M, W, P, E = "sklearn.metrics.", "sklearn.metrics.pairwise.", "sklearn.preprocessing.", "einops.array_api."
G, F, K = "scipy.signal.", "scipy.fft.", "sklearn.utils.extmath."
raw = {"multioutput": "raw_values"}

# name: function of one (3, 4) matrix with elements in [0.3, 0.9)
CASES: dict[str, Function] = {
    **{S + n: call(S + n) for n in (
        "cbrt", "digamma", "entr", "erf", "erfc", "erfcinv", "erfinv", "exp2", "expit",
        "expm1", "gammaln", "log1p", "log_expit", "log_ndtr",
        "log_softmax", "logit", "logsumexp", "ndtr", "ndtri", "softmax",
    )},
    **{S + n: call(S + n, of=lambda x: (x, x + 1)) for n in ("betaln", "kl_div", "rel_entr", "xlog1py", "xlogy")},
    S + "polygamma": call(S + "polygamma", of=lambda x: (1, x)),
    S + "multigammaln": call(S + "multigammaln", 2, of=lambda x: (x + 3,)),
    **{T + n: call(T + n) for n in (
        "circmean", "circstd", "circvar", "entropy", "false_discovery_control", "gmean", "gstd", "hmean", "iqr", "kstat",
        "kstatvar", "kurtosis", "median_abs_deviation", "sem", "skew", "tmax", "tmean", "tmin", "tsem", "tstd", "tvar",
        "variation", "zscore",
    )},
    **{S + n: call(S + n, of=pair) for n in ("gammainc", "gammaincc")},
    **{T + n: call(T + n, of=lines, part="pvalue") for n in ("alexandergovern", "bartlett", "pearsonr", "ttest_ind", "ttest_rel")},
    T + "combine_pvalues": call(T + "combine_pvalues", part="pvalue"),
    T + "normaltest": call(T + "normaltest", axis=None, part="pvalue"),
    T + "boxcox_llf": call(T + "boxcox_llf", of=lambda x: (0.5, x)),
    T + "describe": call(T + "describe", part="variance"),
    T + "directional_stats": call(T + "directional_stats", part="mean_direction"),
    T + "moment": call(T + "moment", 3),
    T + "pmean": call(T + "pmean", 3),
    T + "quantile": call(T + "quantile", 0.4),
    T + "zmap": call(T + "zmap", of=pair),
    "scipy.cluster.vq.whiten": call("scipy.cluster.vq.whiten"),
    "scipy.differentiate.derivative": call("scipy.differentiate.derivative", of=lambda x: (lambda t: t**3, x), part="df"),
    F + "fft": lambda x: an.abs(call(F + "fft")(x)),
    F + "fht": call(F + "fht", 0.1, 0.2),
    F + "hfft": call(F + "hfft"),
    F + "rfft2": lambda x: an.abs(call(F + "rfft2")(x)),
    "scipy.integrate.cumulative_simpson": call("scipy.integrate.cumulative_simpson", dx=0.1),
    "scipy.integrate.cumulative_trapezoid": call("scipy.integrate.cumulative_trapezoid"),
    "scipy.integrate.tanhsinh": lambda x: call(
        "scipy.integrate.tanhsinh", of=lambda x: (lambda t, c: c * t**2, x * 0.0, x), args=(x,), part="integral")(x),
    "scipy.integrate.trapezoid": call("scipy.integrate.trapezoid"),
    "scipy.optimize.rosen": call("scipy.optimize.rosen"),
    "scipy.optimize.rosen_der": call("scipy.optimize.rosen_der", of=lambda x: (x[0, ...],)),
    "scipy.optimize.rosen_hess": call("scipy.optimize.rosen_hess", of=lambda x: (x[0, ...],)),
    G + "bilinear_zpk": lambda x: call(G + "bilinear_zpk", 2.0, 1.0, of=lines)(x)[0],
    G + "envelope": call(G + "envelope"),
    G + "fftconvolve": call(G + "fftconvolve", of=lambda x: (x, x[:2, :2])),
    G + "freqz": lambda x: an.abs(call(G + "freqz", of=lambda x: (x[0, ...],))(x)[1]),
    G + "gauss_spline": call(G + "gauss_spline", 3),
    G + "hilbert": lambda x: an.abs(call(G + "hilbert")(x)),
    G + "hilbert2": lambda x: an.abs(call(G + "hilbert2")(x)),
    G + "oaconvolve": call(G + "oaconvolve", of=lambda x: (x, x[:2, :2])),
    G + "resample": call(G + "resample", 6, axis=-1),
    "scipy.spatial.transform.Rotation.from_rotvec": lambda x:
        import_module("scipy.spatial.transform").Rotation.from_rotvec(square(x)).as_matrix(),
    "scipy.spatial.transform.Rotation.from_quat": lambda x:
        import_module("scipy.spatial.transform").Rotation.from_quat(x).apply(square(x)),
    **{X + n: call(X + n) for n in (
        "cov", "create_diagonal", "deg2rad", "nan_to_num", "nanmax", "nanmean", "nanmin", "nansum", "rad2deg", "sinc",
    )},
    X + "angle": call(X + "angle", of=lambda x: (x + 1j * x**2,)),
    X + "apply_where": call(X + "apply_where", lambda t: t**2, lambda t: t**3, of=lambda x: (x > 0.6, x)),
    X + "at.add": at("add", lambda x: x[1, ...] ** 2),
    X + "at.multiply": at("multiply", lambda x: x[1, ...]),
    X + "at.set": at("set", lambda x: x[1, ...] ** 2),
    X + "atleast_nd": call(X + "atleast_nd", ndim=3),
    X + "kron": call(X + "kron", of=pair),
    X + "lazy_apply": call(X + "lazy_apply", of=lambda x: (lambda t: t**2, x)),
    X + "pad": call(X + "pad", 1),
    X + "partition": call(X + "partition", 2, axis=-1),
    X + "setdiff1d": call(X + "setdiff1d", of=lines),
    X + "union1d": call(X + "union1d", of=lines),
    "sklearn.decomposition.PCA": fitted("sklearn.decomposition.PCA", n_components=2, svd_solver="full"),
    "sklearn.linear_model.Ridge": lambda x:
        import_module("sklearn.linear_model").Ridge(solver="svd").fit(x, x[:, 0] ** 2).coef_,
    **{M + n: call(M + n, of=pair, **raw) for n in (
        "d2_absolute_error_score", "explained_variance_score", "mean_absolute_percentage_error", "mean_pinball_loss",
        "mean_squared_error", "mean_squared_log_error", "r2_score", "root_mean_squared_error",
    )},
    **{W + n: call(W + n, of=pair) for n in (
        "additive_chi2_kernel", "chi2_kernel", "cosine_distances", "cosine_similarity", "euclidean_distances",
        "laplacian_kernel", "linear_kernel", "manhattan_distances", "paired_cosine_distances",
        "paired_euclidean_distances", "paired_manhattan_distances", "pairwise_distances", "pairwise_kernels",
        "polynomial_kernel", "rbf_kernel", "sigmoid_kernel",
    )},
    **{P + n: fitted(P + n) for n in ("MaxAbsScaler", "MinMaxScaler", "Normalizer", "PolynomialFeatures")},
    **{P + n: call(P + n) for n in ("maxabs_scale", "minmax_scale", "normalize")},
    K + "randomized_svd": lambda x: call(K + "randomized_svd", 2, random_state=0, power_iteration_normalizer="QR")(x)[1],
    K + "row_norms": call(K + "row_norms"),
    K + "softmax": call(K + "softmax"),
    E + "pack": lambda x: call(E + "pack", "* b", of=lambda x: ([x, x**2],))(x)[0],
    E + "rearrange": call(E + "rearrange", "a (b c) -> c b a", b=2),
    **{E + "reduce, " + how: call(E + "reduce", "a b -> b", how) for how in ("max", "mean", "min", "prod", "sum")},
    E + "repeat": call(E + "repeat", "a b -> a c b", c=3),
    E + "unpack": lambda x: call(E + "unpack", [[1], [2]], "* b")(x)[1],
}  # fmt: skip

COMPILED = "computes in compiled code or with NumPy itself, where the tape cannot follow"
RANKS = "depends on the ranks of the data alone: its derivative is zero wherever it exists"
FLOAT = "returns a Python float"
# name: (function, why it has no gradient, what shows it: an exception, or the type or `requires_grad` of what it returns)
REFUSED: dict[str, tuple[Function, str, Any]] = {
    **{S + n: (call(S + n), COMPILED, (RuntimeError, TypeError)) for n in (
        "exp10", "exprel", "gamma", "i0", "i1", "j0", "j1", "k0", "y0",
    )},
    **{S + n: (call(S + n, of=pair), COMPILED, (RuntimeError, TypeError)) for n in (
        "beta", "binom", "boxcox", "huber", "poch", "pseudo_huber", "zeta",
    )},
    **{T + n: (call(T + n, of=lines), COMPILED, RuntimeError) for n in (
        "f_oneway", "levene", "linregress", "wasserstein_distance",
    )},
    **{T + n: (call(T + n), COMPILED, RuntimeError) for n in ("expectile",)},
    T + "rankdata": (call(T + "rankdata"), RANKS, False),
    T + "mannwhitneyu": (call(T + "mannwhitneyu", of=lines, part="statistic"), RANKS, False),
    "scipy.integrate.simpson": (call("scipy.integrate.simpson"), COMPILED, RuntimeError),
    "scipy.fft.dct": (call("scipy.fft.dct"), COMPILED, RuntimeError),
    **{f"scipy.linalg.{n}": (call(f"scipy.linalg.{n}", of=lambda x: (square(x),)), COMPILED, RuntimeError)
       for n in ("det", "expm", "inv")},
    **{G + n: (call(G + n), COMPILED, RuntimeError) for n in ("czt", "detrend", "periodogram", "sawtooth", "wiener")},
    "scipy.ndimage.gaussian_filter": (call("scipy.ndimage.gaussian_filter", 1.0), COMPILED, RuntimeError),
    "scipy.spatial.distance.cdist": (call("scipy.spatial.distance.cdist", of=pair), COMPILED, RuntimeError),
    "scipy.spatial.distance.jensenshannon":
        (call("scipy.spatial.distance.jensenshannon", of=lines), COMPILED, RuntimeError),
    M + "mean_absolute_error": (call(M + "mean_absolute_error", of=pair), FLOAT, float),
    M + "mean_squared_error, averaged": (call(M + "mean_squared_error", of=pair), FLOAT, float),
    M + "r2_score, averaged": (call(M + "r2_score", of=pair), FLOAT, float),
    M + "median_absolute_error": (call(M + "median_absolute_error", of=pair, **raw),
        "goes to NumPy by DLPack, which warns that the gradient stays behind", an.GradientWarning),
    P + "StandardScaler": (fitted(P + "StandardScaler"),
        "computes 0/0 in a branch that it then masks (`extmath._incremental_mean_and_var`): the gradient is nan", "nan"),
    **{P + n: (call(P + n), COMPILED, RuntimeError) for n in ("robust_scale", "scale", "power_transform")},
    "sklearn.linear_model.LinearRegression": (lambda x:
        import_module("sklearn.linear_model").LinearRegression().fit(x, x[:, 0]).coef_, COMPILED, RuntimeError),
    E + "asnumpy": (call(E + "asnumpy"), "returns a NumPy array", "ndarray"),
}  # fmt: skip


def page() -> str:
    """The table as a page."""
    lines = [
        "# Functions of other libraries that can be differentiated",
        "",
        "Functions written to the array API standard take a `Tensor` and are differentiable through it. The gradients of",
        "those below agree with finite differences, in the versions of SciPy, array-api-extra, scikit-learn and einops that the",
        "extra `test` names, with `SCIPY_ARRAY_API=1` in the environment and `sklearn.set_config(array_api_dispatch=True)`.",
        "Written by `tests/conformance/third_party.py`, whose cases the tests run.",
        "",
        f"## Differentiable ({len(CASES)})",
        "",
        *(
            f"- `{name.partition(',')[0]}`{name.partition(',')[1]}{name.partition(',')[2]}"
            for name in sorted(CASES)
        ),
        "",
        f"## Not differentiable ({len(REFUSED)})",
        "",
        "None of these gives a wrong gradient in silence: where the tape would be cut, anynet raises or warns.",
        "",
        "| function | why |",
        "| --- | --- |",
        *(f"| `{name}` | {REFUSED[name][1]} |" for name in sorted(REFUSED)),
    ]
    return "\n".join(lines) + "\n"


PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "third-party.md"

if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    sys.exit(0)
