"""The HTTP service that inspects images. Only this package needs FastAPI."""
