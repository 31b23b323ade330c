"""Training follows an object as the tracker does."""

import torch

from sam2track import steps
from sam2track.contracts import CONTRACTS, Components
from sam2track.memory import Memory, MemoryBank, MemoryLimits, view
from sam2track.network.variants import VARIANTS, Network
from sam2track.train.clips import make_clips
from sam2track.train.dice import Dice
from sam2track.train.initialise import initialise
from sam2track.train.objective import normalise
from sam2track.train.rollout import Lesson, Remembered, correction, follow, frame_features, make_rows, propagate
from tests.train.material import STYLE


def network():
    made = Network(VARIANTS["nano"], 64)
    initialise(made, 0)
    return made


def memories(net, rows, prompted):
    """Random memories of as many frames as ``prompted`` [frames][rows] tells of."""
    torch.manual_seed(1)
    tokens, pointer = (rows, net.sizes.tokens, net.sizes.memory_width), (rows, net.sizes.width)
    return [Remembered(torch.randn(tokens), torch.randn(pointer), torch.tensor(flags).float()) for flags in prompted]


@torch.no_grad()
def test_propagation_reads_memory_as_the_tracker_does():
    net = network()
    prompted = [[1, 1], [0, 0], [0, 1], *[[0, 0]] * 8]  # eleven frames; the second object is corrected on the third
    past = memories(net, 2, prompted)
    features = net.image_encoder(torch.randn(2, 3, 64, 64))
    _, candidates = propagate(net, features, past)
    modules = {name: getattr(net, name) for name in CONTRACTS}
    components = Components(**modules, sizes=net.sizes, placement={})
    limits = MemoryLimits()
    for row in range(2):
        bank = MemoryBank(limits)
        for step, memory in enumerate(past):
            bank.keep(Memory(step, memory.tokens[row], memory.pointer[row]), bool(prompted[step][row]))
        alone = type(features)(*(maps[row : row + 1] for maps in features))
        fused = net.memory_attention(alone.s16, *view([bank], len(past), limits, net.sizes.width))
        empty = steps.empty_prompt(components)
        expected = net.mask_decoder(fused, alone.s4, alone.s8, *empty)
        assert torch.allclose(candidates.logits[row], expected.logits[0], atol=1e-3)


@torch.no_grad()
def test_a_correction_makes_the_frame_a_prompted_one(assets):
    net = network()
    clips = make_clips(assets, STYLE, 2, 1)
    features = net.image_encoder(normalise(clips.frames.flatten(0, 1)))
    rows = make_rows(clips.labels, torch.tensor([[1, 2], [1, 2]]), torch.ones(2, 2))
    now = frame_features(features, rows.clip, 1, 3)
    masks = rows.masks[:, 1].clone()
    masks[3] = False  # the last row's object cannot be seen
    lesson = Lesson(masks, torch.zeros(4, dtype=torch.bool), torch.tensor([True, False, True, True]))
    decoded, memory = follow(net, now, memories(net, 4, [[1, 1, 1, 1]]), lesson, Dice(0, torch.device("cpu")))
    assert len(decoded) == 2
    expected = [bool(seen) and bool(wanted) for seen, wanted in zip(lesson.present, lesson.corrected, strict=True)]
    assert (memory.prompted > 0).tolist() == expected
    assert True in expected
    assert not torch.allclose(decoded[0].logits[0], decoded[1].logits[0])


def test_a_corrective_click_goes_where_the_mask_is_wrong():
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[:, 16:32, 16:32] = True
    logits = torch.full((2, 1, 16, 16), -5.0)
    logits[1, :, 4:8, 4:8] = 5.0  # right, but for a part too many
    logits[1, :, 12:15, 12:15] = 5.0
    xy, label = correction(Dice(0, masks.device), logits, masks)
    assert label.tolist() == [[1], [0]]
    assert ((xy[0] >= 16) & (xy[0] < 32)).all()
    assert (xy[1] > 44).all()
