"""Denoises picture files with the model of a run."""

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from aelab.apps.denoising.denoiser import Denoiser
from aelab.apps.denoising.files import read_picture, write_comparison, write_picture
from aelab.apps.denoising.jobs import Job, plan_jobs
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.system import tensorflow_errors
from aelab.system.console import warn
from aelab.system.files import DISK_ERRORS, writing


def denoise_pictures(
    run_dir: str,
    inputs: Sequence[str],
    output: str,
    checkpoint: str = "best",
    compare: bool = False,
    model: str = "",
    overwrite: bool = False,
    white_level: int | None = None,
    precision: str | None = None,
    ensemble: bool = False,
) -> tuple[int, int]:
    """Denoises picture files into another folder; the originals stay as they are.

    Pictures are denoised as given; no noise is added. A picture that can't be denoised
    is reported on standard error, and the others are still denoised. Returns the number
    of pictures that were denoised, and the number that could not be. For the arguments
    see `RunDirectory`, `plan_jobs`, `load_trained` and `Denoiser`.

    Raises:
      UsageError: `plan_jobs`, `load_trained` or `Denoiser` raises it, or the output
        folder can't be created or written. No picture is written then.
      OSError: the disk is full or fails.
    """
    jobs = plan_jobs(inputs, output, compare, overwrite)
    trained = load_trained(RunDirectory(run_dir), checkpoint, model)
    denoiser = Denoiser(
        trained,
        white_level=white_level,
        precision=precision or "float32",
        ensemble=ensemble,
    )
    with writing(f"--output={output}"):
        os.makedirs(output, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()  # files can be written into it
    failed, values = 0, [0]
    for job in tqdm(jobs, unit="picture", disable=None, dynamic_ncols=True):
        if reason := _denoise(denoiser, job, values):
            failed += 1
            warn(f"{job.source}: {reason}", kind="error")
    if 0 < max(values) < (white := denoiser.peaks["uint16"]) / 16:
        warn(
            f"the largest value in 16-bit pictures is {max(values)}, and white is "
            f"{white}, so they are nearly black: give the value of white with "
            "--white_level, for example 4095 for 12 bits"
        )
    return len(jobs) - failed, failed


def _denoise(denoiser: Denoiser, job: Job, values: list[int]) -> str:
    """Does one job; returns the reason if that fails, else an empty text.

    Adds the largest value of a 16-bit picture, without alpha, to `values`.
    """
    try:
        picture = read_picture(job.source)
        # `plan_jobs` goes by the name.
        if job.source.lower().endswith(".gif") and picture.format != "PNG":
            return f"it is {picture.format} and not GIF, as its name says: rename it"
        if picture.pixels.dtype == np.uint16:
            colors = (picture.pixels.shape[2] + 1) // 2 * 2 - 1
            values.append(int(picture.pixels[..., :colors].max()))
        # Without a comparison the old pixels are freed: encoding needs memory, too.
        before = picture.pixels if job.comparison else None
        picture = picture._replace(pixels=denoiser.denoise(picture.pixels))
        os.makedirs(os.path.dirname(job.target), exist_ok=True)
        write_picture(job.target, picture)
        if before is not None:
            write_comparison(job.comparison, before, picture)
    except MemoryError:
        return "there is not enough memory for it"
    except tf.errors.OpError as error:
        return tensorflow_errors.reason(error)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        return str(error)
    return ""
