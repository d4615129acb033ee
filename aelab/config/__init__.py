"""What a run is. The standard library only."""

from aelab.config.config import (
    FIELDS,
    Config,
    differences,
    field_type,
    from_json,
    parse_field,
    parse_object,
)

__all__ = [
    "FIELDS",
    "Config",
    "differences",
    "field_type",
    "from_json",
    "parse_field",
    "parse_object",
]
