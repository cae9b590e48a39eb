"""What the camera of the virtual machine sees: generated people of the demo, in each format that a camera may give.

    python scene.py PICTURES FOLDER

Writes FOLDER/FORMAT/ada/* and FOLDER/FORMAT/empty/*, one file a frame of 640x480, and FOLDER/photos/ID.jpg to enrol from. The
frames show Ada by pictures that she is not enrolled from.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))
from cast import CAST
from scene import EMPTY, ENTER, STAY, record

# Of the demo's frames: those in which Ada stands still, and those before she comes.
SCENES = {"ada": range(EMPTY + ENTER, EMPTY + ENTER + STAY, 4), "empty": range(0, EMPTY, 10)}


def video(frame: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """JPEG's full range to the limited one of video (ITU-R BT.601)."""
    y, cb, cr = (np.asarray(plane, dtype=np.float32) for plane in frame.convert("YCbCr").split())
    return 16 + y * (219 / 255), 128 + (cb - 128) * (224 / 255), 128 + (cr - 128) * (224 / 255)


def octets(values: np.ndarray) -> bytes:
    return values.round().clip(0, 255).astype(np.uint8).tobytes()


def yuyv(frame: Image.Image) -> bytes:
    y, cb, cr = video(frame)
    packed = np.empty((*y.shape, 2), dtype=np.float32)
    packed[..., 0] = y
    packed[:, 0::2, 1] = (cb[:, 0::2] + cb[:, 1::2]) / 2
    packed[:, 1::2, 1] = (cr[:, 0::2] + cr[:, 1::2]) / 2
    return octets(packed)


def nv12(frame: Image.Image) -> bytes:
    y, cb, cr = video(frame)
    quarter = [plane.reshape(plane.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3)) for plane in (cb, cr)]
    return octets(y) + octets(np.stack(quarter, axis=-1))


FORMATS = {
    "YUYV": yuyv,
    "NV12": nv12,
    "RGB3": lambda frame: frame.convert("RGB").tobytes(),
    "GREY": lambda frame: frame.convert("L").tobytes(),
    "MJPG": None,  # as it is
}


def main() -> None:
    pictures, folder = map(Path, sys.argv[1:])
    (folder / "photos").mkdir(parents=True)
    for person in CAST:
        shutil.copy(pictures / person.photos()[0], folder / "photos" / f"{person.id}.jpg")
    with tempfile.TemporaryDirectory() as scratch:
        record(pictures, Path(scratch))
        frames = sorted((Path(scratch) / "frames").iterdir())
        for name, convert in FORMATS.items():
            for scene, chosen in SCENES.items():
                into = folder / name / scene
                into.mkdir(parents=True)
                for number in chosen:
                    data = convert(Image.open(frames[number])) if convert else frames[number].read_bytes()
                    (into / f"{number:03}").write_bytes(data)


if __name__ == "__main__":
    main()
