"""Networks that turn images into feature maps: the paper's residual network and those that ship."""

SHIPPED = ("accurate", "fast")
"""Names of the networks that ship, the default one first."""
