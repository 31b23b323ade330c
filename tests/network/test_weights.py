import contextlib
import pickle
import random
import zipfile

import pytest
import torch

from sam2track.errors import WeightsError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network(VARIANTS["nano"], 64)


@pytest.fixture(scope="module")
def official(network):
    return {name: value.detach() for name, value in weights.to_official(network.state_dict()).items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("wrapped", [True, False])
def test_pt_and_safetensors_round_trip(tmp_path, network, official, wrapped):
    torch.save({"model": official} if wrapped else official, tmp_path / "model.pt")
    weights.save(network, tmp_path / "model.safetensors")
    for name in ("model.pt", "model.safetensors"):
        other = Network(VARIANTS["nano"], 64)
        weights.load(other, tmp_path / name)
        assert not other.training
        assert same(other.state_dict(), network.state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "model.safetensors"]


def test_half_precision_files_load_as_fp32(tmp_path, network):
    weights.save(network, tmp_path / "half.safetensors", torch.float16)
    other = Network(VARIANTS["nano"], 64)
    weights.load(other, tmp_path / "half.safetensors")
    assert all(value.dtype == torch.float32 for value in other.state_dict().values())
    before, after = (n.mask_decoder.mask_tokens for n in (network, other))
    assert torch.allclose(before, after, atol=1e-3)


def test_rotary_rows_are_split_in_halves_and_back():
    rows = torch.arange(8.0)
    assert weights.to_half_split(rows).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    assert torch.equal(weights.to_interleaved(weights.to_half_split(rows)), rows)


def test_every_variant_maps_to_official_names_and_back():
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            state = Network(variant).state_dict()
        back = weights.to_ours(weights.to_official(state))
        assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}, name


def test_faults_are_named(tmp_path, official):
    missing = {name: value for name, value in official.items() if name != "no_obj_ptr"}
    unexpected = {**official, "extra.weight": torch.zeros(1)}
    misshapen = {**official, "no_obj_ptr": torch.zeros(1, 7)}
    for state, message in (
        (missing, r"1 missing \(first: no_obj_ptr\)"),
        (unexpected, r"1 unexpected \(first: extra.weight\)"),
        (misshapen, r"1 misshapen \(first: no_obj_ptr is \[1, 7\], expected \[1, 128\]\)"),
    ):
        torch.save({"model": state}, tmp_path / "model.pt")
        with pytest.raises(WeightsError, match=message):
            weights.load(Network(VARIANTS["nano"], 64), tmp_path / "model.pt")


def test_weights_of_another_model_are_recognised(tmp_path, official):
    torch.save({"model": official}, tmp_path / "model.pt")
    with torch.device("meta"):
        tiny = Network(VARIANTS["sam2.1-tiny"])
    with pytest.raises(WeightsError, match="are those of nano, not of the model asked for; use model 'nano'"):
        weights.load(tiny, tmp_path / "model.pt")


def test_files_that_are_no_checkpoints(tmp_path, official):
    torch.save({"model": official}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "truncated.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not a checkpoint\n" * 20)
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "html.safetensors").write_text("<html>not found</html>")
    torch.save({"model": {"step": 3}}, tmp_path / "odd.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, message in (
        ("truncated.pt", "damaged or truncated"),
        ("text.pt", "not a PyTorch checkpoint"),
        ("empty.pt", "empty file"),
        ("html.safetensors", "not a whole safetensors file"),
        ("odd.pt", "hold no state dict"),
        ("list.pt", "hold no state dict"),
        ("nowhere.pt", "do not exist"),
    ):
        with pytest.raises(WeightsError, match=message):
            weights.read(tmp_path / name)


def test_numbers_of_another_kind_are_named(tmp_path, official):
    pointer = official["no_obj_ptr"]
    for odd, message in (
        (pointer.to_sparse(), "hold no_obj_ptr as float32, sparse_coo, cpu; expected a plain float tensor"),
        (pointer.to("meta"), "float32, strided, meta"),
        (pointer.to(torch.complex64), "complex64, strided, cpu"),
        (pointer * torch.nan, r"numbers that are not finite \(first: no_obj_ptr\)"),
    ):
        torch.save({"model": {**official, "no_obj_ptr": odd}}, tmp_path / "model.pt")
        with pytest.raises(WeightsError, match=message):
            weights.load(Network(VARIANTS["nano"], 64), tmp_path / "model.pt")


def test_checkpoints_of_something_else_are_told_so():
    counted = {"bn1.weight": torch.ones(3), "bn1.num_batches_tracked": torch.tensor(5)}
    with pytest.raises(WeightsError, match=r"do not fit the model: \d+ missing"):
        weights.load_official(Network(VARIANTS["nano"], 64), counted)


def test_eight_bit_floats_load(official):
    network = Network(VARIANTS["nano"], 64)
    weights.load_official(network, {name: value.to(torch.float8_e4m3fn) for name, value in official.items()})
    assert weights.to_official(network.state_dict())["no_obj_ptr"].equal(
        official["no_obj_ptr"].to(torch.float8_e4m3fn).float()
    )


def test_a_checkpoint_that_grows_in_memory_is_refused(tmp_path):
    torch.save({"model": {"zeros": torch.zeros(10**6)}}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in plain.namelist():
            small.writestr(entry, plain.read(entry))
    assert weights.read(tmp_path / "plain.pt")["zeros"].shape == (10**6,)
    with pytest.raises(WeightsError, match="are compressed, which is refused as unsafe"):
        weights.read(tmp_path / "small.pt")


def test_a_forged_checkpoint_raises_nothing_else(tmp_path):
    torch.save({"model": {"a": torch.zeros(3), "b": torch.ones(2, 2)}}, tmp_path / "whole.pt")
    whole, dice = (tmp_path / "whole.pt").read_bytes(), random.Random(0)
    for _ in range(300):
        forged = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            forged[dice.randrange(len(forged))] = dice.randrange(256)
        (tmp_path / "forged.pt").write_bytes(forged)
        with contextlib.suppress(WeightsError):
            weights.read(tmp_path / "forged.pt")


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_with_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="refused as unsafe"):
        weights.read(tmp_path / "bomb.pt")
    with pytest.raises(WeightsError):
        weights.read(tmp_path / "plain.pt")
    assert capsys.readouterr().out == ""
