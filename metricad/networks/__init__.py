"""Networks that turn images into feature maps: the paper's residual network and the shipped networks."""

SHIPPED = ("accurate", "fast")
"""Names of the shipped networks; the first is the default."""
