"""What is seen of every request: metrics and the request log, all views of its trace."""
