"""The HTTP server: requests in, answers out, with its limits on access and size."""
