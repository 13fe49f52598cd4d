"""Inspectors in other formats: writing them, running them without TensorFlow, reading them back."""
