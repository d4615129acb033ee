import pytest
import tensorflow as tf

from aelab.system.tensorflow_errors import reason

GRAPH = """Graph execution error:

Detected at node Conv2D defined at (most recent call last):
  File "a.py", line 14, in <module>

<stack traces unavailable>
OOM when allocating tensor with shape[9] on GPU:0
\t [[{{node Conv2D}}]]
Hint: If you want to see a list of allocated tensors, see RunOptions.
 [Op:__inference_g_48]"""

SEVERAL = """2 root error(s) found.
  (0) INTERNAL:  cuDNN failed
\t [[{{node a}}]]
  (1) CANCELLED:  Function was cancelled
0 successful operations."""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (GRAPH, "not enough memory: OOM when allocating tensor with shape[9] on GPU:0"),
        (SEVERAL, "cuDNN failed"),
        ("{{function_node f}} No algorithm! [Op:Conv2D] name: ", "No algorithm!"),
        ("{{function_node f}} OOM on CPU:0 [Op:Fill]", "not enough memory: OOM on CPU"),
        ("Out of memory (20 bytes).\nmore", "not enough memory: Out of memory (20 by"),
        ("No space left on device", "No space left on device"),
        ("", "ResourceExhaustedError"),
    ],
)
def test_the_reason_is_one_line(message, expected):
    text = reason(tf.errors.ResourceExhaustedError(None, None, message))
    assert text.startswith(expected) and "\n" not in text


def test_the_reason_of_a_tensor_that_fits_into_no_memory():
    function = tf.function(lambda size: tf.reduce_sum(tf.fill([size, size], 1.0)))
    with pytest.raises(tf.errors.ResourceExhaustedError) as caught:
        function(tf.constant(2**30))  # TensorFlow waits ten seconds for memory
    assert reason(caught.value).startswith("not enough memory: OOM when allocating")


def test_other_exceptions_have_no_reason():
    assert reason(ValueError("a")) == reason(MemoryError()) == ""
