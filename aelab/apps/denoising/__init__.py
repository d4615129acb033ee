"""Takes noise out of picture files.

Files keep their name, format and alpha, and 8 or 16 bits; fewer than 8 bits become 8,
and palettes become colour. PNG (gray and colour, with and without alpha) keeps its
colour spaces, EXIF and texts; JPEG (gray, RGB; written at quality 95, 4:4:4) and WebP
(written without loss) keep EXIF, its orientation included, and colour profile; TIFF (8
bits, or 16 bits gray; written with Deflate, upright) keeps colour profile and
resolution; BMP (without alpha) has none.
"""

from aelab.apps.denoising.denoise import denoise_pictures

__all__ = ["denoise_pictures"]
