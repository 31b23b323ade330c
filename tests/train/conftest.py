import pytest

from tests.train.material import davis_folder, plain_assets


@pytest.fixture(scope="session")
def assets():
    return plain_assets()


@pytest.fixture(scope="session")
def davis(tmp_path_factory):
    return davis_folder(tmp_path_factory.mktemp("davis"))
