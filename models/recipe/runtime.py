"""A bundle's networks in onnxruntime, one thread, fed as bundle.toml says: the judge of the daemon's engine."""

import numpy as np
import onnxruntime
from PIL import Image

from .detectors import DECODERS, Face, suppress


def session(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Network:
    def __init__(self, model: bytes | str, entry: dict):
        """`entry`: the network's table of bundle.toml."""
        self.session, self.entry, self.input = session(model), entry, entry["input"]

    @property
    def size(self) -> tuple[int, int]:
        return self.input["width"], self.input["height"]

    def tensor(self, picture: Image.Image) -> np.ndarray:
        """A picture of exactly the network's size as its input."""
        if picture.size != self.size:
            raise ValueError(f"a picture of {picture.size} for a network of {self.size}")
        pixels = np.asarray(picture, np.float32)
        if self.input["channels"] == "bgr":
            pixels = pixels[:, :, ::-1]
        values = (pixels - np.float32(self.input["mean"])) * np.float32(self.input["scale"])
        if self.input["layout"] == "nchw":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(values[None], np.float32)

    def run(self, picture: Image.Image) -> dict[str, np.ndarray]:
        outputs = self.session.run(None, {self.session.get_inputs()[0].name: self.tensor(picture)})
        return dict(zip((output.name for output in self.session.get_outputs()), outputs))


class Embedder(Network):
    def embed(self, crop: Image.Image) -> np.ndarray:
        (values,) = self.run(crop).values()
        return values[0] / np.linalg.norm(values[0])


class Detector(Network):
    def detect_scaled(self, picture: Image.Image) -> list[Face]:
        outputs = self.run(picture)
        decode = DECODERS[self.entry["decoder"]]
        faces = decode(outputs, *self.size, self.entry["score_threshold"])
        return suppress(faces, self.entry["overlap_threshold"])

    def detect(self, picture: Image.Image) -> list[Face]:
        """Most confident first, in the picture's pixels."""
        fitted, scale = letterbox(picture, *self.size)
        factor = np.array([*scale, *scale])
        return [
            Face(face.box / factor, face.landmarks / factor[:2], face.score)
            for face in self.detect_scaled(fitted)
        ]


class Liveness(Network):
    def classes(self, picture: Image.Image) -> np.ndarray:
        (logits,) = self.run(picture).values()
        powers = np.exp(logits[0] - logits[0].max())
        return powers / powers.sum()


def letterbox(picture: Image.Image, width: int, height: int) -> tuple[Image.Image, tuple[float, float]]:
    """The picture at the top left of a black one, its aspect kept, and the factors used."""
    scale = min(width / picture.width, height / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    fitted = Image.new("RGB", (width, height))
    fitted.paste(picture.resize(size, Image.Resampling.BILINEAR), (0, 0))
    return fitted, (size[0] / picture.width, size[1] / picture.height)
