"""Records the demo's scene: JPEG frames of a camera that looks into a room.

    python scene.py PICTURES FOLDER

The members of the cast enter, stay and leave, one after the other; between them the room is empty. The
faces come from pictures that are not used for enrolment. The same pictures give the same frames, byte
for byte. `FOLDER/scene.json` says who is visible when; the frames are in `FOLDER/frames`.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cast import CAST, Look

WIDTH, HEIGHT = 640, 480
FPS = 10
FACE_HEIGHT = 200  # pixels
EMPTY, ENTER, STAY, LEAVE = 40, 12, 32, 12  # frames
FRAMES_PER_LOOK = 7
NOISE = 2.0  # standard deviation of a pixel, as of a small sensor indoors


def room() -> np.ndarray:
    """The empty room: a wall with a window, a door and a shelf, out of focus."""
    wall = np.linspace((196, 190, 178), (150, 142, 130), HEIGHT)[:, None, :].repeat(WIDTH, axis=1)
    wall *= np.linspace(1.08, 0.86, WIDTH)[None, :, None]
    image = Image.fromarray(wall.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 40, 190, 210), fill=(214, 226, 236), outline=(120, 104, 84), width=6)
    draw.line((125, 40, 125, 210), fill=(120, 104, 84), width=4)
    draw.rectangle((470, 70, 600, 480), fill=(126, 92, 66), outline=(88, 62, 44), width=5)
    draw.ellipse((480, 280, 494, 294), fill=(206, 186, 120))
    draw.rectangle((250, 120, 420, 128), fill=(98, 74, 54))
    for left, top, colour in ((262, 70, (90, 40, 44)), (288, 82, (44, 74, 92)), (330, 76, (70, 92, 60))):
        draw.rectangle((left, top, left + 20, 120), fill=colour)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(3)), dtype=np.float32)


class Figure:
    """A head and shoulders without their backdrop, scaled for the scene."""

    def __init__(self, sheet: Image.Image, look: Look):
        x, y, width, height = look.face
        scale = FACE_HEIGHT / height
        cell = sheet.crop(look.cell)
        size = (round(cell.width * scale), round(cell.height * scale))
        pixels = np.asarray(cell.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
        self.pixels = pixels
        self.opacity = opacity(pixels)
        # The middle of the face, from the upper left corner: so that a change of look causes no jump.
        self.anchor = (
            round((x + width / 2 - look.cell[0]) * scale),
            round((y + height / 2 - look.cell[1]) * scale),
        )

    def put(self, frame: np.ndarray, x: int, y: int) -> None:
        """Paints the figure with the middle of its face at (x, y), clipped to the frame."""
        left, top = x - self.anchor[0], y - self.anchor[1]
        height, width = self.opacity.shape
        a, b = max(left, 0), min(left + width, WIDTH)
        c, d = max(top, 0), min(top + height, HEIGHT)
        if a >= b or c >= d:
            return
        own = (slice(c - top, d - top), slice(a - left, b - left))
        part = self.opacity[own][..., None]
        frame[c:d, a:b] = frame[c:d, a:b] * (1 - part) + self.pixels[own] * part


def opacity(pixels: np.ndarray) -> np.ndarray:
    """Everything but the grey backdrop, and what it encloses: below, right and left of something else."""
    backdrop = np.median(pixels[:12].reshape(-1, 3), axis=0)
    distance = np.abs(pixels - backdrop).max(axis=2)
    smooth = Image.fromarray(distance.clip(0, 255).astype(np.uint8))
    smooth = smooth.filter(ImageFilter.MedianFilter(5)).filter(ImageFilter.GaussianBlur(1.2))
    solid = ((np.asarray(smooth, dtype=np.float32) - 22) / 16).clip(0, 1)
    below = np.maximum.accumulate(solid, axis=0)
    right = np.maximum.accumulate(solid, axis=1)
    left = np.maximum.accumulate(solid[:, ::-1], axis=1)[:, ::-1]
    return np.maximum(solid, np.minimum(below, np.minimum(right, left)))


def place(frame: int, from_left: bool) -> tuple[int, int]:
    """Where the middle of the face is, `frame` frames after the person came into view."""
    if frame < ENTER:
        way = ease(frame / ENTER) * 0.5
    elif frame < ENTER + STAY:
        way = 0.5 + 0.03 * math.sin((frame - ENTER) / 5)
    else:
        way = 0.5 + ease((frame - ENTER - STAY + 1) / LEAVE) * 0.5
    reach = WIDTH + 2 * FACE_HEIGHT
    x = way * reach - FACE_HEIGHT
    y = HEIGHT - 0.62 * FACE_HEIGHT + 5 * math.sin(frame / 3)
    return round(x if from_left else WIDTH - x), round(y)


def ease(t: float) -> float:
    return t * t * (3 - 2 * t)


def record(pictures: Path, folder: Path) -> None:
    frames = folder / "frames"
    frames.mkdir(parents=True)
    background = room()
    random = np.random.default_rng(2)
    number = 0

    def shoot(figure: Figure | None = None, x: int = 0, y: int = 0) -> None:
        nonlocal number
        frame = background.copy()
        if figure:
            figure.put(frame, x, y)
        frame *= 1 + 0.015 * math.sin(number / 9)  # a cloud passes
        frame += random.normal(0, NOISE, frame.shape).astype(np.float32)
        image = Image.fromarray(frame.clip(0, 255).astype(np.uint8))
        image = image.filter(ImageFilter.GaussianBlur(0.6))
        image.save(frames / f"{number:05}.jpg", quality=88)
        number += 1

    appearances = []
    for turn, person in enumerate(CAST):
        for _ in range(EMPTY):
            shoot()
        with Image.open(pictures / person.sheet()) as sheet:
            figures = [Figure(sheet.convert("RGB"), look) for look in person.looks]
        first = number
        for frame in range(ENTER + STAY + LEAVE):
            figure = figures[frame // FRAMES_PER_LOOK % len(figures)]
            shoot(figure, *place(frame, from_left=turn % 2 == 0))
        appearances.append({"id": person.id, "enrolled": person.enrolled, "first": first, "last": number - 1})
    for _ in range(EMPTY):
        shoot()
    scene = {"fps": FPS, "frames": number, "appearances": appearances}
    (folder / "scene.json").write_text(json.dumps(scene, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    record(Path(sys.argv[1]), Path(sys.argv[2]))
