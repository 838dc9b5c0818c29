"""The library inside the programs people run it in: real servers, workers, kernels, process pools and signals."""
