import json

import pytest

from aelab.errors import UsageError
from aelab.system.optional import install_command, require


def test_an_installed_library_is_imported():
    assert require("json", extra="report") is json


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    with pytest.raises(UsageError) as error:
        require("no_such_library.part", extra="report")
    assert "no_such_library" in str(error.value)
    assert "part" not in str(error.value)
    assert install_command("report") in str(error.value)
    assert "'.[report]'" in install_command("report")
