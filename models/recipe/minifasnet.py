"""MiniFASNet (Silent-Face-Anti-Spoofing, Apache-2.0): PyTorch weights become ONNX, batch norm folded, no PyTorch.

The architecture is read from the names and shapes of the weights, which follow src/model_lib/MiniFASNet.py of
github.com/minivision-ai/Silent-Face-Anti-Spoofing: Conv_block = convolution, batch norm, PReLU; Depth_Wise =
1x1, depthwise 3x3, 1x1 without PReLU; squeeze-and-excitation before a shortcut where the weights have it.
"""

import numpy as np
import onnx

from .onnx_graph import Graph

SIDE = 80
CLASSES = 3
INPUT, OUTPUT = "input", "logits"
EPSILON = 1e-5  # torch.nn.BatchNorm2d's default


def convert(weights: dict[str, np.ndarray], name: str) -> onnx.ModelProto:
    """Logits of three classes; the reader takes the softmax."""
    network = _Network({key.removeprefix("module."): value for key, value in weights.items()}, name)
    return network.convert()


class _Network:
    def __init__(self, weights: dict[str, np.ndarray], name: str):
        self.weights = weights
        self.graph = Graph(name)
        self.used: set[str] = set()

    def convert(self) -> onnx.ModelProto:
        x = self._conv(INPUT, "conv1", stride=2)
        x = self._conv(x, "conv2_dw")
        x = self._depthwise(x, "conv_23", stride=2)
        x = self._residual(x, "conv_3")
        x = self._depthwise(x, "conv_34", stride=2)
        x = self._residual(x, "conv_4")
        x = self._depthwise(x, "conv_45", stride=2)
        x = self._residual(x, "conv_5")
        x = self._conv(x, "conv_6_sep")
        x = self._conv(x, "conv_6_dw", pad=0)
        x = self.graph.add("Flatten", [x], "features", axis=1)
        # The embedding has no bias and no activation after its batch norm: with the classifier it is one product.
        factor, offset = self._norm("bn")
        classifier = self._take("prob.weight")
        weights = classifier @ (factor[:, None] * self._take("linear.weight"))
        bias = classifier @ offset
        self.graph.constant("classifier/weights", weights.astype(np.float32))
        self.graph.constant("classifier/bias", bias.astype(np.float32))
        self.graph.add("Gemm", [x, "classifier/weights", "classifier/bias"], OUTPUT, transB=1)
        unused = {key for key in self.weights if not key.endswith("num_batches_tracked")} - self.used
        if unused:
            raise ValueError(f"weights that the known architecture has no place for: {sorted(unused)[:3]}")
        return self.graph.model(INPUT, [1, 3, SIDE, SIDE], OUTPUT, [1, CLASSES])

    def _residual(self, x: str, name: str) -> str:
        block = 0
        while f"{name}.model.{block}.conv.conv.weight" in self.weights:
            x = self._depthwise(x, f"{name}.model.{block}", shortcut=True)
            block += 1
        return x

    def _depthwise(self, x: str, name: str, stride: int = 1, shortcut: bool = False) -> str:
        y = self._conv(x, f"{name}.conv")
        y = self._conv(y, f"{name}.conv_dw", stride=stride)
        y = self._conv(y, f"{name}.project")
        if not shortcut:
            return y
        if f"{name}.se_module.fc1.weight" in self.weights:
            y = self._excite(y, f"{name}.se_module")
        return self.graph.add("Add", [x, y], f"{name}.sum")

    def _excite(self, x: str, name: str) -> str:
        gate = self.graph.add("GlobalAveragePool", [x], f"{name}.mean")
        gate = self._folded(gate, f"{name}.fc1", f"{name}.bn1")
        gate = self.graph.add("Relu", [gate], f"{name}.relu")
        gate = self._folded(gate, f"{name}.fc2", f"{name}.bn2")
        gate = self.graph.add("Sigmoid", [gate], f"{name}.gate")
        return self.graph.add("Mul", [x, gate], f"{name}.gated")

    def _conv(self, x: str, name: str, stride: int = 1, pad: int | None = None) -> str:
        y = self._folded(x, f"{name}.conv", f"{name}.bn", stride, pad)
        if f"{name}.prelu.weight" not in self.weights:
            return y
        slope = self._take(f"{name}.prelu.weight").reshape(-1, 1, 1)
        self.graph.constant(f"{name}/slope", slope.astype(np.float32))
        return self.graph.add("PRelu", [y, f"{name}/slope"], f"{name}.prelu")

    def _folded(self, x: str, conv: str, norm: str, stride: int = 1, pad: int | None = None) -> str:
        weights = self._take(f"{conv}.weight")
        factor, offset = self._norm(norm)
        size = weights.shape[2]
        edge = size // 2 if pad is None else pad
        # A depthwise kernel has one input channel; so has no other layer of these networks.
        group = len(weights) if weights.shape[1] == 1 else 1
        folded = weights * factor[:, None, None, None]
        return self.graph.conv(x, conv, folded, offset, strides=[stride] * 2, pads=[edge] * 4, group=group)

    def _norm(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The factor and offset that a batch norm comes to."""
        parts = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (self._take(f"{name}.{part}") for part in parts)
        factor = gamma / np.sqrt(variance + EPSILON)
        return factor, beta - mean * factor

    def _take(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self.weights[name].astype(np.float64)
