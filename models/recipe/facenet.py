"""FaceNet (Inception-ResNet-v1): TensorFlow's frozen graph becomes ONNX, node by node.

The graph is NHWC; the ONNX is NCHW, which tract and onnxruntime run at least as fast. The scales of the residual
branches and the bottleneck's batch norm are folded into the weights before them, in float64.

Behind the network's unit embedding its centre is taken away, the mean embedding of many people (models/center.py). Faces
of different people have it in common, so without it they are more alike than they need be (centring before length
normalisation: Garcia-Romero and Espy-Wilson 2011, "Analysis of I-vector Length Normalization in Speaker Recognition
Systems"). The difference is no unit vector: whoever compares normalises it, as before.
"""

import numpy as np
import onnx

from .graphdef import Node, read_graph
from .onnx_graph import Graph

SIDE = 160
DIMENSIONS = 512
INPUT, OUTPUT = "input", "embedding"
FLATTEN = "InceptionResnetV1/Logits/Flatten/flatten/Reshape"


def convert(frozen_graph: bytes, center: np.ndarray | None = None) -> onnx.ModelProto:
    """`center`: DIMENSIONS numbers; without it the graph gives the author's embedding."""
    if center is not None and center.shape != (DIMENSIONS,):
        raise ValueError(f"a centre of shape {center.shape}")
    return _Converter(read_graph(frozen_graph), center).convert()


class _Converter:
    def __init__(self, nodes: list[Node], center: np.ndarray | None):
        self.nodes = nodes
        self.center = center
        self.values = {n.name: n.attributes["value"] for n in nodes if n.op == "Const"}
        self.readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.graph = Graph("facenet")
        self.names: dict[str, str] = {}  # TensorFlow's name to ours

    def convert(self) -> onnx.ModelProto:
        for node in self.nodes:
            if node.name == FLATTEN:
                self._head(node)
                return self.graph.model(INPUT, [1, 3, SIDE, SIDE], OUTPUT, [1, DIMENSIONS])
            handler = getattr(self, f"_{node.op.lower()}", None)
            if handler is None:
                raise ValueError(f"{node.name}: the operation {node.op} is not known")
            handler(node)
        raise ValueError("the graph has no flattened features")

    def _const(self, node: Node) -> None:
        pass

    def _placeholder(self, node: Node) -> None:
        self.names[node.name] = INPUT

    def _conv2d(self, node: Node) -> None:
        """With the bias that follows, and the residual scale if there is one."""
        bias = self._only_reader(node, "BiasAdd")
        weights = self.values[node.inputs[1]].astype(np.float64).transpose(3, 2, 0, 1)  # HWIO to OIHW
        offset = self.values[bias.inputs[1]].astype(np.float64)
        last = bias
        if (reader := self.readers[bias.name][0]).op == "Mul":
            scale = float(self.values[reader.inputs[0]])
            weights, offset, last = weights * scale, offset * scale, reader
        strides = node.attributes["strides"][1:3]
        self.names[last.name] = self.graph.conv(
            self.names[node.inputs[0]],
            _short(node.name),
            weights,
            offset,
            strides=strides,
            pads=_pads(node, weights.shape[2:], strides),
        )

    def _biasadd(self, node: Node) -> None:
        pass  # taken with its convolution

    def _mul(self, node: Node) -> None:
        if node.name not in self.names:
            raise ValueError(f"{node.name}: a product that is not a residual scale")

    def _relu(self, node: Node) -> None:
        self._same("Relu", node)

    def _add(self, node: Node) -> None:
        self._same("Add", node)

    def _concatv2(self, node: Node) -> None:
        if int(self.values[node.inputs[-1]]) != 3:
            raise ValueError(f"{node.name}: joined along another axis than the channels")
        self._same("Concat", node, axis=1)

    def _maxpool(self, node: Node) -> None:
        self._pool("MaxPool", node)

    def _avgpool(self, node: Node) -> None:
        self._pool("AveragePool", node)

    def _pool(self, op: str, node: Node) -> None:
        kernel, strides = node.attributes["ksize"][1:3], node.attributes["strides"][1:3]
        if node.attributes["padding"] != "VALID":
            raise ValueError(f"{node.name}: padded pooling")
        self._same(op, node, kernel_shape=kernel, strides=strides)

    def _same(self, op: str, node: Node, **attributes) -> None:
        inputs = [self.names[name] for name in node.inputs if name not in self.values]
        self.names[node.name] = self.graph.add(op, inputs, _short(node.name), **attributes)

    def _head(self, flatten: Node) -> None:
        """Features (1 x 1 x 1 in space) to the embedding: bottleneck, its batch norm, L2 norm, centre."""
        matmul = next(n for n in self.nodes if n.op == "MatMul")
        norm = next(n for n in self.nodes if n.op == "FusedBatchNorm")
        gamma, beta, mean, variance = (self.values[name].astype(np.float64) for name in norm.inputs[1:5])
        factor = gamma / np.sqrt(variance + norm.attributes["epsilon"])
        weights = self.values[matmul.inputs[1]].astype(np.float64).T * factor[:, None]  # 512 x 1792
        smallest = np.sqrt(float(self.values["embeddings/Maximum/y"]))
        graph = self.graph
        graph.add("Flatten", [self.names[flatten.inputs[0]]], "features", axis=1)
        graph.constant("bottleneck/weights", weights.astype(np.float32))
        graph.constant("bottleneck/bias", (beta - mean * factor).astype(np.float32))
        graph.add("Gemm", ["features", "bottleneck/weights", "bottleneck/bias"], "bottleneck", transB=1)
        graph.add("ReduceL2", ["bottleneck"], "length", axes=[1], keepdims=1)
        graph.constant("smallest_length", np.array([smallest], np.float32))
        graph.add("Max", ["length", "smallest_length"], "divisor")
        if self.center is None:
            graph.add("Div", ["bottleneck", "divisor"], OUTPUT)
            return
        graph.add("Div", ["bottleneck", "divisor"], "direction")
        graph.constant("center", self.center.astype(np.float32))
        graph.add("Sub", ["direction", "center"], OUTPUT)

    def _only_reader(self, node: Node, op: str) -> Node:
        readers = self.readers[node.name]
        if len(readers) != 1 or readers[0].op != op:
            raise ValueError(f"{node.name}: {op} should follow, and nothing else")
        return readers[0]


def _pads(node: Node, kernel: tuple[int, int], strides: list[int]) -> list[int]:
    """TensorFlow's SAME, for the cases where it does not depend on the input's size."""
    if node.attributes["padding"] == "VALID":
        return [0, 0, 0, 0]
    if list(strides) != [1, 1] or any(size % 2 == 0 for size in kernel):
        raise ValueError(f"{node.name}: SAME with strides or an even kernel")
    top, left = kernel[0] // 2, kernel[1] // 2
    return [top, left, top, left]


def _short(name: str) -> str:
    return name.removeprefix("InceptionResnetV1/").removesuffix("/Conv2D")
