"""Training: synthetic clips with ground truth, losses, and the loop. Needs the extra ``train``."""
