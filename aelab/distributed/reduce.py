"""Sums over the blocks of a batch and over the replicas of all workers."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def sum_over_replicas(tensors: Any) -> Any:
    """Sums a nest of float32 tensors over all replicas of all workers.

    One all-reduce sums all tensors. Each replica gets the result.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    flat = tf.nest.flatten(tensors)
    whole = tf.concat([tf.reshape(tensor, [-1]) for tensor in flat], axis=0)
    whole = context.all_reduce(tf.distribute.ReduceOp.SUM, whole)
    parts = tf.split(whole, [tensor.shape.num_elements() for tensor in flat])
    parts = [tf.reshape(p, t.shape) for p, t in zip(parts, flat, strict=True)]
    return tf.nest.pack_sequence_as(tensors, parts)


def first_replica(strategy: tf.distribute.Strategy, values: Any) -> Any:
    """The values of this worker's first replica, in a nest of values per replica.

    After `sum_over_replicas` all replicas of all workers hold the same.
    """
    local = strategy.experimental_local_results
    return tf.nest.map_structure(lambda value: local(value)[0], values)


def sum_over_blocks(function: Callable[[Any], Any], blocks: int, batch: Any) -> Any:
    """Applies `function` to each of several blocks of rows and sums the results.

    The blocks do not depend on each other, so TensorFlow can compute them in parallel.
    `batch` is a nest of tensors [rows, ...] and None, and `blocks` must divide `rows`.
    `function` takes such a nest with fewer rows and returns a nest of sums over rows.
    """
    if blocks == 1:
        return function(batch)
    flat = [
        [None] * blocks if tensor is None else tf.split(tensor, blocks)
        for tensor in tf.nest.flatten(batch)
    ]
    cut = [tf.nest.pack_sequence_as(batch, part) for part in zip(*flat, strict=True)]
    results = [function(block) for block in cut]
    return tf.nest.map_structure(lambda *each: tf.add_n(each), *results)
