"""One training run of an image classifier: data, network, optimizer, and the Lightning loop around them."""
