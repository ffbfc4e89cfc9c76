"""One file a published method; a file's name is its slug."""
