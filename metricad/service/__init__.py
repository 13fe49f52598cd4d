"""The service: parts judged over HTTP. Nothing outside needs FastAPI."""
