"""What synthetic clips look like."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Style:
    """What clips look like. Lengths are in half-frames (the frame reaches from -1 to 1), times in frames.

    Attributes:
        size: pixels a side.
        frames: frames a clip.
        layers: most objects a clip.
        extent: smallest and largest half-size of an object.
        speed: standard deviation of an object's motion a frame.
        turn: standard deviation of its rotation a frame, radians.
        camera: standard deviation of the camera's pan a frame; its zoom changes by as much.
        shaky: share of clips whose camera shakes as much as others' pans.
        textured: share of random shapes filled with photo texture.
        camouflaged: share of those that are filled from the photo behind them.
        twins: share of clips in which one cut-out is there twice.
        parts: layers of a jointed object: a body, and parts that sway.
        jointed: share of the groups of so many layers that are one object.
        leaving: share of objects that leave the frame and come back.
        degrade: strength of light, blur, noise and compression, 0 to 1.
    """

    size: int = 128
    frames: int = 2
    layers: int = 4
    extent: tuple[float, float] = (0.18, 0.7)
    speed: float = 0.08
    turn: float = 0.08
    camera: float = 0.03
    shaky: float = 0.15
    textured: float = 0.3
    camouflaged: float = 0.0
    twins: float = 0.3
    parts: int = 2
    jointed: float = 0.0
    leaving: float = 0.1
    degrade: float = 0.7
