"""Questions that mean the same: found by an embedding, served only when verified."""
