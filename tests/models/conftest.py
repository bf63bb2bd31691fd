import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Narrow networks gain nothing from a second thread, and on a busy machine it waits for the first by spinning."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
