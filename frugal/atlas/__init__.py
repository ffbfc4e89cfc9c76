"""The atlas: a static site over the catalogue and the results, which opens without server and network."""
