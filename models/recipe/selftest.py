"""selftest.toml and selftest.bin: pictures of generated people and what the float networks say of them."""

from pathlib import Path

import numpy as np

from . import sources
from .crops import crop, liveness_crop
from .runtime import Detector, Embedder, Liveness, letterbox

MINIMUM_COSINE = 0.999
DETECTOR_TOLERANCE = 2.0  # pixels of the detector's input
LIVENESS_TOLERANCE = 0.01
# One face keeps a start short: each costs an embedding. The build itself compares twenty.
EMBEDDER_PICTURES = [("P005", "amateur_selfie")]
DETECTOR_PICTURE = LIVENESS_PICTURE = ("P002", "amateur_selfie")


class SelfTest:
    def __init__(self):
        self.bytes, self.text = bytearray(), []

    def write(self, folder: Path) -> None:
        (folder / "selftest.toml").write_text("\n".join(HEADER + self.text))
        (folder / "selftest.bin").write_bytes(self.bytes)

    def embedder(self, picture, embedding: np.ndarray) -> None:
        image, expected = self._store(_pixels(picture)), self._store(embedding.astype("<f4").tobytes())
        self.text += [
            "[[embedder]]",
            f"image = {{ offset = {image} }}",
            f"embedding = {{ offset = {expected} }}",
            f"minimum_cosine = {MINIMUM_COSINE}",
            "",
        ]

    def mapping(self, file: str, other: np.ndarray, own: np.ndarray, minimum_cosine: float) -> None:
        self.text += [
            "[[mapping]]",
            f'file = "{file}"',
            f"other = {{ offset = {self._store(other.astype('<f4').tobytes())} }}",
            f"own = {{ offset = {self._store(own.astype('<f4').tobytes())} }}",
            f"minimum_cosine = {minimum_cosine}",
            "",
        ]

    def detector(self, picture, faces) -> None:
        self.text += [
            "[[detector]]",
            f"image = {{ offset = {self._store(_pixels(picture))} }}",
            f"tolerance = {DETECTOR_TOLERANCE}",
            "faces = [",
            *(
                f"    {{ box = {_list(face.box)}, landmarks = [{', '.join(_list(point) for point in face.landmarks)}], "
                f"score = {face.score:.4f} }},"
                for face in faces
            ),
            "]",
            "",
        ]

    def liveness(self, file: str, picture, scores: np.ndarray) -> None:
        self.text += [
            "[[liveness]]",
            f'model = "{file}"',
            f"image = {{ offset = {self._store(_pixels(picture))} }}",
            f"scores = {_list(scores, 6)}",
            f"tolerance = {LIVENESS_TOLERANCE}",
            "",
        ]

    def _store(self, data: bytes) -> int:
        offset = len(self.bytes)
        self.bytes += data
        return offset


HEADER = [
    "# What the networks must give on these pictures (selftest.bin: RGB bytes, float32, little-endian, offsets in",
    "# bytes). Expected values: the float networks in onnxruntime. The people are generated (openpeople, MIT).",
    "",
]


def make(wheels: Path, embedder: Embedder, detector: Detector, liveness: dict[str, Liveness]) -> SelfTest:
    """`embedder` runs the float graph."""
    test = SelfTest()
    for person, kind in EMBEDDER_PICTURES:
        face = face_crop(wheels, person, kind, embedder, detector)
        test.embedder(face, embedder.embed(face))
    picture = sources.picture(wheels, *DETECTOR_PICTURE)
    fitted, _ = letterbox(picture, *detector.size)
    faces = detector.detect_scaled(fitted)
    if len(faces) != 1:
        raise SystemExit(f"models: {len(faces)} faces where the self-test's picture shows one")
    test.detector(fitted, faces)
    picture = sources.picture(wheels, *LIVENESS_PICTURE)
    face = detector.detect(picture)[0]
    for file, network in liveness.items():
        cut = liveness_crop(picture, face, network.entry["crop_scale"], network.size)
        test.liveness(file, cut, network.classes(cut))
    return test


def add_mapping(test: SelfTest, file: str, other: Embedder, own: Embedder, detector: Detector, wheels: Path) -> None:
    """The face of the embedder's own case, as the model before saw it and as this one sees it."""
    (person, kind), *_ = EMBEDDER_PICTURES
    faces = [face_crop(wheels, person, kind, embedder, detector) for embedder in (other, own)]
    test.mapping(file, other.embed(faces[0]), own.embed(faces[1]), MINIMUM_COSINE)


def face_crop(wheels: Path, person: str, kind: str, embedder: Embedder, detector: Detector):
    picture = sources.picture(wheels, person, kind)
    faces = detector.detect(picture)
    if not faces:
        raise SystemExit(f"models: no face found on {person}'s {kind}")
    return crop(picture, faces[0], embedder.entry["crop"], embedder.size)


def _pixels(picture) -> bytes:
    return np.asarray(picture, np.uint8).tobytes()


def _list(values, digits: int = 2) -> str:
    return "[" + ", ".join(f"{float(value):.{digits}f}" for value in values) + "]"
