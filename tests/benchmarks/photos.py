"""Photographs of any size, made of two real ones: crops, turned into JPEGs."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

QUALITY = 85


def photos(count: int, width: int, height: int) -> Iterator[bytes]:
    """Yield distinct JPEGs: random crops of two photographs, scaled to (width, height)."""
    generator = np.random.default_rng(0)
    from sklearn.datasets import load_sample_images

    originals = [Image.fromarray(array) for array in load_sample_images().images]
    for number in range(count):
        original = originals[number % 2]
        share = generator.uniform(0.6, 1.0)
        crop = share * original.width, share * original.height
        left = generator.uniform(0, original.width - crop[0])
        top = generator.uniform(0, original.height - crop[1])
        box = (left, top, left + crop[0], top + crop[1])
        picture = original.resize((width, height), Image.Resampling.BICUBIC, box=box)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        yield buffer.getvalue()
