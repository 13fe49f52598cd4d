"""Networks that turn images into feature maps: the paper's residual network and those that ship."""
