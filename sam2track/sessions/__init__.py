"""Sessions over a whole clip: prompts on any frame, tracking in both directions, corrections afterwards."""

from sam2track.sessions.session import Propagation, Session
from sam2track.sessions.tracking import Budget

__all__ = ["Budget", "Propagation", "Session"]
