"""edgetl: adapt a pretrained network with few samples, and ship it to small or fast machines."""
