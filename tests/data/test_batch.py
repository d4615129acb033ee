from test_pipeline import CONFIG, numbered_source

from aelab.data.batch import Batch, EvalBatch
from aelab.data.pipeline import make_eval_dataset, make_train_dataset


def test_batches_have_named_parts():
    source = numbered_source(50)
    plain, dithered = (
        Batch(*next(iter(make_train_dataset(source, CONFIG, 0, dither_size=size))))
        for size in (0, 6)
    )
    assert plain.dither is None
    assert dithered.dither.shape == (CONFIG.batch_size, 6)
    evaluated = EvalBatch(*next(iter(make_eval_dataset(source, CONFIG))))
    assert evaluated.weights.shape == (CONFIG.batch_size,)
    assert evaluated.target is evaluated.masked is evaluated.mask is None
