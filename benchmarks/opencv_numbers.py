"""What OpenCV makes of one picture: the numbers that `tests/train/data/augment/test_opencv.py` holds ours against.

    python -m venv /tmp/opencv && /tmp/opencv/bin/pip install opencv-python-headless
    /tmp/opencv/bin/python benchmarks/opencv_numbers.py

OpenCV is no dependency of the project: its numbers are typed into the test. They are of the picture whose pixel at row y, column
x and channel c is (37 y + 91 x + 53 c + 7 x y) mod 256 of 255, at six of its pixels.
"""

import importlib
from typing import Any

import numpy as np

PIXELS = ((0, 0), (0, 111), (111, 5), (50, 60), (111, 111), (3, 2))


def main() -> None:
    """Print each operation's numbers."""
    cv2: Any = importlib.import_module("cv2")
    y, x, c = np.mgrid[0:112, 0:112, 0:3]
    picture_HWC = (((37 * y + 91 * x + 53 * c + 7 * x * y) % 256) / 255).astype(np.float32)
    print(f"OpenCV {cv2.__version__}")
    for sigma in (0.1, 0.8, 2.0):
        blurred = cv2.GaussianBlur(picture_HWC.astype(np.float64), (11, 11), sigma, borderType=cv2.BORDER_REFLECT_101)
        print(f"blur, sigma {sigma}: {at(blurred)}")
    hsv_HWC = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2HSV)
    for turn in (-0.2, 0.07, 0.2):
        turned = hsv_HWC.copy()
        turned[..., 0] = (turned[..., 0] + 360 * turn) % 360
        print(f"hue, {turn} of the circle: {at(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB))}")
    print(f"grey: {at(cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2GRAY))}")
    piece_HW = picture_HWC[20:84, 10:90, 0].astype(np.float64)
    cubic = cv2.resize(piece_HW, (112, 112), interpolation=cv2.INTER_CUBIC)
    print(f"rows 20 to 83, columns 10 to 89 of red to 112 x 112, cubic: {at(cubic.clip(0, 1))}")
    larger = cv2.resize(picture_HWC.astype(np.float64), (171, 128), interpolation=cv2.INTER_LINEAR)
    print(f"to 128 x 171, linear: {at(larger)}")


def at(image: np.ndarray) -> list[Any]:
    """The values of six pixels, to six decimals."""
    return [np.round(image[pixel].astype(np.float64), 6).tolist() for pixel in PIXELS]


if __name__ == "__main__":
    main()
