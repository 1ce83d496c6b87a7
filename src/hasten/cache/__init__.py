"""Stage 2: never compute twice, never answer wrongly."""
