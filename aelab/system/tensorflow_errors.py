"""Errors of TensorFlow's runtime in one line. Does not import TensorFlow."""

import re
import sys

# Around the reason: operations, Python's stack, places in the graph, advice.
_OPERATION = re.compile(r"\{\{.*?\}\} | \[Op:.*", re.DOTALL)
_NUMBER = re.compile(r"\s*\(\d+\) [A-Z_]+: ")  # of one of several root errors
_AROUND = re.compile(
    r"Graph execution error|Detected at |\d+ root error|Hint: |<stack traces|  File "
    r"|    |\t|\s*$"
)


def reason(error: BaseException) -> str:
    """The reason of a `tf.errors.OpError` in one line, "" for any other exception."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return ""
    lines = _OPERATION.sub("", error.message).splitlines()
    reasons = [_NUMBER.sub("", line) for line in lines if not _AROUND.match(line)]
    text = reasons[0].strip() if reasons else type(error).__name__
    is_memory = re.match("OOM|Out of memory", text, re.IGNORECASE)
    return f"not enough memory: {text}" if is_memory else text
