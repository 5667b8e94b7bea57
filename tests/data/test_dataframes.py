"""DataFrames of numbers where arrays go, and what is said of those that hold more."""

from __future__ import annotations

import pytest

import anynet as an
from anynet import nn
from optional_libraries import needs


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_dataframe_of_numbers_is_an_array(library):
    df = needs(library, "product").DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [True, False]})
    found = an.asarray(df)
    assert found.shape == (2, 3)
    assert found.dtype == an.float32
    assert found.tolist() == [[1, 3, 1], [2, 4, 0]]
    assert an.predict(nn.Linear(3, 2), df).shape == (2, 2)


def test_columns_of_pandas_own_numbers():
    pd = needs("pandas", "product")
    df = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [0.5, 1.5]})
    assert an.asarray(df).tolist() == [[1, 0.5], [2, 1.5]]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_are_no_numbers_are_named(library):
    df = needs(library, "product").DataFrame({"a": [1.0, 2.0], "ocean": ["near", "far"], "z": ["u", "v"]})
    for call in (an.asarray, lambda x: an.predict(nn.Linear(3, 2), x)):
        with pytest.raises(
            TypeError, match=r"no numbers.*: 'ocean', 'z'; leave them out, or let anynet.data.Table"
        ) as caught:
            call(df)
        assert "\n" not in str(caught.value)


def test_labels_that_are_texts_name_what_takes_them():
    with pytest.raises(TypeError, match=r"texts, got a list with 'u'.*Table and anynet.sklearn.Classifier"):
        an.fit(nn.Linear(1, 2), ([[1.0], [2.0]], ["u", "v"]), loss="cross_entropy")


def test_dataframes_straight_into_fit():
    pd = needs("pandas", "product")
    df = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1, 2, 3, 5], "y": [1.0, 2.0, 3.0, 4.0]})
    net = nn.Linear(2, 1)
    assert len(an.fit(net, (df[["a", "b"]], df[["y"]]), loss="mse", epochs=2, progress=False)) == 2
    assert an.evaluate(net, (df[["a", "b"]], df[["y"]]), loss="mse").keys() == {"loss"}
    assert an.evaluate(net, (df[["a", "b"]], df["y"]), loss="mse") == an.evaluate(
        net, (df[["a", "b"]], df[["y"]]), loss="mse"
    )  # one number a sample
    classes = an.fit(
        nn.Linear(2, 2), (df[["a", "b"]], pd.Series([0, 1, 1, 0])), loss="cross_entropy", progress=False
    )
    assert len(classes) == 1
