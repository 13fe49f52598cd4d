"""Densities of good features: each is a Keras layer that turns a feature map into a distance map."""
