"""Objects without prompts: all masks of a picture, and new objects as a video brings them."""

from sam2track.discovery.masks import DiscoveredMask, DiscoveredMasks
from sam2track.discovery.picture import discover
from sam2track.discovery.rules import DiscoveryRules
from sam2track.discovery.video import Discoverer

__all__ = ["DiscoveredMask", "DiscoveredMasks", "Discoverer", "DiscoveryRules", "discover"]
