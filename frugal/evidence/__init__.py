"""Evidence: comparisons over paired seeds, with intervals and a picture."""
