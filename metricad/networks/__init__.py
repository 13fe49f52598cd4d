"""Networks that turn images into feature maps: the paper's residual network and the shipped networks."""

SHIPPED = ("accurate", "fast")
"""Names of the shipped networks; the first is the default."""

WITH_IMAGENET = ("imagenet", "joint")
"""Names of the networks with ImageNet features, alone or beside those of the first shipped one."""
