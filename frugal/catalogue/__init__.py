"""The published systems that the library is built from: one card each."""
