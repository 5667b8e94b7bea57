"""Files that are damaged, or that ask for what no file may: refused with the name of the node, before anything is taken."""

from __future__ import annotations

import os
import random

import fuzz_onnx
import numpy as np
import pytest

import anynet as an
from anynet import nn
from optional_libraries import needs

onnx = needs("onnx", "onnx")
from onnx import TensorProto, helper  # noqa: E402  after `needs`

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, inputs=(("x", FLOAT, ["n", 3]),), outputs=("y",), initializers=(), opset=21, **more):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info(o, FLOAT, None) for o in outputs],
        list(initializers),
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **more)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, name=f"the_{op}", **attributes)


def numbers(name, values, kind=INT):
    return helper.make_tensor(name, kind, [len(values)], values)


def load(proto, folder, **options):
    path = folder / "m.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return an.onnx.load(path, **options)


def refused(proto, folder, match, **inputs):
    with pytest.raises(an.onnx.ONNXError, match=match):
        load(proto, folder)(**inputs)


X = {"x": np.ones((2, 3), np.float32)}
RELU = node("Relu", ["x"], ["y"])

GRAPHS = {
    "a circle": (model([node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["a"], ["y"])]), r"the_Add.*'b'.*circle"),
    "an input that is missing": (model([node("Add", ["x", "nowhere"], ["y"])]), r"the_Add.*nothing before it gives its input 'nowhere'"),
    "an output that is missing": (model([RELU], outputs=("z",)), "nothing gives the output 'z'"),
    "a name twice": (model([RELU, node("Abs", ["x"], ["y"])]), r"the_Abs.*'y' has a name that is taken"),
    "an initializer twice": (model([RELU], initializers=[numbers("w", [1]), numbers("w", [2])]), "with a name each"),
    "an input twice": (model([RELU], inputs=(("x", FLOAT, [1]), ("x", FLOAT, [1]))), "inputs must have a name each"),
    "a new version": (model([RELU], opset=99), "a version from 1 to"),
    "another domain": (model([helper.make_node("Relu", ["x"], ["y"], name="r", domain="org.other")]), r"node 'r' \(Relu\): neither"),
    "an unknown operator": (model([node("Rellu", ["x"], ["y"])]), r"the_Rellu.*did you mean"),
    "an unknown attribute": (model([node("Relu", ["x"], ["y"], slope=2.0)]), r"the_Relu.*'slope' is missing or unknown"),
    "an attribute that is missing": (model([node("Cast", ["x"], ["y"])]), r"the_Cast.*'to' is missing"),
    "too many inputs": (model([node("Relu", ["x", "x"], ["y"])]), "the_Relu.*too few or too many"),
    "a loop without a body": (model([node("Loop", ["", "", "x"], ["y"], body=helper.make_graph([], "b", [], []))]),
                              r"the_Loop.*its body must have 3 inputs and 2 outputs, got 0 and 0"),
    "an old scan": (model([node("Scan", ["", "x"], ["y"], num_scan_inputs=1, body=helper.make_graph([], "b", [], []))], opset=8),
                    r"the_Scan.*version 9 or later"),
    "a sequence": (model([node("SequenceConstruct", ["x"], ["s"]), RELU]), r"the_SequenceConstruct.*no counterpart"),
    "a dtype": (model([RELU], inputs=(("x", TensorProto.STRING, [1]),)), "the input 'x' must be an array of float32"),
    "a dtype to cast to": (model([node("Cast", ["x"], ["y"], to=TensorProto.FLOAT8E5M2)]), r"the_Cast.*must be one of"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name, tmp_path):
    proto, match = GRAPHS[name]
    refused(proto, tmp_path, match)


def with_weight(**changes):
    w = numbers("w", [1.0, 2.0, 3.0], FLOAT)
    proto = model([node("Add", ["x", "w"], ["y"])], initializers=[w])
    tensor = proto.graph.initializer[0]
    for name, value in changes.items():
        if isinstance(value, list):
            tensor.ClearField(name)
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return proto


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dims": [4]}, "'w' of shape .4,. takes 16 bytes, got 12"), ({"dims": [1 << 62, 1 << 62]}, "takes"), ({"dims": [-3]}, "sizes ≥ 0"),
        ({"dims": [1] * 40}, "sizes ≥ 0"), ({"raw_data": b"1234567"}, "takes 12 bytes, got 7"),
        ({"data_type": TensorProto.STRING}, "must be one of"),
        ({"data_type": 99}, "must be one of"), ({"float_data": []}, "got 0"),
    ],
)  # fmt: skip
def test_tensors(changes, match, tmp_path):
    refused(with_weight(**changes), tmp_path, match)


@pytest.mark.parametrize(
    ("location", "more", "match"),
    [
        ("../w.bin", {}, "in the folder"), ("/etc/passwd", {}, "in the folder"), ("link.bin", {}, "no link"),
        ("links/w.bin", {}, "no link"),
        ("C:\\w.bin", {}, "in the folder"), ("", {}, "in the folder"), (".", {}, "in the folder"), ("nothing.bin", {}, "must be a file"),
        ("w.bin", {"offset": "1"}, "its 12 bytes"), ("w.bin", {"offset": "-4"}, "its 12 bytes"), ("w.bin", {"length": "8"}, "its 12 bytes"),
        ("w.bin", {"offset": "9" * 5000}, "its 12 bytes"), ("fifo", {}, "must be a file"),
    ],
)  # fmt: skip
def test_external_data(location, more, match, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (folder / "w.bin", tmp_path / "w.bin"):
        place.write_bytes(np.ones(3, np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "links").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    proto = with_weight(data_location=TensorProto.EXTERNAL, float_data=[])
    for key, value in {"location": location, **more}.items():
        entry = proto.graph.initializer[0].external_data.add()
        entry.key, entry.value = key, value
    refused(proto, folder, match)
    proto.graph.initializer[0].external_data[0].value = "w.bin"
    if not more:
        np.testing.assert_array_equal(load(proto, folder)(**X).numpy(), 2 * X["x"])


BIG = 1 << 40
GREEDY = {
    "ConstantOfShape": ([node("ConstantOfShape", ["s"], ["y"])], [numbers("s", [BIG])]),
    "Expand": ([node("Expand", ["x", "s"], ["e"]), node("Exp", ["e"], ["y"])], [numbers("s", [BIG, 2, 3])]),
    "Tile": ([node("Tile", ["x", "s"], ["y"])], [numbers("s", [BIG, 1])]),
    "Range": ([node("Range", ["a", "b", "c"], ["y"])], [helper.make_tensor(n, INT, [], [v]) for n, v in (("a", 0), ("b", BIG), ("c", 1))]),
    "Pad": ([node("Pad", ["x", "s"], ["y"])], [numbers("s", [0, BIG, 0, BIG])]),
    "LRN": ([node("LRN", ["x"], ["y"], size=1 << 31)], []),
    "OneHot": ([node("Cast", ["x"], ["i"], to=INT), node("OneHot", ["i", "s", "v"], ["y"])], [numbers("s", [BIG]), numbers("v", [0, 1])]),
    "Resize": ([node("Resize", ["x", "", "", "s"], ["y"])], [numbers("s", [BIG, 3])]),
    "Add": ([node("Reshape", ["w", "a"], ["l"]), node("Reshape", ["w", "b"], ["r"]), node("Add", ["l", "r"], ["y"])],
            [numbers("w", [1] * 40_000), numbers("a", [-1, 1]), numbers("b", [1, -1])]),
    "MatMul": ([node("Reshape", ["w", "a"], ["l"]), node("Reshape", ["w", "b"], ["r"]), node("MatMul", ["l", "r"], ["y"])],
               [numbers("w", [1] * 40_000), numbers("a", [-1, 1]), numbers("b", [1, -1])]),
    "Einsum": ([node("Einsum", ["w", "w"], ["y"], equation="i,j->ij")], [numbers("w", [1] * 40_000)]),
    "Conv": ([node("Reshape", ["x", "a"], ["l"]), node("Conv", ["l", "k"], ["y"], pads=[BIG, BIG])],
             [numbers("a", [2, 1, 3]), helper.make_tensor("k", FLOAT, [1, 1, 3], [1.0, 1.0, 1.0])]),
    "MaxPool": ([node("Reshape", ["x", "a"], ["l"]), node("MaxPool", ["l"], ["y"], kernel_shape=[1 << 30], pads=[1 << 30, 1 << 30])],
                [numbers("a", [2, 1, 3])]),
}  # fmt: skip


@pytest.mark.parametrize("name", GREEDY)
def test_what_would_not_fit_is_not_begun(name, tmp_path):
    nodes, initializers = GREEDY[name]
    refused(model(nodes, initializers=initializers), tmp_path, rf"node 'the_{name}' \({name}\): ", **X)


def body(nodes, inputs, outputs):
    values = [[helper.make_tensor_value_info(n, k, None) for n, k in group] for group in (inputs, outputs)]
    return helper.make_graph(nodes, "body", *values)


FOREVER = body(
    [node("Identity", ["c"], ["again"]), node("Relu", ["s"], ["t"])],
    [("i", INT), ("c", TensorProto.BOOL), ("s", FLOAT)],
    [("again", TensorProto.BOOL), ("t", FLOAT)],
)


def test_loops_end(tmp_path):
    """One that never would, and one with more steps than there are."""
    forever = model([node("Loop", ["", "", "x"], ["y"], body=FOREVER)])
    refused(forever, tmp_path, r"the_Loop.*its body takes too long: loops run at most", **X)
    often = model(
        [node("Loop", ["n", "", "x"], ["y"], body=FOREVER)],
        initializers=[helper.make_tensor("n", INT, [], [1 << 62])],
    )
    refused(often, tmp_path, r"the_Loop.*its body takes too long", **X)


def test_a_scan_along_more_inputs_than_it_has(tmp_path):
    same = body(
        [node("Relu", ["s"], ["t"]), node("Relu", ["e"], ["f"])],
        [("s", FLOAT), ("e", FLOAT)],
        [("t", FLOAT), ("f", FLOAT)],
    )
    for count in (1 << 40, 0, -1, 3):
        proto = model([node("Scan", ["x", "x"], ["y", "z"], num_scan_inputs=count, body=same)])
        refused(proto, tmp_path, rf"the_Scan.*num_scan_inputs must be from 1 to 2, got {count}", **X)


def test_what_loops_collect_is_bounded(tmp_path):
    """Each step's result counts as held until all are joined."""
    of = body([node("Identity", ["c"], ["again"]), node("Identity", ["x"], ["t"])], [("i", INT), ("c", TensorProto.BOOL)],
              [("again", TensorProto.BOOL), ("t", FLOAT)])  # fmt: skip
    proto = model(
        [node("Loop", ["n", ""], ["y"], body=of)], initializers=[helper.make_tensor("n", INT, [], [10_000])]
    )
    net = load(proto, tmp_path, largest=100 * X["x"].nbytes)
    for _ in range(2):  # what was counted is given back
        with pytest.raises(an.onnx.ONNXError, match=r"the_Loop.*must fit into the memory that is left"):
            net(**X)
    assert load(proto, tmp_path)(**X).shape == (10_000, 2, 3)


def test_many_arrays_of_some_size(tmp_path):
    """The bound is on what is held at a time."""
    nodes = [node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(9)]
    proto = model(
        [*nodes, node("Sum", [f"c{i}" for i in range(9)], ["y"])], initializers=[numbers("s", [1000])]
    )
    assert load(proto, tmp_path, largest=20 * 4000)(**X).shape == (1000,)
    with pytest.raises(
        an.onnx.ONNXError,
        match=r"the_ConstantOfShape.*\(1000,\) must fit into the memory that is left \(4,000 bytes",
    ):
        load(proto, tmp_path, largest=5 * 4000)(**X)
    one = [node("ConstantOfShape", ["s"], ["c0"])] + [
        node("Relu", [f"c{i}"], [f"c{i + 1}"]) for i in range(50)
    ]
    proto = model([*one, node("Abs", ["c50"], ["y"])], initializers=[numbers("s", [1000])])
    assert load(proto, tmp_path, largest=4 * 4000)(**X).shape == (
        1000,
    )  # what is needed no more is given back


def test_what_is_held_is_bounded(tmp_path):
    """What is no larger than its inputs is counted when it is there."""
    copies = [node("Relu", ["x"], [f"c{i}"]) for i in range(9)]
    proto = model([*copies, node("Sum", [f"c{i}" for i in range(9)], ["y"])])
    assert load(proto, tmp_path, largest=500)(**X).shape == (2, 3)
    with pytest.raises(
        an.onnx.ONNXError, match=r"node 'the_Relu' \(Relu\): .*must fit into the memory that is left"
    ):
        load(proto, tmp_path, largest=200)(**X)


def test_integers_have_no_negative_powers(tmp_path):
    nodes = [
        node("Cast", ["x"], ["i"], to=INT),
        node("Pow", ["i", "e"], ["p"]),
        node("Cast", ["p"], ["y"], to=FLOAT),
    ]
    net = load(model(nodes, initializers=[numbers("e", [2, -1, 0])]), tmp_path)
    for _ in range(40):  # the same in a call that is compiled
        with pytest.raises(an.onnx.ONNXError, match="integers have no negative powers"):
            net(**X)


def nested(depth):
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["z0"])], "b", [], [helper.make_tensor_value_info("z0", FLOAT, None)]
    )
    for i in range(depth):
        one = helper.make_node("If", ["c"], [f"z{i + 1}"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([one], "b", [], [helper.make_tensor_value_info(f"z{i + 1}", FLOAT, None)])
    return model(
        [node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        initializers=[numbers("c", [1], TensorProto.BOOL)],
    )


def test_branches(tmp_path):
    np.testing.assert_array_equal(load(nested(2), tmp_path)(**X).numpy(), X["x"])


def test_deep_graphs_are_refused(tmp_path):
    deep = model([RELU])
    graph = deep.graph
    for _ in range(60):
        inner = helper.make_node("If", ["c"], ["q"], name="the_If")
        attribute = inner.attribute.add()
        attribute.name, attribute.type = "then_branch", onnx.AttributeProto.GRAPH
        other = inner.attribute.add()
        other.name, other.type = "else_branch", onnx.AttributeProto.GRAPH
        new = graph.node.add()
        new.CopyFrom(inner)
        if graph is deep.graph:
            graph.initializer.append(numbers("c", [1], TensorProto.BOOL))
        graph = new.attribute[0].g
    refused(deep, tmp_path, "nested less than|damaged")


def function(name, calls):
    nodes = [
        helper.make_node(calls, ["a" if i == 0 else f"b{i}"], [f"b{i + 1}"], domain="own") for i in range(2)
    ]
    return helper.make_function("own", name, ["a"], ["b2"], nodes, [helper.make_opsetid("own", 1)])


def test_functions(tmp_path):
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Mul", ["a", "k"], ["b"]), ], [helper.make_opsetid("", 21)], ["value"],
    )  # fmt: skip
    twice.node.insert(0, helper.make_node("Constant", [], ["k"]))
    attribute = twice.node[0].attribute.add()
    attribute.name, attribute.ref_attr_name, attribute.type = (
        "value_float",
        "value",
        onnx.AttributeProto.FLOAT,
    )
    call = helper.make_node("Twice", ["x"], ["y"], domain="own", value=3.0)
    np.testing.assert_array_equal(load(model([call], functions=[twice]), tmp_path)(**X).numpy(), 3 * X["x"])


def test_functions_that_call_themselves_or_grow(tmp_path):
    call = helper.make_node("F0", ["x"], ["y"], name="first", domain="own")
    refused(model([call], functions=[function("F0", "F0")]), tmp_path, "does a function call itself")
    laughs = [function(f"F{i}", f"F{i + 1}") for i in range(30)]
    refused(model([call], functions=laughs), tmp_path, "at most|neither")
    refused(model([RELU], functions=[function("F0", "F1"), function("F0", "F2")]), tmp_path, "a name each")


def test_inputs_are_compared_with_the_file(tmp_path):
    net = load(model([RELU]), tmp_path)
    for given, match in [
        ((), "the inputs must be x, got 0"), ((X["x"], X["x"]), "got 2"),
        ((np.ones((2, 4), np.float32),), r"of shape \('n', 3\), got float32 of \(2, 4\)"),
        ((np.ones((2, 3), np.int64),), "must be float32 of shape"), ((np.ones(3, np.float32),), "must be float32"),
    ]:  # fmt: skip
        with pytest.raises(an.onnx.ONNXError, match=match):
            net(*given)
    with pytest.raises(an.onnx.ONNXError, match="got 0 and z"):
        net(z=X["x"])
    assert net(X["x"].astype(np.float64)).dtype == an.float64


def test_no_onnx_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no protocol buffer at all")
    with pytest.raises(an.onnx.ONNXError, match=r"m\.onnx: it is damaged or not an ONNX file"):
        an.onnx.load(tmp_path / "m.onnx")
    refused(b"", tmp_path, "no graph")
    with pytest.raises(FileNotFoundError):
        an.onnx.load(tmp_path / "absent.onnx")


def test_a_large_file_is_not_read(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(3 << 30)  # without blocks on the disk
    with pytest.raises(an.onnx.ONNXError, match="must be smaller than"):
        an.onnx.load(tmp_path / "m.onnx")


def test_names_of_members_are_names(tmp_path):
    """Names of the file that are methods of modules, parts of paths, or no names at all get others."""
    names = ["forward", "weight", "weight.more", "a b", "__class__", "x" * 900, "./.", "training"]
    weights = [helper.make_tensor(n, FLOAT, [3], [float(i)] * 3) for i, n in enumerate(names)]
    net = load(model([node("Sum", ["x", *names], ["y"])], initializers=weights), tmp_path)
    np.testing.assert_array_equal(net(**X).numpy(), X["x"] + 28)
    state = net.state_dict()
    assert len(state) == len(names)
    assert all(part and not part.startswith("_") for key in state for part in key.split("."))
    assert isinstance(net, nn.Module)
    assert net.training is True or net.training is False


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_changed_files_give_results_or_errors(tmp_path):
    """The short form of fuzz_onnx.py."""
    whole, rng, found = fuzz_onnx.models(), random.Random(0), set()
    for i in range(300):
        data = rng.choice(whole)
        data = fuzz_onnx.changed_bytes(data, rng) if i % 2 else fuzz_onnx.changed_fields(data, rng)
        found.add(fuzz_onnx.one(data, rng, tmp_path).split(":")[0])
    assert found == {"ran", "refused"}


def test_many_nodes_and_names_take_no_squares(tmp_path):
    """Twenty thousand nodes, branches, and names that come to the same member are read in seconds."""
    count = 20_000
    chain = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(count)]
    proto = model(
        [helper.make_node("Relu", ["x"], ["v0"]), *chain, helper.make_node("Abs", [f"v{count}"], ["y"])]
    )
    np.testing.assert_array_equal(load(proto, tmp_path)(**X).numpy(), X["x"])
    weights = [helper.make_tensor(f"w{chr(0x2000 + i)}", FLOAT, [3], [1.0] * 3) for i in range(2000)]
    net = load(model([node("Sum", ["x", *(w.name for w in weights)], ["y"])], initializers=weights), tmp_path)
    assert len(net.state_dict()) == 2000
    np.testing.assert_array_equal(net(**X).numpy(), X["x"] + 2000)


LONG = {
    "Reshape": ([node("ConstantOfShape", ["s"], ["n"]), node("Cast", ["n"], ["i"], to=INT), node("Reshape", ["x", "i"], ["y"])],
                [numbers("s", [1 << 21])]),
    "Resize": ([node("Resize", ["x", "", "", "s"], ["y"])], [numbers("s", [2, 1 << 23])]),
    "Unique": ([node("ConstantOfShape", ["s"], ["n"]), node("Unique", ["n"], ["y"])], [numbers("s", [1 << 25])]),
    "ScatterElements": ([node("ConstantOfShape", ["s"], ["u"]), node("Cast", ["u"], ["i"], to=INT), node("ConstantOfShape", ["one"], ["w"]),
                         node("ScatterElements", ["w", "i", "u"], ["y"], reduction="max")],
                        [numbers("s", [1 << 17]), numbers("one", [1 << 17])]),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_what_would_take_long_is_not_begun(name, tmp_path):
    nodes, initializers = LONG[name]
    refused(
        model(nodes, initializers=initializers),
        tmp_path,
        rf"node 'the_{name}' \({name}\): .*(at most|take too long)",
        **X,
    )


def test_pads_of_nothing_are_bounded(tmp_path):
    proto = model(
        [node("LpPool", ["x"], ["y"], kernel_shape=[3], pads=[2, 1 << 31])], inputs=(("x", FLOAT, [1, 0, 3]),)
    )
    refused(proto, tmp_path, "the_LpPool.*at most 65536 places, and pads", x=np.ones((1, 0, 3), np.float32))
