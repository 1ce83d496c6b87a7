"""Which tier answers: the smallest model that will do."""
