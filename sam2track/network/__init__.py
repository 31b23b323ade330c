"""The network: torch modules that keep no state and touch no files but checkpoints."""
