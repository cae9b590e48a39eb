"""SIMULATED screen replays of recorded live faces, for want of real ones: no camera ever saw these screens.

    models/.build/venv/bin/python tools/simulate_screens.py LIVE OUT

LIVE holds SUBJECT/SEQUENCE/0000.jpg. Of each sequence, twice, with other hands and lights, OUT/KIND/SUBJECT/SEQUENCE-N gets
twelve frames for each kind of screen:

    phone     small, its frame in view, display pixels far finer than the camera's; glare
    tablet    larger, its frame in view, display pixels finer than the camera's; glare
    monitor   beyond the view's edges; display pixels near the camera's, hence moire; refresh bands

The chain: the recording cut about the face and shown by the display (sRGB, raised black, stripes of red, green and blue with dark
gaps, refresh bands that wander); seen in linear light under a perspective that trembles as a hand does; blurred by a
lens; summed over each pixel of a 640x480 sensor; reflections, exposure, noise, sRGB, JPEG. Same input, same bytes.
"""

import math
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "models"))

WIDTH, HEIGHT = 640, 480
FRAMES, VARIANTS = 12, 2
# Display pixels along a camera's pixel; points of a camera's pixel along each side (what the display has beyond half of them
# is summed up entirely); height of the screen in camera pixels; its shape; share of it that is frame; depth of bands and glare.
KINDS = {
    "phone": {"pitch": 6.0, "points": 3, "height": (430, 470), "aspect": 0.6, "bezel": 0.05, "band": 0.0, "glare": 0.12},
    "tablet": {"pitch": 3.2, "points": 3, "height": (440, 470), "aspect": 0.8, "bezel": 0.07, "band": 0.02, "glare": 0.10},
    "monitor": {"pitch": 1.7, "points": 4, "height": (560, 620), "aspect": 1.25, "bezel": 0.03, "band": 0.06, "glare": 0.04},
}


def linear(pixels: np.ndarray) -> np.ndarray:
    """sRGB bytes to light, 0 to 1 (IEC 61966-2-1)."""
    value = pixels.astype(np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    value = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return value * 255


def cut(picture: Image.Image, face, aspect: float) -> Image.Image:
    """About the face, as one films oneself: its height is 0.45 of the picture's."""
    x, y, w, h = face
    height = min(h / 0.45, picture.height, picture.width / aspect)
    width = height * aspect
    left = min(max(x + w / 2 - width / 2, 0), picture.width - width)
    top = min(max(y + h / 2 - 0.48 * height, 0), picture.height - height)
    return picture.crop((round(left), round(top), round(left + width), round(top + height)))


class Setting:
    """What stays the same over one replay."""

    def __init__(self, kind: str, seed: int):
        self.kind, self.traits = kind, KINDS[kind]
        self.random = np.random.default_rng(seed)
        uniform = self.random.uniform
        self.height = uniform(*self.traits["height"])
        self.points = self.traits["points"]
        self.pitch = self.traits["pitch"] * uniform(0.9, 1.1)
        self.tilt, self.keystone = uniform(-0.05, 0.05), uniform(-0.06, 0.06)
        self.phase = uniform(0, 2 * math.pi, 4)
        self.black, self.bright = uniform(0.004, 0.015), uniform(0.75, 1.0)
        self.tint = uniform([0.92, 0.97, 0.98], [1.0, 1.0, 1.1])
        self.blur = uniform(0.4, 0.8) * self.points
        self.glare = (uniform(0.2, 0.8), uniform(0.1, 0.6), uniform(0.1, 0.25), self.traits["glare"] * uniform(0.3, 1))
        self.band = (uniform(0.3, 1.3), uniform(1.0, 2.5))
        self.room = room(self.random)

    def corner_map(self, frame: int) -> np.ndarray:
        """Homography from the camera's pixels to the screen, whose visible part is 0 to 1 either way."""
        wave = lambda at, period: math.sin(self.phase[at] + 2 * math.pi * frame / period)
        height = self.height * (1 + 0.012 * wave(0, 23))
        width = self.height * self.traits["aspect"]
        turn = self.tilt + 0.012 * wave(1, 19)
        cx, cy = WIDTH / 2 + 9 * wave(2, 17) + 3 * wave(1, 5), HEIGHT / 2 + 6 * wave(3, 13)
        cos, sin = math.cos(turn), math.sin(turn)
        screen = np.array([[width * cos, -height * sin, cx], [width * sin, height * cos, cy], [0, 0, 1]])
        shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
        keystone = np.array([[1, 0, 0], [0, 1, 0], [self.keystone * (1 + 0.3 * wave(3, 29)), 0.3 * self.keystone, 1]])
        return np.linalg.inv(screen @ keystone @ shift)


def room(random) -> np.ndarray:
    """Behind the screen, linear: a dim wall out of focus, with a few things."""
    coarse = random.uniform(0.05, 0.35, (5, 6, 1)) * random.uniform(0.8, 1.1, (1, 1, 3))
    image = Image.fromarray(encoded(coarse).astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return linear(np.asarray(image.filter(ImageFilter.GaussianBlur(6))))


def shown(setting: Setting, picture: Image.Image, u: np.ndarray, v: np.ndarray, frame: int) -> np.ndarray:
    """Light of the display at points of it (0 to 1)."""
    rows = int(setting.height * setting.pitch)
    columns = int(rows * setting.traits["aspect"])
    raster = linear(np.asarray(picture.resize((columns, rows), Image.Resampling.BICUBIC)))
    x, y = (u * columns).clip(0, columns - 1e-3), (v * rows).clip(0, rows - 1e-3)
    light = setting.black + setting.bright * raster[y.astype(int), x.astype(int)]
    if 2 * setting.pitch < setting.points:
        # Stripes a third wide and rows with a gap of 0.16, of each what a lens leaves: the first harmonic.
        stripes = 1 + 1.65 * np.cos(2 * np.pi * (x[..., None] - (np.arange(3) + 0.5) / 3))
        light = light * stripes * (1 + 0.365 * np.cos(2 * np.pi * (y - 0.5)))[..., None]
    bands, speed = setting.band
    wave = np.sin(2 * np.pi * (bands * v + speed * frame / 10))
    return light * (1 + setting.traits["band"] * wave[..., None]) * setting.tint


def softened(light: np.ndarray, sigma: float) -> np.ndarray:
    """A lens' blur: Gaussian, one axis after the other."""
    reach = math.ceil(2.5 * sigma)
    weights = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(light, padding, mode="edge")
        length = light.shape[axis]
        light = sum(weight * wide.take(range(at, at + length), axis) for at, weight in enumerate(weights))
    return light


def photograph(setting: Setting, picture: Image.Image, frame: int) -> Image.Image:
    points = setting.points
    x, y = np.meshgrid((np.arange(WIDTH * points) + 0.5) / points, (np.arange(HEIGHT * points) + 0.5) / points)
    to_screen = setting.corner_map(frame).astype(np.float32)
    w = to_screen[2, 0] * x + to_screen[2, 1] * y + to_screen[2, 2]
    u = (to_screen[0, 0] * x + to_screen[0, 1] * y + to_screen[0, 2]) / w
    v = (to_screen[1, 0] * x + to_screen[1, 1] * y + to_screen[1, 2]) / w
    edge_v = setting.traits["bezel"]
    edge_u = edge_v / setting.traits["aspect"]
    light = np.repeat(np.repeat(setting.room, points, 0), points, 1)
    housing = (u > -edge_u) & (u < 1 + edge_u) & (v > -edge_v) & (v < 1 + edge_v)
    light[housing] = 0.012
    display = (u >= 0) & (u < 1) & (v >= 0) & (v < 1)
    light[display] = shown(setting, picture, u[display], v[display], frame)
    # The glass reflects a window.
    gx, gy, radius, strength = setting.glare
    spot = strength * np.exp(-((u - gx) ** 2 + (v - gy) ** 2) / (2 * radius**2))
    light += np.where(housing, spot, 0)[..., None]
    blurred = softened(light.astype(np.float32), setting.blur)
    sensor = blurred.reshape(HEIGHT, points, WIDTH, points, 3).mean((1, 3))
    sensor *= 0.42 / max(np.percentile(sensor, 90), 1e-3)  # exposure
    pixels = encoded(sensor) + setting.random.normal(0, 2.0, sensor.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def replay(task: tuple[Path, str, int, Path]) -> None:
    import tomllib

    from recipe.runtime import Detector

    sequence, kind, variant, out = task
    bundle = TOP / "models/facenet"
    detector = Detector(str(bundle / "detector.onnx"), tomllib.loads((bundle / "bundle.toml").read_text())["detector"])
    frames = sorted(sequence.glob("*.jpg"))
    frames = frames[variant * len(frames) // VARIANTS:][:FRAMES]
    pictures = [Image.open(frame).convert("RGB") for frame in frames]
    faces = [face for face in map(detector.detect, pictures) if face]
    if not faces:
        return
    box = max(faces[0], key=lambda face: face.box[2] * face.box[3]).box
    setting = Setting(kind, zlib.crc32(f"{sequence.name} {kind} {variant}".encode()))
    folder = out / kind / sequence.parent.name / f"{sequence.name}-{variant}"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        shot = photograph(setting, cut(picture, box, setting.traits["aspect"]), number)
        shot.save(folder / f"{number:04}.jpg", quality=88)


def main(live: Path, out: Path) -> None:
    if out.resolve().is_relative_to(TOP):
        sys.exit("pictures of people are written outside the repository only")
    tasks = [
        (sequence, kind, variant, out)
        for sequence in sorted(live.glob("*/*")) for kind in KINDS for variant in range(VARIANTS)
    ]
    with ProcessPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(replay, tasks), 1):
            print(f"\r{done} of {len(tasks)} simulated replays", end="", file=sys.stderr)
    print(file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
