"""Step 1 of a request's way: from a client's bytes to a request, and a reply back to the client's bytes."""
