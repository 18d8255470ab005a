"""Training loops, samplers and the steps they share."""
