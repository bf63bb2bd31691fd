import pytest


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """One exports folder for all tests that only read what is in it: what exists is not exported again."""
    return tmp_path_factory.mktemp("exports")
