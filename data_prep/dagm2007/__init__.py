"""DAGM 2007: ten synthetic surfaces with marked defects, in both of its layouts, and its TFDS builder."""
