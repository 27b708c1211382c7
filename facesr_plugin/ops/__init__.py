"""Pure functions over tensors and arrays: no parameters, files or registries."""
