"""Cutting a face from a picture as a manifest asks (src/model/manifest.rs, `Crop`)."""

import numpy as np
from PIL import Image

from .detectors import Face

BILINEAR = Image.Resampling.BILINEAR


def crop(picture: Image.Image, face: Face, rule: dict, size: tuple[int, int]) -> Image.Image:
    x, y, w, h = (float(value) for value in face.box)
    if rule["kind"] == "box":
        beside, above = w * rule["margin"] / 2, h * rule["margin"] / 2
        left, right = np.clip([x - beside, x + w + beside], 0, picture.width)
        top, bottom = np.clip([y - above, y + h + above], 0, picture.height)
        return picture.resize(size, BILINEAR, (float(left), float(top), float(right), float(bottom)))
    if rule["kind"] == "square":
        side = max(w, h) * rule["scale"]
        return _square(picture, x + w / 2 - side / 2, y + h / 2 - side / 2, side, size)
    if rule["kind"] == "five-point":
        return _aligned(picture, face.landmarks, np.array(rule["template"]) * size, size)
    raise ValueError(f"unknown kind of crop: {rule['kind']}")


def liveness_crop(picture: Image.Image, face: Face, scale: float, size: tuple[int, int]) -> Image.Image:
    """The detector's box as the networks' authors would have it (a square of 1.17 times YuNet's width whose bottom
    lies at 1.015 of its height), enlarged and pushed into the picture (src/generate_patches.py, _get_new_box)."""
    x, y, w, h = (float(value) for value in face.box)
    side = 1.17 * w
    x, y = x + w / 2 - side / 2, y + 1.015 * h - side
    scale = min((picture.height - 1) / side, (picture.width - 1) / side, scale)
    left = min(max(x + side / 2 - side * scale / 2, 0), picture.width - side * scale)
    top = min(max(y + side / 2 - side * scale / 2, 0), picture.height - side * scale)
    box = (int(left), int(top), int(left + side * scale) + 1, int(top + side * scale) + 1)
    # Between the four nearest pixels, as cv2.resize does: averaging while shrinking takes the texture they look at.
    return picture.transform(size, Image.Transform.EXTENT, box, BILINEAR)


def _square(picture: Image.Image, left: float, top: float, side: float, size: tuple[int, int]) -> Image.Image:
    edge = int(np.ceil(max(0, -left, -top, left + side - picture.width, top + side - picture.height))) + 1
    padded = Image.fromarray(np.pad(np.asarray(picture), ((edge, edge), (edge, edge), (0, 0)), mode="edge"))
    left, top = left + edge, top + edge
    return padded.resize(size, BILINEAR, (left, top, left + side, top + side))


def _aligned(picture: Image.Image, landmarks, template, size: tuple[int, int]) -> Image.Image:
    """The similarity (Umeyama 1991) from the crop to the picture; a picture much larger is shrunk first."""
    source, target = np.array(template, float), np.array(landmarks, float)
    p, q = source - source.mean(0), target - target.mean(0)
    spread = (p**2).sum()
    a, b = (p * q).sum() / spread, (p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum() / spread
    turn = np.array([[a, -b], [b, a]])
    shift = target.mean(0) - turn @ source.mean(0)
    shrink = max(1.0, float(np.hypot(a, b)))
    small = picture.resize((round(picture.width / shrink), round(picture.height / shrink)), BILINEAR)
    factors = np.array([small.width / picture.width, small.height / picture.height])
    matrix = turn * factors[:, None]
    return small.transform(
        size, Image.Transform.AFFINE, [*matrix[0], (shift * factors)[0], *matrix[1], (shift * factors)[1]], BILINEAR
    )
