"""What the camera of the virtual machine sees, and who is enrolled there: generated people of the demo.

    python scene.py PICTURES FOLDER

Writes FOLDER/ada/*.jpg, to enrol from, and FOLDER/scene.yuyv: frames of 640x480, YUYV, of Ada who comes, stays and leaves.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))
from cast import CAST  # noqa: E402
from scene import EMPTY, ENTER, LEAVE, STAY, record  # noqa: E402


def yuyv(frame: Image.Image) -> bytes:
    y, cb, cr = (np.asarray(plane, dtype=np.float32) for plane in frame.convert("YCbCr").split())
    # Full range of JPEG to the limited range of video (ITU-R BT.601).
    y = 16 + y * (219 / 255)
    cb, cr = (128 + (plane - 128) * (224 / 255) for plane in (cb, cr))
    packed = np.empty((*y.shape, 2), dtype=np.float32)
    packed[..., 0] = y
    packed[:, 0::2, 1] = (cb[:, 0::2] + cb[:, 1::2]) / 2
    packed[:, 1::2, 1] = (cr[:, 0::2] + cr[:, 1::2]) / 2
    return packed.round().clip(0, 255).astype(np.uint8).tobytes()


def main() -> None:
    pictures, folder = map(Path, sys.argv[1:])
    ada = CAST[0]
    (folder / "ada").mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(ada.photos()):
        shutil.copy(pictures / photo, folder / "ada" / f"{number}.jpg")
    with tempfile.TemporaryDirectory() as scratch:
        record(pictures, Path(scratch))
        frames = sorted((Path(scratch) / "frames").iterdir())
        with open(folder / "scene.yuyv", "wb") as out:
            for frame in frames[EMPTY // 2 : EMPTY + ENTER + STAY + LEAVE]:
                out.write(yuyv(Image.open(frame)))


if __name__ == "__main__":
    main()
