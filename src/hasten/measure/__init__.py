"""What is seen of every request: metrics and the access log, all views of its trace."""
