"""A run learns, leaves what it should, and goes on exactly where it was."""

import zlib
from dataclasses import replace

import pytest
import torch

from sam2track.errors import ConfigError, Sam2TrackError, WeightsError
from sam2track.network import weights
from sam2track.network.variants import VARIANTS, Network
from sam2track.train import checkpoint
from sam2track.train.clips import make_clips
from sam2track.train.evaluate import held_out_scores
from sam2track.train.launch import processors
from sam2track.train.log import LOG
from sam2track.train.loop import WEIGHTS, Run, Trainer
from sam2track.train.optimiser import learning_rate, parameter_groups
from sam2track.train.recipe import RECIPES, adapted
from tests.train.material import SMOKE, cpu, one_stage


class StopError(Exception):
    pass


def trainer(assets, out, judge=None, supply=None, stop=lambda: False, **changes):
    run = replace(Run("nano", SMOKE, out, seed=3, log_every=1, evaluate_every=2), **changes)
    return Trainer(run, cpu(), supply or (lambda *wanted: make_clips(assets, *wanted)), judge, stop)


def quiet(line):
    pass


@pytest.mark.parametrize("compact", [False, True])
def test_a_resumed_run_gives_the_same_weights(assets, tmp_path, compact):
    whole = trainer(assets, tmp_path / "whole", compact=compact)
    whole.train(quiet)
    first = trainer(assets, tmp_path / "parts", compact=compact)
    assert not first.resume()

    def stop(line):
        if line.startswith("step 3 "):  # a step past the checkpoint, of another image size
            raise StopError

    with pytest.raises(StopError):
        first.train(stop)
    second = trainer(assets, tmp_path / "parts", compact=compact)
    assert second.resume()
    assert second.step == 2
    second.train(quiet)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name
    steps = [line.split(",")[0] for line in (tmp_path / "parts" / LOG).read_text().splitlines()]
    assert steps == ["step", "1", "2", "3", "4"]


def test_an_imitating_run_resumes_with_the_heads_it_had(assets, tmp_path):
    recipe = one_stage(1, steps=2, imitate=1.0)
    first = trainer(assets, tmp_path, recipe=recipe)
    first.train(quiet)
    second = trainer(assets, tmp_path, recipe=recipe)
    assert second.resume()
    heads = second.imitation.state_dict()
    assert all(torch.equal(value, heads[name]) for name, value in first.imitation.state_dict().items())
    assert any(value.abs().max() > 0 for name, value in heads.items() if name.endswith("weight"))


def test_bf16_on_a_cpu_learns_what_fp32_does_by_plain_attention(assets, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        run = Run("nano", one_stage(1, steps=1), tmp_path / precision, seed=3, precision=precision, log_every=1)
        learner = Trainer(run, processors("cpu", 1, precision), lambda *wanted: make_clips(assets, *wanted))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            losses[precision] = float(learner._learn(1e-3))
        fused = any("flash_attention" in event.key for event in profile.key_averages())
        assert fused == (precision == "fp32")
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()


def test_a_run_leaves_weights_a_log_curves_and_pieces(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE", 10 << 20)
    lines = []
    run = trainer(assets, tmp_path, judge=lambda net: held_out_scores(net, assets, clips=4), compact=True)
    run.train(lines.append)
    pieces = sorted(path.name for path in tmp_path.glob("checkpoint*"))
    assert len(pieces) >= 2
    assert pieces == [f"checkpoint-00000004-{i}of{len(pieces)}.pt" for i in range(1, len(pieces) + 1)]
    assert max(path.stat().st_size for path in tmp_path.glob("checkpoint*")) <= 10 << 20
    assert len((tmp_path / LOG).read_text().splitlines()) == 1 + 4
    assert list((tmp_path / "curves").iterdir())
    assert "frames_per_s" in lines[-1]
    scores = dict(pair.split(" ") for pair in lines[-1].split("  of ")[0].split("  "))
    assert all(0 <= float(scores[name]) <= 1 for name in ("click", "box", "mask_jf", "click_jf", "presence"))
    network = Network(VARIANTS["nano"])
    weights.load(network, tmp_path / WEIGHTS)
    assert torch.equal(network.mask_decoder.iou_token, run.average["mask_decoder.iou_token"])


def test_a_run_stops_when_its_minutes_are_over(assets, tmp_path):
    run = trainer(assets, tmp_path, minutes=0.0)
    run.train(quiet)
    assert run.step == 1
    assert checkpoint.read(tmp_path)["step"] == 1


def test_a_run_that_is_stopped_loses_no_step(assets, tmp_path):
    whole = trainer(assets, tmp_path / "whole")
    whole.train(quiet)
    lines = []
    first = trainer(assets, tmp_path / "parts", log_every=100, evaluate_every=100, stop=lambda: first.step == 3)
    first.train(lines.append)
    assert (first.step, len(lines)) == (3, 1)
    second = trainer(assets, tmp_path / "parts")
    assert second.resume()
    assert second.step == 3
    second.train(quiet)
    for name, value in whole.average.items():
        assert torch.equal(value, second.average[name]), name


def test_a_run_that_is_stopped_is_not_scored(assets, tmp_path):
    run = trainer(assets, tmp_path, judge=lambda network: pytest.fail("scored"), stop=lambda: True)
    run.train(quiet)
    assert checkpoint.read(tmp_path)["step"] == 1


def test_a_damaged_log_is_begun_anew(assets, tmp_path):
    (tmp_path / LOG).write_bytes(b"step,\xff\n\xc6\x00,1\n")
    trainer(assets, tmp_path, stop=lambda: True).train(quiet)
    assert [line.split(",")[0] for line in (tmp_path / LOG).read_text().splitlines()] == ["step", "1"]


def test_one_clip_is_learned_by_heart(assets, tmp_path):
    fixed = make_clips(assets, SMOKE.stages[1].style, 2, 1)
    losses = []
    recipe = one_stage(1, steps=16, taught=0.0)
    run = trainer(assets, tmp_path, supply=lambda *_: fixed, recipe=recipe, evaluate_every=100)
    run.train(lambda line: losses.append(float(line.split("loss ")[1].split()[0])))
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4])


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(assets, tmp_path):
    def broken(*wanted):
        clips = make_clips(assets, *wanted)
        clips.frames[:] = float("nan")
        return clips

    with pytest.raises(Sam2TrackError, match="loss is nan by step 1"):
        trainer(assets, tmp_path, supply=broken).train(quiet)
    assert checkpoint.read(tmp_path) is None
    assert not (tmp_path / WEIGHTS).exists()


def test_a_checkpoint_of_another_model_is_refused(assets, tmp_path):
    checkpoint.write({"step": 1, "model": "sam2.1-tiny"}, tmp_path, compact=False)
    with pytest.raises(ConfigError, match=r"is of sam2\.1-tiny, not of nano"):
        trainer(assets, tmp_path).resume()
    checkpoint.write({"step": 1}, tmp_path, compact=False)
    with pytest.raises(WeightsError, match="lacks average; remove it"):
        trainer(assets, tmp_path).resume()
    (tmp_path / checkpoint.WHOLE).write_bytes(b"half")
    with pytest.raises(WeightsError, match="is damaged"):
        trainer(assets, tmp_path).resume()


def test_a_checkpoint_of_another_recipe_is_refused(assets, tmp_path):
    trainer(assets, tmp_path, stop=lambda: True).train(quiet)
    longer = adapted(SMOKE, length=2)
    with pytest.raises(ConfigError, match=r"of another recipe: stages\.0\.steps is 2 there and 4 here; give the same"):
        trainer(assets, tmp_path, recipe=longer).resume()
    with pytest.raises(ConfigError, match="of another recipe: stages is 2 there and 1 here"):
        trainer(assets, tmp_path, recipe=one_stage(0)).resume()
    state = checkpoint.read(tmp_path)
    del state["recipe"]  # as checkpoints were before
    checkpoint.write(state, tmp_path, compact=False)
    assert trainer(assets, tmp_path, recipe=longer).resume()


def test_the_newest_checkpoint_whose_pieces_are_all_there_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PIECE", 500)
    checkpoint.write({"step": 1, "x": torch.arange(900.0)}, tmp_path, compact=True)
    old = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    checkpoint.write({"step": 2, "x": torch.arange(900.0) + 1}, tmp_path, compact=True)
    assert checkpoint.read(tmp_path)["x"][0] == 1
    assert not any((tmp_path / name).exists() for name in old)
    for name, content in old.items():  # as if the writing of the second had been cut off
        (tmp_path / name).write_bytes(content)
    next(iter(tmp_path.glob("checkpoint-00000002-2of*"))).unlink()
    assert checkpoint.read(tmp_path)["step"] == 1


def test_the_rate_warms_up_and_falls():
    recipe = replace(RECIPES["cpu"], warm_up=10)
    stage = recipe.stages[-1]
    rates = [learning_rate(recipe, stage, step) for step in range(stage.steps)]
    assert rates[0] == pytest.approx(stage.rate / 10)
    assert max(rates) == pytest.approx(stage.rate)
    assert rates[-1] < 0.02 * stage.rate
    assert recipe.at(recipe.steps - 1) == (stage, stage.steps - 1)


def test_earlier_blocks_learn_more_slowly():
    network = Network(VARIANTS["nano"], 64)
    module = torch.nn.ModuleDict({"network": network})
    groups = parameter_groups(module, RECIPES["finetune"])
    scale_of = {id(p): group["scale"] for group in groups for p in group["params"]}
    blocks = network.image_encoder.trunk.blocks
    assert scale_of[id(blocks[8].norm1.weight)] == pytest.approx(0.9)
    assert scale_of[id(blocks[0].norm1.weight)] == pytest.approx(0.9**9)
    assert scale_of[id(network.image_encoder.trunk.position)] == pytest.approx(0.9**10)
    assert scale_of[id(network.mask_decoder.iou_token)] == 1
    assert len(scale_of) == len(list(module.parameters()))


@pytest.mark.parametrize("name", ["cpu", "cpu-long", "cpu-clicks", "gpu", "finetune"])
def test_every_stage_of_every_recipe_can_take_a_step(assets, tmp_path, name):
    """At a tiny size, two clips and one step a stage."""
    recipe = adapted(RECIPES[name], length=1e-9, clips=1, size=64)
    run = trainer(assets, tmp_path, recipe=recipe, evaluate_every=100)
    run.train(quiet)
    assert run.step == len(recipe.stages)


def test_what_is_deflated_comes_back():
    for length in (0, 1, 1000, 1001):
        data = torch.randint(256, (length,)).to(torch.uint8).numpy().tobytes()
        assert checkpoint.inflated(checkpoint.deflated(data)) == data
    with pytest.raises(zlib.error):
        checkpoint.inflated(checkpoint.deflated(data)[:-9])
    with pytest.raises(zlib.error, match="larger than it can be"):
        checkpoint.inflated(checkpoint.deflated(bytes(1 << 20)))
