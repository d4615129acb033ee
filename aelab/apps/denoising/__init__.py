"""Denoises picture files.

Files keep their name, format and alpha, and 8 or 16 bits; fewer than 8 bits become 8,
and palettes become color.

- PNG (gray and color, with and without alpha) keeps color space, EXIF and texts.
- JPEG (gray, RGB; written with quality 95, 4:4:4) and WebP (written losslessly) keep
  EXIF, its orientation included, and color profile.
- TIFF (8 or 16 bits; written with Deflate, upright) keeps color profile and
  resolution.
- BMP (without alpha) has no metadata.
- GIF (one frame) is written as PNG, as its palette could not hold the result.
"""

from aelab.apps.denoising.denoise import denoise_pictures

__all__ = ["denoise_pictures"]
