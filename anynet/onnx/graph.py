"""A graph of ONNX, made ready: each node with its row of the table, or with the nodes of its body; and how it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import anynet as an
from anynet._hints import nearest
from anynet.onnx.control import CONTROL, check
from anynet.onnx.files import ONNXError, library, tensor
from anynet.onnx.layers import LAYERS
from anynet.onnx.operators import DOMAINS, TABLE
from anynet.onnx.operators.calling import DTYPES, call, give, kinds_of, numbers, take

__all__ = ["FAILURES", "Graph", "Node", "Reader"]

_DEPTH, _NODES = 40, 1 << 18
# attributes that say how something is computed, not what
_WITHOUT_EFFECT = {
    "consumed_inputs",
    "is_test",
    "spatial",
    "stash_type",
    "saturate",
    "sorted",
    "output_sequence",
    "seed",
    "round_mode",
}
# what goes wrong in an operator with what a file gives it
FAILURES = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


@dataclass(eq=False)
class Node:
    """An operation: names in, names out. `layer` is the path of a module that has taken its place, `body` stands for what has no row."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    domain: str = ""
    version: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    body: Graph | _Typed | None = None
    layer: str = ""
    reads: frozenset[str] = frozenset()  # what its branches may take from around it
    last: list[str] = field(default_factory=list)  # what nothing needs after it

    def __str__(self) -> str:
        return f"node {self.name!r:.200} ({self.op})"

    def run(self, values: dict[str, Any], module: Any) -> list[Any]:
        """The outputs."""
        args = [values[n] if n else None for n in self.inputs]
        try:
            if self.layer:
                found = LAYERS[self.op].apply(attrgetter(self.layer)(module), *args)
            elif self.op in CONTROL and self.body is None:
                return CONTROL[self.op](self, args, values, module)
            elif self.body is not None:
                body = self.body if isinstance(self.body, Graph) else self.body.of(args)
                return body.run(dict(zip(body.inputs, args, strict=False)), module)
            else:
                found = call(
                    DOMAINS[self.domain][self.op],
                    args,
                    self.attributes,
                    version=self.version,
                    count=len(self.outputs),
                )
        except FAILURES as error:
            raise ONNXError(f"{self}: {error}") from (
                error.__cause__ if isinstance(error, ONNXError) else error
            )
        return list(found) if isinstance(found, (list, tuple)) else [found]


@dataclass(eq=False)
class Graph:
    """Nodes in the order in which they run. `constants`: what the file gives the values of."""

    inputs: list[str]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Any] = field(default_factory=dict)

    def finish(self) -> Graph:
        """Note which values are needed no more after each node."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            names = {*node.inputs, *node.reads, *node.outputs} - {""}
            node.last = sorted(names - needed)
            needed |= names
        return self

    def uses(self) -> Counter[str]:
        """How often each value is read."""
        return Counter([*self.outputs, *(n for node in self.nodes for n in (*node.inputs, *node.reads))])

    def free(self) -> set[str]:
        """What it reads from around it."""
        own = {*self.inputs, *self.constants, *(n for node in self.nodes for n in node.outputs), ""}
        return set(self.uses()) - own

    def run(self, values: dict[str, Any], module: Any) -> list[Any]:
        """The outputs."""
        values = dict.fromkeys(self.inputs) | self.constants | values
        held: dict[str, int] = {}
        try:
            for node in self.nodes:
                found = node.run(values, module)
                try:
                    for name, y in zip(node.outputs, found, strict=False):
                        values[name], held[name] = y, take(y)
                except ValueError as error:
                    raise ONNXError(f"{node}: {error}") from None
                for name in node.last:
                    values.pop(name, None)
                    give(held.pop(name, 0))
            return [values.get(n) for n in self.outputs]
        finally:
            give(sum(held.values()))


class Reader:
    """Makes graphs of a model's protocol buffers, and refuses what cannot run."""

    def __init__(self, model: Any, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.opsets = self.versions(model.opset_import) if model.opset_import else {"": 1}
        self.functions = {(_domain(f.domain), f.name): f for f in model.functions}
        if len(self.functions) != len(model.functions):
            raise ONNXError("functions must have a name each")

    def versions(self, imports: Any) -> dict[str, int]:
        """The version of each domain."""
        found, newest = (
            {_domain(i.domain): int(i.version) for i in imports},
            library("onnx.defs").onnx_opset_version(),
        )
        if any(found[_domain(i.domain)] != i.version for i in imports) or not 1 <= found.get("", 1) <= newest:
            raise ONNXError(
                f"it must name one version of each domain, and of ONNX's own a version from 1 to {newest}, got {found!r:.200}"
            )
        return found

    def graph(
        self, proto: Any, opsets: Mapping[str, int], scope: frozenset[str] = frozenset(), depth: int = 0
    ) -> Graph:
        """A graph; `scope` are the names around it."""
        constants = {t.name: tensor(t, self.folder) for t in proto.initializer}
        if proto.sparse_initializer or len(constants) != len(proto.initializer) or "" in constants:
            raise ONNXError("its initializers must be dense, with a name each")
        inputs, outputs = (
            [v.name for v in proto.input if v.name not in constants],
            [v.name for v in proto.output],
        )
        nodes = self._nodes(proto.node, [*inputs, *constants], scope, depth, opsets, {})
        known = {*scope, *inputs, *constants, *(n for node in nodes for n in node.outputs)}
        missing = next((n for n in outputs if n not in known), None)
        if missing is not None:
            raise ONNXError(f"nothing gives the output {missing!r:.200}")
        return Graph(inputs, outputs, nodes, constants).finish()

    def function(self, proto: Any, attributes: Mapping[str, Any], depth: int) -> Graph:
        """The graph of a function, for the attributes of one call."""
        known = {a.name: a for a in proto.attribute_proto} | dict(attributes)
        opsets = self.opsets | self.versions(proto.opset_import)
        nodes = self._nodes(proto.node, list(proto.input), frozenset(), depth, opsets, known)
        return Graph(list(proto.input), list(proto.output), nodes).finish()

    def _nodes(
        self, protos: Any, names: list[str], scope: frozenset[str], depth: int, opsets: Mapping[str, int], given: Mapping[str, Any]
    ) -> list[Node]:  # fmt: skip
        self.count += len(protos)
        if depth > _DEPTH or self.count > _NODES:
            raise ONNXError(
                f"it must be nested less than {_DEPTH} deep (does a function call itself?), with at most {_NODES:,} nodes"
            )
        known, made = {*names, ""}, []
        if len(known) != len(names) + 1:
            raise ONNXError("its inputs must have a name each")
        for i, proto in enumerate(protos):
            node = Node(
                proto.name or f"{proto.op_type}_{i}",
                proto.op_type,
                list(proto.input),
                list(proto.output),
                _domain(proto.domain),
            )
            absent = next((n for n in node.inputs if n not in known and n not in scope), None)
            if absent is not None:
                raise ONNXError(
                    f"{node}: nothing before it gives its input {absent!r:.200} (a circle, or what is missing)"
                )
            for name in node.outputs:
                if name and (name in known or name in scope):
                    raise ONNXError(f"{node}: its output {name!r:.200} has a name that is taken")
                known.add(name)
            try:
                self._resolve(node, proto, lambda: scope | known, depth, opsets, given)
            except ONNXError as error:
                raise ONNXError(f"{node}: {error}") from None
            made.append(node)
        return made

    def _resolve(
        self, node: Node, proto: Any, scope: Callable[[], frozenset[str]], depth: int, opsets: Mapping[str, int], given: Mapping[str, Any]
    ) -> None:  # fmt: skip
        """Its attributes, and what computes it."""
        domain, own = _domain(proto.domain), {}
        for a in proto.attribute:
            source = given.get(a.ref_attr_name) if a.ref_attr_name else a
            if a.name in own:
                raise ONNXError(f"its attribute {a.name!r:.200} stands there twice")
            if source is not None:
                own[a.name] = type(a).FromString(source.SerializeToString()) if a.ref_attr_name else a
                own[a.name].name = a.name
        function = self.functions.get((domain, node.op))
        if function is not None:
            node.body = self.function(function, own, depth + 1)
            return
        defs = library("onnx.defs")
        try:
            schema = defs.get_schema(node.op, opsets[domain], domain) if domain in DOMAINS else None
        except (defs.SchemaError, KeyError):
            schema = None
        if schema is None:
            raise ONNXError(
                f"neither the domain {domain or 'of ONNX'}, in version {opsets.get(domain)}, nor the file has it"
                + nearest(node.op, TABLE, everything=False)
            )
        wrong = [n for n in own if n not in schema.attributes]
        wrong += [n for n, a in schema.attributes.items() if a.required and n not in own]
        if wrong:
            raise ONNXError(f"its attribute {wrong[0]!r:.200} is missing or unknown")
        fits = schema.min_input <= len(node.inputs) <= schema.max_input
        if not fits or not schema.min_output <= len(node.outputs) <= schema.max_output:
            raise ONNXError("it has too few or too many inputs or outputs")
        node.version = schema.since_version
        whole = {n: a.default_value for n, a in schema.attributes.items() if a.default_value.type} | own
        if node.op in CONTROL:
            self._graphs(node, own, scope(), depth, opsets)
        elif node.op in DOMAINS[domain]:
            self._options(node, own, whole)
        elif schema.has_function:
            node.body = self.function(schema.function_body, whole, depth + 1)
        elif schema.has_context_dependent_function:
            plain = type(proto)(
                op_type=node.op, input=node.inputs, output=node.outputs, attribute=own.values()
            )
            node.body = _Typed(self, plain, whole, depth, opsets[domain])
        else:
            raise ONNXError("anynet has no counterpart for this operator")

    def _graphs(
        self, node: Node, own: Mapping[str, Any], scope: frozenset[str], depth: int, opsets: Mapping[str, int]
    ) -> None:
        """The graphs that a node runs, its other attributes, and of a loop the kinds of what its body gives."""
        graphs = {n: self.graph(a.g, opsets, scope, depth + 1) for n, a in own.items() if a.type == a.GRAPH}
        node.reads = frozenset(set().union(*(g.free() for g in graphs.values())))
        try:
            check(node, graphs)
        except ValueError as error:
            raise ONNXError(str(error)) from None
        node.attributes = {n: self._value(a) for n, a in own.items() if n not in graphs} | graphs
        if node.op != "If":
            node.attributes["kinds"] = [_kind(v.type.tensor_type) for v in own["body"].g.output]
            if any(
                v.type.WhichOneof("value") not in (None, "tensor_type")
                for v in (*own["body"].g.input, *own["body"].g.output)
            ):
                raise ONNXError("what goes through its body must be arrays")

    def _options(self, node: Node, own: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
        """The attributes that a row takes; others may only say what it does anyhow."""
        _, kinds, _, others = kinds_of(DOMAINS[node.domain][node.op])
        defaults = library("onnx.defs").get_schema(node.op, node.version, node.domain).attributes
        for name, a in whole.items():
            if (name in kinds or others) and name not in _WITHOUT_EFFECT - kinds.keys():
                try:
                    node.attributes[name] = numbers(self._value(a), kinds.get(name, ""))
                except ValueError as error:
                    raise ONNXError(str(error)) from None
            elif (
                name in own
                and name not in _WITHOUT_EFFECT
                and self._value(a) != self._value(defaults[name].default_value)
            ):
                raise ONNXError(f"its option {name!r} is not offered")

    def _value(self, a: Any) -> Any:
        """What an attribute holds, as Python's."""
        found: Any = library("onnx.helper").get_attribute_value(a) if a.type else None
        if a.type == a.TENSOR:
            return tensor(a.t, self.folder)
        if isinstance(found, (bytes, str)):
            return found.decode(errors="replace") if isinstance(found, bytes) else found
        if a.type in (a.FLOATS, a.INTS, a.STRINGS):
            return [x.decode(errors="replace") if isinstance(x, bytes) else x for x in found]
        if a.type == a.FLOAT:  # stored in float32: the decimal number that was meant
            meant = float(f"{found:.7g}")
            return meant if abs(meant - found) <= 3e-8 * abs(found) else found
        if a.type not in (0, a.INT):
            raise ONNXError(f"its attribute {a.name!r:.200} must be numbers, texts or a tensor")
        return found


@dataclass(eq=False)
class _Typed:
    """The body of an operator that depends on the types of what comes in: made when they are known."""

    reader: Reader
    proto: Any
    attributes: dict[str, Any]
    depth: int
    opset: int
    made: tuple[Any, Graph | None] = (None, None)

    def of(self, args: list[Any]) -> Graph:
        onnx = library()
        names = {"float32": "FLOAT", "float64": "DOUBLE"}
        key = [(str(x.dtype), tuple(x.shape)) if isinstance(x, an.Tensor) else None for x in args]
        known, graph = self.made
        if known != key or graph is None:
            types = [
                onnx.helper.make_tensor_type_proto(onnx.TensorProto.DataType.Value(names.get(k[0], k[0].upper())), k[1])
                if k else onnx.TypeProto() for k in key
            ]  # fmt: skip
            schema = onnx.defs.get_schema(self.proto.op_type, self.opset)
            body = onnx.FunctionProto.FromString(
                schema.get_context_dependent_function(
                    self.proto.SerializeToString(), [t.SerializeToString() for t in types]
                )
            )
            if not body.node:
                raise ONNXError("anynet has no counterpart for this form of the operator")
            graph = self.reader.function(body, self.attributes, self.depth + 1)
            self.made = key, graph
        return graph


def _kind(of: Any) -> tuple[str, tuple[int, ...]]:
    """The dtype and shape of an array as they are declared, with 1 for sizes that are not."""
    sizes = tuple(max(d.dim_value, 0) if d.HasField("dim_value") else 1 for d in of.shape.dim)
    return DTYPES.get(of.elem_type, "float32"), sizes


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name
