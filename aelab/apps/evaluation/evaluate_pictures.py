"""Evaluates a denoiser on whole pictures, as the literature on denoising does.

With `evaluate_pictures` noise is added to the clean pictures of a folder, and with
`evaluate_pairs` the noise is in the files.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.denoising.denoiser import Denoiser
from aelab.apps.evaluation.baselines import is_installed
from aelab.apps.evaluation.picture_baselines import PICTURE_BASELINES, PictureBaseline
from aelab.apps.evaluation.picture_quality import Quality, picture_quality
from aelab.apps.evaluation.picture_result import PictureEvaluation, PictureLevel
from aelab.apps.evaluation.picture_sets import (
    Pair,
    Reader,
    check_pairs,
    noisy_pictures,
    pair_stems,
    picture_names,
    picture_pairs,
)
from aelab.apps.evaluation.picture_table import picture_table
from aelab.config import Config
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.system.console import say, warn
from aelab.system.files import NOT_WRITABLE, write_bytes


class Options(NamedTuple):
    """How to evaluate on pictures.

    Attributes:
      checkpoint: `best` or `latest`.
      model: the run's `--model`, if it is not built in.
      ensemble: as in `Denoiser`.
      precision: the arithmetic; None is the run's.
      baselines: whether to compute the baselines.
    """

    checkpoint: str = "best"
    model: str = ""
    ensemble: bool = False
    precision: str | None = None
    baselines: bool = True


# A level's configuration, None for pairs, and the pictures with its noise.
_Level = tuple[Config | None, Callable[[], Iterable[Pair]]]


def evaluate_pictures(
    run_dir: str,
    folder: str,
    stddevs: Sequence[float] | None = None,
    clip: bool | None = None,
    options: Options | None = None,
) -> PictureEvaluation:
    """Evaluates on the pictures of a folder with Gaussian noise.

    The added noise is correlated as the run's is. Other corruptions of the run are not
    added, with a warning.

    Args:
      run_dir: the run.
      folder: the pictures, each whole, in byte order of their names.
      stddevs: levels of noise; None or empty is the run's, or those ends of its range
        that are above 0.
      clip: whether noisy values are clipped to [0, 1]; None is as in the run.
      options: see `Options`.

    Raises:
      UsageError: no such run, checkpoint, or pictures, or they do not fit the model.
      OSError: the disk is full or fails.
    """
    names = picture_names(folder, "pictures")
    session = _Session(run_dir, options or Options())
    for name in names:
        session.reader.check(os.path.join(folder, name))
    configs = _levels(session.config, stddevs, clip)
    if others := set(session.config.corruptions()) - {"gaussian", "none"}:
        left_out = ", ".join(sorted(others))
        warn(f"only Gaussian noise is added, not {left_out} of the run's --corruption")
    levels: list[_Level] = [
        (c, functools.partial(noisy_pictures, folder, names, session.reader, c))
        for c in configs
    ]
    return session.evaluate(folder, levels, len(names))


def evaluate_pairs(
    run_dir: str, folder: str, noisy: str, clean: str, options: Options | None = None
) -> PictureEvaluation:
    """Evaluates on the pairs `NAME + noisy` and `NAME + clean` of a folder.

    See `evaluate_pictures` for the other arguments and the errors.
    """
    stems = pair_stems(folder, noisy, clean)
    session = _Session(run_dir, options or Options())
    pairs = folder, stems, session.reader, (noisy, clean)
    check_pairs(*pairs)
    read = functools.partial(picture_pairs, *pairs)
    return session.evaluate(folder, [(None, read)], len(stems))


class _Session:
    """A run's model, and how it is to be evaluated."""

    def __init__(self, run_dir: str, options: Options):
        self._run, self._options = RunDirectory(run_dir), options
        trained = load_trained(self._run, options.checkpoint, options.model)
        self.config, self._step = trained.config, trained.step
        self._precision = options.precision or self.config.precision
        self._denoiser = Denoiser(
            trained, precision=self._precision, ensemble=options.ensemble
        )
        self.reader = Reader(trained.image_shape[2], self.config.white_level)

    def evaluate(
        self, folder: str, levels: Sequence[_Level], count: int
    ) -> PictureEvaluation:
        """Evaluates at each level, with a progress bar, and keeps the result."""
        wanted = PICTURE_BASELINES if self._options.baselines else {}
        libraries = {library for each in wanted.values() for library in each.libraries}
        missing = {library for library in libraries if not is_installed(library)}
        usable = {n: b for n, b in wanted.items() if missing.isdisjoint(b.libraries)}
        total = len(levels) * count * (1 + len(usable))
        with tqdm(total=total, disable=None, dynamic_ncols=True, leave=False) as bar:
            results = [
                _evaluate_level(self._denoiser, read(), usable, config, bar)
                for config, read in levels
            ]
        name = os.path.basename(os.path.abspath(folder))
        result = PictureEvaluation(
            name,
            self._options.checkpoint,
            self._step,
            count,
            self._options.ensemble,
            self._precision,
            results,
            sorted(missing),
        )
        self._keep(result)
        return result

    def _keep(self, result: PictureEvaluation) -> None:
        """Writes the result into the run directory; warns if that may only be read.

        If the disk fails, the table is printed before the error is raised.
        """
        ending, run_dir = "-ensemble" if result.ensemble else "", self._run.path
        path = os.path.join(run_dir, f"evaluation-{result.folder}{ending}.json")
        try:
            write_bytes(path, result.to_json().encode())
        except OSError as error:
            if error.errno not in NOT_WRITABLE:
                say(picture_table(result))
                raise
            warn(
                f"--run_dir={run_dir} can't be written, the result is not kept: {error}"
            )


def _levels(
    config: Config, stddevs: Sequence[float] | None, clip: bool | None
) -> list[Config]:
    """The configurations of the noise, see `evaluate_pictures`."""
    own = dict.fromkeys((config.noise_stddev, config.noise_stddev_max))
    levels = list(stddevs) if stddevs else [level for level in own if level]
    if not levels:
        raise UsageError(
            "--noise_stddevs is missing: the run has no Gaussian noise whose level "
            "could be used"
        )
    return [
        Config(
            noise_stddev=level,
            noise_clip=config.noise_clip if clip is None else clip,
            noise_correlation=config.noise_correlation,
        )
        for level in levels
    ]


def _evaluate_level(
    denoiser: Denoiser,
    pairs: Iterable[Pair],
    baselines: Mapping[str, PictureBaseline],
    config: Config | None,
    bar: tqdm,
) -> PictureLevel:
    names: list[str] = []
    results: dict[str, list[Quality]] = {}
    stddev = config.noise_stddev if config else None

    def measure(method: str, clean: np.ndarray, output: np.ndarray) -> None:
        """Adds the quality of a picture."""
        quality = picture_quality(clean, output, clamped=method != "input")
        results.setdefault(method, []).append(quality)

    for name, noisy, clean in pairs:
        names.append(name)
        bar.set_description(name)
        measure("input", clean, noisy)
        measure("output", clean, denoiser.denoise(noisy))
        bar.update()
        for method, baseline in baselines.items():
            bar.set_description(f"{name}: {method}")
            measure(method, clean, baseline.restore(noisy, clean, stddev))
            bar.update()
    means = {
        method: Quality(*np.mean(qualities, axis=0).tolist())._asdict()
        for method, qualities in results.items()
    }
    outputs = zip(names, results["output"], strict=True)
    return PictureLevel(
        stddev,
        config.noise_clip if config else None,
        config.noise_correlation if config else None,
        **means["output"],
        input_psnr=means["input"]["psnr"],
        input_ssim=means["input"]["ssim"],
        each=[{"name": name, **quality._asdict()} for name, quality in outputs],
        baselines={name: means[name] for name in baselines},
    )
