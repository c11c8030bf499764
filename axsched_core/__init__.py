"""Run an Ax optimisation on whatever machines you have."""
