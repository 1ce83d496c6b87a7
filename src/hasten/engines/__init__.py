"""Step 6 of a request's way: engines, the models made of them, and the connections to them."""
