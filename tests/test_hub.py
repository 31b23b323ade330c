import errno
import logging
import time

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from sam2track import hub
from sam2track.config import MODELS
from sam2track.errors import WeightsError
from sam2track.network.variants import VARIANTS, Network


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty Hugging Face cache."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


def put_in_cache(cache, repo, file, content=b"weights"):
    """A file as huggingface_hub stores it."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    path = folder / "snapshots" / commit / file
    path.write_bytes(content)
    return path


def problem(name):
    with pytest.raises(WeightsError) as caught:
        hub.find(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_registry_is_that_of_config_and_of_the_network():
    models = {model.name: model for model in hub.known()}
    assert tuple(models) == MODELS
    assert set(models) == set(VARIANTS)
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            network = Network(variant)
        assert models[name].parameters == sum(p.numel() for p in network.parameters()), name
        assert models[name].image_size == variant.image_size
    assert (models["sam2.1-base-plus"].repo, models["sam2.1-base-plus"].file) == (
        "facebook/sam2.1-hiera-base-plus",
        "sam2.1_hiera_base_plus.pt",
    )
    assert (models["sam2-tiny"].repo, models["sam2-tiny"].file) == ("facebook/sam2-hiera-tiny", "sam2_hiera_tiny.pt")


def test_a_cached_file_needs_no_network(cache, monkeypatch):
    assert not hub.is_cached("sam2.1-tiny")
    path = put_in_cache(cache, "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: pytest.fail("went to the network"))
    assert hub.find("sam2.1-tiny") == path
    assert hub.is_cached("sam2.1-tiny")
    assert not hub.is_cached("sam2-tiny")


def test_a_file_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"x")
    assert hub.find(path) == path
    assert hub.find(str(path)) == path


def test_names_that_are_not_known():
    assert "did you mean 'sam2.1-tiny'" in problem("sam2.1-tny")
    with pytest.raises(WeightsError, match="neither a file nor a model"):
        hub.is_cached("missing.pt")


def test_a_missing_bundled_model_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "files", lambda package: tmp_path)
    assert "reinstall" in problem("nano")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "nano.safetensors").write_bytes(b"x")
    assert hub.find("nano") == tmp_path / "weights" / "nano.safetensors"


def test_a_download_is_asked_for_and_returned(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked.append)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, file: str(tmp_path / repo / file))
    assert hub.find("sam2-base-plus") == tmp_path / "facebook/sam2-hiera-base-plus/sam2_hiera_base_plus.pt"
    assert len(asked) == 1
    assert asked[0].endswith("facebook/sam2-hiera-base-plus/resolve/main/sam2_hiera_base_plus.pt")


def test_without_a_connection_it_fails_at_once_and_says_how_to_do_it_by_hand(monkeypatch, caplog):
    """A real request, to a port where nobody listens."""
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        message = problem("sam2.1-tiny")
    assert time.monotonic() - start < 5
    assert "no connection" in message
    assert "--weights sam2.1_hiera_tiny.pt" in message
    assert 'weights = "sam2.1_hiera_tiny.pt"' in message
    assert not caplog.records


def test_offline_mode_is_named(monkeypatch):
    def refuse(url):
        raise huggingface_hub.errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    assert "HF_HUB_OFFLINE is set" in problem("sam2-large")


def test_a_full_disk_is_named(monkeypatch):
    def full(repo, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    assert "the disk is full" in problem("sam2-large")


@pytest.mark.parametrize(
    ("status", "words"), [(401, "401 (access refused"), (404, "404 (not found"), (503, "503 (server")]
)
def test_answers_of_the_server_are_named(monkeypatch, status, words):
    class Response:
        status_code = status

    def refuse(url):
        error = huggingface_hub.errors.HfHubHTTPError.__new__(huggingface_hub.errors.HfHubHTTPError)
        error.response = Response()
        raise error

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    assert words in problem("sam2-large")
