"""Real data sets, a server that publishes them on this machine, and no way to the user's own cache."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CHOSEN = os.environ.get("INFOHEBB_DATA")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.delenv("INFOHEBB_DATA", raising=False)
    monkeypatch.setenv("INFOHEBB_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return cache


def prepare(out: Path, *data_sets: str) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"the real data sets are not on this machine: no folder {SHARED}")
    subprocess.run([sys.executable, str(SHARED / "prepare.py"), str(out), *data_sets], check=True, capture_output=True)


@pytest.fixture(scope="session")
def idx_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with MNIST, Fashion-MNIST and, but for its training images, Kuzushiji-MNIST."""
    out = tmp_path_factory.mktemp("idx")
    prepare(out, "mnist", "fashion_mnist", "kmnist")
    yield out
    shutil.rmtree(out)


@pytest.fixture(scope="session")
def cifar_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with CIFAR-10: the user's, if INFOHEBB_DATA has it."""
    if CHOSEN and (Path(CHOSEN) / "cifar-10-batches-py").is_dir():
        yield Path(CHOSEN)
        return
    out = tmp_path_factory.mktemp("cifar")
    prepare(out, "cifar10")
    yield out
    shutil.rmtree(out)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder and the address at which it is published."""
    folder = tmp_path / "published"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()
