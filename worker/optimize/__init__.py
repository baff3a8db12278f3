"""Methods that make a model smaller or faster: pure rewriting of networks, then training."""
