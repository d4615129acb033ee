"""The configuration of a run. The standard library only.

config = Config(model="dense", encoding_dim=32, epochs=50)
"""

from aelab.config.config import FIELDS, Config, field_type, parse_field
from aelab.config.fields import is_function, is_storable, to_text
from aelab.config.saved import (
    FORMAT,
    check_format,
    differences,
    from_json,
    parse_object,
)

__all__ = [
    "FIELDS",
    "FORMAT",
    "Config",
    "check_format",
    "differences",
    "field_type",
    "from_json",
    "is_function",
    "is_storable",
    "parse_field",
    "parse_object",
    "to_text",
]
