"""Estimators of scikit-learn: `Classifier` and `Regressor` (extra ``sklearn``).

>>> from sklearn.datasets import load_iris
>>> from sklearn.model_selection import cross_val_score
>>> import anynet as an
>>> X, y = load_iris(return_X_y=True)
>>> bool(cross_val_score(an.sklearn.Classifier(random_state=0), X, y, cv=3).mean() > 0.9)
True
"""

from anynet._optional import optional as _optional

_optional("sklearn", "sklearn", "anynet.sklearn")

from anynet.sklearn.estimators import Classifier, Regressor  # noqa: E402

__all__ = ["Classifier", "Regressor"]
