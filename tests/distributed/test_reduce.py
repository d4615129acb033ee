"""promises/test_replicas.py has sums over replicas in training."""

import pytest
import tensorflow as tf

from aelab.distributed.reduce import first_replica, sum_over_blocks, sum_over_replicas


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_sums_over_blocks_are_sums_over_all_rows(blocks):
    rows = tf.reshape(tf.range(30.0), [10, 3])

    def function(batch):
        one, two, nothing = batch
        assert nothing is None
        return {"sum": tf.reduce_sum(one * two, axis=0)}, [tf.reduce_sum(two)]

    (named, (total,)) = sum_over_blocks(function, blocks, (rows, rows + 1, None))
    assert named["sum"].numpy().tolist() == [2700.0, 2990.0, 3300.0]
    assert float(total) == 465.0


def test_sums_over_replicas_are_one_all_reduce_of_any_nest():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def sums():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        value = tf.cast(number, tf.float32) + 1.0
        return sum_over_replicas({"a": value, "b": [tf.fill([2, 3], value)]})

    @tf.function(autograph=False)
    def run():
        return first_replica(strategy, strategy.run(sums))

    found = run()
    assert float(found["a"]) == 3.0
    assert found["b"][0].numpy().tolist() == [[3.0] * 3] * 2
    graph = run.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    assert sum(node.op == "CollectiveReduceV2" for node in nodes) <= 2
